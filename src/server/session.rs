//! One connection: requests in, answers out, in order.

use std::{net::IpAddr, sync::Arc};

use tokio::{net::TcpStream, sync::watch, time::Instant};

use super::{
    Shared,
    connection::{Connection, Disconnect, blocking, millis_since},
};
use crate::{
    jobs::JobOptions,
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
    pub(super) address: IpAddr,
    /// User who is logged in.
    pub(super) user_id: Option<i32>,
    /// Options that command 11 set for the next reconstruction.
    pub(super) options: Option<JobOptions>,
    /// Fields of the current request's log line.
    pub(super) request_log: RequestLog,
}

/// Fields of a request's log line in addition to its command.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    pub(super) user: Option<String>,
    pub(super) job: Option<String>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, stream: TcpStream, address: IpAddr) -> Self {
        let user_id = shared
            .settings
            .session_by_address
            .and_then(|within| shared.by_address.of(address, within));
        Self {
            connection: Connection::new(stream, shared.settings.limits.clone()),
            shared,
            address,
            user_id,
            options: None,
            request_log: RequestLog::default(),
        }
    }

    /// Answers requests until the peer disconnects or the server stops.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
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
            let done = self.answer(head).await;
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

    /// Returns the user who is logged in now: one who was disabled or removed in the meantime is not.
    pub(super) async fn user(&mut self) -> Result<Option<User>, RequestError> {
        let Some(id) = self.user_id else {
            return Ok(None);
        };
        let store = self.shared.store.clone();
        let user = blocking(move || store.user_by_id(id)).await??;
        let user = user.filter(|user| user.active);
        match &user {
            Some(user) => self.request_log.user = Some(user.username.clone()),
            None => self.user_id = None,
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
