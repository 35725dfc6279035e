//! One connection: requests in, answers out, in order.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Map, Value};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    Login, Shared,
    connection::{Connection, Disconnect, blocking, millis_since},
};
use crate::{
    jobs::{JobNames, JobOptions},
    peers::{Place, later},
    protocol::{Command, ErrorCode, Request, RequestHead, SMALL_PAYLOAD_MAX, encode},
    store::{StoreError, User},
};

/// The code and reason that a request is answered with when it fails.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) code: ErrorCode,
    pub(super) reason: String,
}

impl Rejection {
    pub(super) fn new(code: ErrorCode, reason: impl ToString) -> Self {
        Self {
            code,
            reason: reason.to_string(),
        }
    }
}

/// Why a request fails.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The connection is gone: there is nobody to answer.
    Disconnected(Disconnect),
    /// The request is answered with a code.
    Rejected(Rejection),
}

impl From<Disconnect> for RequestError {
    fn from(disconnect: Disconnect) -> Self {
        Self::Disconnected(disconnect)
    }
}

impl From<Rejection> for RequestError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<StoreError> for RequestError {
    fn from(e: StoreError) -> Self {
        // Details of the database are for the operator.
        tracing::error!("cannot answer a request: {e}");
        Self::Rejected(Rejection::new(
            ErrorCode::Internal,
            if e.is_disk_full() {
                "the server's disk is full"
            } else {
                "the server's database failed"
            },
        ))
    }
}

/// The session of one connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Connection,
    /// Address of the client, behind a trusted proxy as well.
    pub(super) address: IpAddr,
    pub(super) place: Arc<Place>,
    /// User who is logged in, unless the login does not hold any more.
    login: Option<Login>,
    /// Options that command 11 set for the next reconstruction.
    pub(super) options: Option<AskedOptions>,
    /// Fields of the current request's log line.
    pub(super) request_log: RequestLog,
}

/// Options for the next reconstruction of a connection.
#[derive(Debug, Clone)]
pub(super) struct AskedOptions {
    /// As they were asked for.
    pub(super) fields: Map<String, Value>,
    /// With the server's defaults.
    pub(super) options: JobOptions,
    pub(super) names: JobNames,
}

