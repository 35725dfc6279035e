//! One connection: requests in, answers out, in order.

use std::{net::IpAddr, sync::Arc};

use tokio::{net::TcpStream, sync::watch, time::Instant};

use super::{
    Shared,
    connection::{Connection, Gone, blocking, millis_since},
};
use crate::{
    jobs::JobOptions,
    protocol::{Command, ErrorCode, Request, RequestHead, SMALL_PAYLOAD_MAX, encode},
    store::{StoreError, User},
};

/// A request that gets a code instead of what it wanted.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    pub(super) reason: String,
}

impl Refused {
    pub(super) fn new(code: ErrorCode, reason: impl ToString) -> Self {
        Self {
            code,
            reason: reason.to_string(),
        }
    }
}

/// Why a request has no answer of its kind.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is nobody to answer.
    Gone(Gone),
    /// There is a code.
    Refused(Refused),
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        // What the database says is for the operator.
        tracing::error!("cannot answer a request: {e}");
        Self::Refused(Refused::new(
            ErrorCode::Internal,
            if e.is_disk_full() {
                "the server's disk is full"
            } else {
                "the server's database failed"
            },
        ))
    }
}

/// One peer and what is known of it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Connection,
    pub(super) address: IpAddr,
    /// Who logged in.
    pub(super) user_id: Option<i32>,
    /// What command 11 set for the next reconstruction.
    pub(super) options: Option<JobOptions>,
    /// What the log says of the request.
    pub(super) told: Told,
}

/// What the log says of a request beside its command.
#[derive(Debug, Default)]
pub(super) struct Told {
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
            told: Told::default(),
        }
    }

    /// Answers requests until the peer goes or the server stops.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let head = match self.connection.head(&mut stopped).await {
                Ok(head) => head,
                Err(gone) => {
                    tracing::debug!(address = %self.address, "connection ended: {gone}");
                    return;
                }
            };
            let start = Instant::now();
            self.told = Told::default();
            self.connection.take_sent();
            let done = self.answer(head).await;
            let outcome = match &done {
                Ok(None) => "ok".to_owned(),
                Ok(Some(refused)) if refused.reason.is_empty() => refused.code.to_string(),
                Ok(Some(refused)) => format!("{}: {}", refused.code, refused.reason),
                Err(gone) => gone.to_string(),
            };
            self.log(head, millis_since(start), &outcome);
            if done.is_err() {
                return;
            }
        }
    }

    fn log(&mut self, head: RequestHead, duration_ms: u64, outcome: &str) {
        let command = head.command.name();
        let user = self.told.user.as_deref().unwrap_or("-");
        let job = self.told.job.as_deref().unwrap_or("-");
        let (received, sent) = (head.payload_len, self.connection.take_sent());
        // Reasons hold what a peer sent at times; a line stays a line.
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

    /// Answers one request; the refusal, if it was one, is for the log.
    async fn answer(&mut self, head: RequestHead) -> Result<Option<Refused>, Gone> {
        // What is left of the payload when the answer is known.
        let mut left = u64::from(head.payload_len);
        let answered = match head.command {
            Command::Images | Command::Video | Command::Submit => {
                self.reconstruct(head, &mut left).await
            }
            Command::Unknown(byte) => Err(Refused::new(
                ErrorCode::UnknownCommand,
                format!("there is no command {byte}"),
            )
            .into()),
            _ if head.payload_len > SMALL_PAYLOAD_MAX => Err(Refused::new(
                too_long(head.command),
                format!("the payload is longer than {SMALL_PAYLOAD_MAX} bytes"),
            )
            .into()),
            command => {
                let payload = self.connection.small_payload(head.payload_len).await?;
                left = 0;
                match Request::parse(command, &payload) {
                    Ok(request) => self.answer_small(request).await,
                    Err(e) => Err(Refused::new(e.code(command), e).into()),
                }
            }
        };
        match answered {
            Ok(()) => Ok(None),
            Err(Failure::Gone(gone)) => Err(gone),
            Err(Failure::Refused(mut refused)) => {
                refused.code = of_version_1(head.command, refused.code);
                let reply = encode::error_reply(head.command, refused.code, &refused.reason);
                self.connection.send(&reply).await?;
                self.connection.skip(left).await?;
                Ok(Some(refused))
            }
        }
    }

    /// Who is logged in, as of now: a user who was disabled or removed meanwhile is not.
    pub(super) async fn user(&mut self) -> Result<Option<User>, Failure> {
        let Some(id) = self.user_id else {
            return Ok(None);
        };
        let store = self.shared.store.clone();
        let user = blocking(move || store.user_by_id(id)).await??;
        let user = user.filter(|user| user.active);
        match &user {
            Some(user) => self.told.user = Some(user.username.clone()),
            None => self.user_id = None,
        }
        Ok(user)
    }

    /// As [`Session::user`], for what only users may do.
    pub(super) async fn logged_in(&mut self) -> Result<User, Failure> {
        let user = self.user().await?;
        user.ok_or_else(|| Refused::new(ErrorCode::NotLoggedIn, "log in first").into())
    }
}

fn too_long(command: Command) -> ErrorCode {
    match command {
        Command::GetGlb => ErrorCode::InvalidHash,
        _ => ErrorCode::BadRequest,
    }
}

/// Commands 2 and 3 know no code for the server's own faults.
fn of_version_1(command: Command, code: ErrorCode) -> ErrorCode {
    match (command, code) {
        (Command::Images, ErrorCode::Internal) => ErrorCode::ImageRequest,
        (Command::Video, ErrorCode::Internal) => ErrorCode::VideoRequest,
        _ => code,
    }
}