/// Fields of a request's log line in addition to its command.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    pub(super) user: Option<String>,
    pub(super) job: Option<String>,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        connection: Connection,
        address: IpAddr,
        place: Arc<Place>,
    ) -> Self {
        let mut session = Self {
            connection,
            shared,
            address,
            place,
            login: None,
            options: None,
            request_log: RequestLog::default(),
        };
        session.set_login(None);
        session
    }

    /// Answers requests until the peer disconnects or the server stops.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        if let Some(within) = self.shared.settings.session_by_address {
            let login = self.shared.by_address.of(self.address, within).await;
            self.set_login(login);
        }
        // A login that was continued may have ended; if the database fails now, the first request tells.
        let _ = self.user().await;
        loop {
            let head = match self.connection.head(&mut stopped).await {
                Ok(head) => head,
                Err(disconnect) => {
                    tracing::debug!(address = %self.address, "connection ended: {disconnect}");
                    return;
                }
            };
            let start = Instant::now();
            self.request_log = RequestLog::default();
            self.connection.take_sent();
            let done = self.answer_in_time(head).await;
            let outcome = match &done {
                Ok(None) => "ok".to_owned(),
                Ok(Some(rejection)) if rejection.reason.is_empty() => rejection.code.to_string(),
                Ok(Some(rejection)) => format!("{}: {}", rejection.code, rejection.reason),
                Err(disconnect) => disconnect.to_string(),
            };
            self.log(head, millis_since(start), &outcome);
            if done.is_err() {
                return;
            }
        }
    }

    fn log(&mut self, head: RequestHead, duration_ms: u64, outcome: &str) {
        let command = head.command.name();
        let user = self.request_log.user.as_deref().unwrap_or("-");
        let job = self.request_log.job.as_deref().unwrap_or("-");
        let (received, sent) = (head.payload_len, self.connection.take_sent());
        // Reasons may contain text of a peer: control characters must not break the line.
        let outcome: String = outcome
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        tracing::info!(
            job.id = job,
            user,
            received,
            sent,
            duration_ms,
            address = %self.address,
            "{command} by {user}: {outcome}"
        );
    }

    /// As [`Session::answer`], and ends when there was no login in time. A file that is being sent is not cut off.
    async fn answer_in_time(&mut self, head: RequestHead) -> Result<Option<Rejection>, Disconnect> {
        match self.connection.login_by() {
            Some(login_by) if head.command != Command::GetGlb => {
                let answer = timeout_at(login_by, self.answer(head));
                answer.await.unwrap_or(Err(Disconnect::NoLogin))
            }
            _ => self.answer(head).await,
        }
    }

    /// Answers one request; returns the rejection, if there was one, for the log.
    async fn answer(&mut self, head: RequestHead) -> Result<Option<Rejection>, Disconnect> {
        // Bytes of the payload that are not read yet.
        let mut left = u64::from(head.payload_len);
        let answered = match head.command {
            Command::Images | Command::Video | Command::Submit => {
                self.reconstruct(head, &mut left).await
            }
            Command::Unknown(byte) => Err(Rejection::new(
                ErrorCode::UnknownCommand,
                format!("there is no command {byte}"),
            )
            .into()),
            _ if head.payload_len > SMALL_PAYLOAD_MAX => Err(Rejection::new(
                too_long(head.command),
                format!("the payload is longer than {SMALL_PAYLOAD_MAX} bytes"),
            )
            .into()),
            command => {
                let payload = self.connection.small_payload(head.payload_len).await?;
                left = 0;
                match Request::parse(command, &payload) {
                    Ok(request) => self.answer_small(request).await,
                    Err(e) => Err(Rejection::new(e.code(command), e).into()),
                }
            }
        };
        match answered {
            Ok(()) => Ok(None),
            Err(RequestError::Disconnected(disconnect)) => Err(disconnect),
            Err(RequestError::Rejected(mut rejection)) => {
                rejection.code = as_version_1(head.command, rejection.code);
                let reply = encode::error_reply(head.command, rejection.code, &rejection.reason);
                self.connection.send(&reply).await?;
                self.connection.skip(left).await?;
                Ok(Some(rejection))
            }
        }
    }

    /// Notes who is logged in. Without a login the connection has a limited time for one.
    pub(super) fn set_login(&mut self, login: Option<Login>) {
        self.place.set_logged_in(login.is_some());
        if login.is_some() {
            self.connection.set_login_by(None);
        } else if self.connection.login_by().is_none() {
            let timeout = self.shared.peers.login.timeout;
            let login_by = later(Instant::now(), timeout);
            self.connection.set_login_by(Some(login_by));
        }
        self.login = login;
    }

    /// Notes who has logged in on this connection, or that a login failed, and lets further connections from this address continue
    /// it where that is allowed.
    pub(super) async fn note_login(&mut self, user: Option<&User>) -> Result<(), RequestError> {
        self.set_login(user.map(Login::of));
        let Some(within) = self.shared.settings.session_by_address else {
            return Ok(());
        };
        let noted = self
            .shared
            .by_address
            .note(self.address, user, within)
            .await;
        if noted.is_err() {
            // The next connection may continue an earlier login: this one failed.
            self.set_login(None);
        }
        noted
    }

    /// Returns the user who is logged in now. The login ends when the user is removed or disabled or gets another password.
    pub(super) async fn user(&mut self) -> Result<Option<User>, RequestError> {
        let Some(login) = self.login.clone() else {
            return Ok(None);
        };
        let store = self.shared.store.clone();
        let user = blocking(move || store.user_of_session(login.user_id, &login.stamp)).await??;
        match &user {
            Some(user) => {
                self.request_log.user = Some(user.username.clone());
                self.login = Some(Login::of(user));
            }
            None => self.set_login(None),
        }
        Ok(user)
    }

    /// As [`Session::user`], and an error when nobody is logged in.
    pub(super) async fn logged_in(&mut self) -> Result<User, RequestError> {
        let user = self.user().await?;
        user.ok_or_else(|| Rejection::new(ErrorCode::NotLoggedIn, "log in first").into())
    }
}

fn too_long(command: Command) -> ErrorCode {
    match command {
        Command::GetGlb => ErrorCode::InvalidHash,
        _ => ErrorCode::BadRequest,
    }
}

/// Maps the code of an internal error to one of version 1 for commands 2 and 3, which have no code for it.
fn as_version_1(command: Command, code: ErrorCode) -> ErrorCode {
    match (command, code) {
        (Command::Images, ErrorCode::Internal) => ErrorCode::ImageRequest,
        (Command::Video, ErrorCode::Internal) => ErrorCode::VideoRequest,
        _ => code,
    }
}
