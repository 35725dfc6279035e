//! Commands 2, 3 and 8: an upload, then a job.

use std::time::{Duration, SystemTime};

use super::{
    answers::{job_reply, open},
    connection::{CHUNK, Disconnect, blocking},
    session::{Rejection, RequestError, Session},
    upload::{Received, Upload, UploadError},
};
use crate::{
    jobs::{self, JobNames, JobRequest, JobState, JobStatus, JobTicket, QuotaError, SubmitError},
    protocol::{Command, ErrorCode, RequestHead, SubmitKind, encode},
    store::User,
};

/// How often a job that a connection waits for looks whether its login still holds.
const LOGIN_CHECK: Duration = Duration::from_secs(2);

impl Session {
    /// `left` counts the bytes of the payload that are not read yet, so that the caller can skip them.
    pub(super) async fn reconstruct(
        &mut self,
        head: RequestHead,
        left: &mut u64,
    ) -> Result<(), RequestError> {
        let user = self.logged_in().await?;
        let durable = head.command == Command::Submit;
        let max = self.shared.peers.limits.upload_bytes;
        if *left > max {
            let reason = format!("the upload has {left} bytes, at most {max} are taken");
            return Err(Rejection::new(code(head.command, None), reason).into());
        }
        let kind = match head.command {
            Command::Images => SubmitKind::Images,
            Command::Video => SubmitKind::Video,
            _ => self.submit_kind(left).await?,
        };
        let code = code(head.command, Some(kind));
        let upload = self.begin_upload(&user, *left, code).await?;
        let mut received = self.receive(kind, durable, code, left).await?;
        received.folder.count(upload);
        // The upload may have taken hours, in which the login may have ended.
        let user = self.same(user.id).await?;
        let user_id = user.id;
        let defaults = &self.shared.jobs.settings().options;
        let (options, names) = match self.options.take() {
            Some(asked) => (asked.options, asked.names),
            None => (defaults.clone(), JobNames::default()),
        };
        let request = JobRequest {
            original_name: names.original_name(received.kind, SystemTime::now()),
            names,
            user,
            kind: received.kind,
            folder: received.folder,
            input_sha256: received.sha256,
            options,
        };
        let jobs = self.shared.jobs.clone();
        let refused = move |e: SubmitError| {
            if let SubmitError::Store(_) | SubmitError::Input(_) = e {
                tracing::error!("cannot take a job: {e}");
                return Rejection::new(code, "the server could not keep the upload");
            }
            Rejection::new(code, e)
        };
        if durable {
            let (id, status) = blocking(move || -> Result<_, SubmitError> {
                let id = jobs.submit_durable(request)?;
                let status = jobs.status(user_id, id)?;
                Ok((id, status.unwrap_or_else(JobStatus::queued)))
            })
            .await?
            .map_err(refused)?;
            self.request_log.job = Some(id.to_string());
            return Ok(self.connection.send(&job_reply(id, status)).await?);
        }
        let ticket = blocking(move || jobs.submit(request))
            .await?
            .map_err(refused)?;
        self.request_log.job = Some(ticket.id().to_string());
        let hash = self.wait(&ticket, user_id, code).await?;
        self.send_result(hash, user_id, code).await
    }

    /// Returns the user that a request began with, and an error when that login has ended.
    async fn same(&mut self, user_id: i32) -> Result<User, RequestError> {
        let user = self.logged_in().await?;
        if user.id != user_id {
            return Err(Rejection::new(ErrorCode::NotLoggedIn, "log in first").into());
        }
        Ok(user)
    }

    /// Counts an upload before it is read; refuses it where the user or the disk has no room for it.
    async fn begin_upload(
        &self,
        user: &User,
        bytes: u64,
        code: ErrorCode,
    ) -> Result<jobs::Upload, RequestError> {
        let (jobs, user_id) = (self.shared.jobs.clone(), user.id);
        let begun = blocking(move || jobs.begin_upload(user_id, bytes)).await?;
        begun.map_err(|e| match e {
            QuotaError::Store(e) => e.into(),
            e => Rejection::new(code, e).into(),
        })
    }

    /// Reads the first byte of a submitted payload.
    async fn submit_kind(&mut self, left: &mut u64) -> Result<SubmitKind, RequestError> {
        if *left == 0 {
            return Err(Rejection::new(ErrorCode::BadRequest, "the payload is empty").into());
        }
        let mut kind = [0];
        let mut pace = self.connection.pace();
        self.connection.fill(&mut kind, &mut pace).await?;
        *left -= 1;
        SubmitKind::try_from(kind[0]).map_err(|e| Rejection::new(ErrorCode::BadRequest, e).into())
    }

    /// Writes the payload to disk through one buffer, whatever its length.
    async fn receive(
        &mut self,
        kind: SubmitKind,
        durable: bool,
        code: ErrorCode,
        left: &mut u64,
    ) -> Result<Received, RequestError> {
        let refused = move |e: UploadError| {
            if let UploadError::Disk(e) = &e {
                tracing::error!("cannot keep an upload: {e}");
                return Rejection::new(code, "the server could not keep the upload");
            }
            Rejection::new(code, e)
        };
        let store = self.shared.store.clone();
        let images = self.shared.peers.limits.images;
        // The head holds the length in 32 bits.
        let len = *left as u32;
        let mut upload = blocking(move || Upload::begin(&store, kind, len, images, durable))
            .await?
            .map_err(refused)?;
        let mut buffer = vec![0; (CHUNK as u64).min(*left) as usize];
        let mut pace = self.connection.pace();
        while *left > 0 {
            let n = (buffer.len() as u64).min(*left) as usize;
            self.connection.fill(&mut buffer[..n], &mut pace).await?;
            *left -= n as u64;
            let taken;
            (upload, buffer, taken) = blocking(move || {
                let taken = upload.take(&buffer[..n]);
                (upload, buffer, taken)
            })
            .await?;
            if let Err(e) = taken {
                blocking(move || drop(upload)).await?;
                return Err(refused(e).into());
            }
        }
        Ok(blocking(move || upload.finish()).await?.map_err(refused)?)
    }

    /// Waits for the job, which is cancelled when the client is gone or its login has ended.
    async fn wait(
        &mut self,
        ticket: &JobTicket,
        user_id: i32,
        code: ErrorCode,
    ) -> Result<String, RequestError> {
        let mut states = ticket.watch();
        let ended = loop {
            let end = async { states.wait_for(JobState::is_final).await.map(|s| s.clone()) };
            tokio::select! {
                ended = end => break ended,
                () = self.connection.gone() => return Err(Disconnect::Lost.into()),
                () = tokio::time::sleep(LOGIN_CHECK) => {}
            }
            match self.same(user_id).await {
                Err(RequestError::Rejected(e)) if e.code == ErrorCode::NotLoggedIn => {
                    return Err(e.into());
                }
                // A database that fails now may answer when the job is done.
                _ => {}
            }
        };
        let ended = ended.map_err(|_| Disconnect::Failed("the queue is gone".to_owned()))?;
        // Also where it failed: a job of a user who is gone does.
        self.same(user_id).await?;
        match ended {
            JobState::Done { hash } => Ok(hash),
            JobState::Failed { reason } => Err(Rejection::new(code, reason).into()),
            _ => Err(Rejection::new(code, "cancelled").into()),
        }
    }

    async fn send_result(
        &mut self,
        hash: String,
        user_id: i32,
        code: ErrorCode,
    ) -> Result<(), RequestError> {
        let store = self.shared.store.clone();
        let glb = blocking(move || match store.find_glb_of(user_id, &hash)? {
            Some(row) => open(&store, &row),
            None => Err(Rejection::new(code, "the result was deleted in the meantime").into()),
        })
        .await?
        .map_err(|e| match e {
            // The codes of stored files are not among those of a reconstruction.
            RequestError::Rejected(rejection) if rejection.code != code => {
                Rejection::new(code, "the result cannot be read").into()
            }
            e => e,
        })?;
        let head = encode::named_glb_head(&glb.hash, glb.len);
        self.connection.send(&head).await?;
        Ok(self.connection.send_file(glb.file, glb.len.into()).await?)
    }
}

fn code(command: Command, kind: Option<SubmitKind>) -> ErrorCode {
    match (command, kind) {
        (Command::Video, _) | (Command::Submit, Some(SubmitKind::Video)) => ErrorCode::VideoRequest,
        (Command::Submit, None) => ErrorCode::BadRequest,
        _ => ErrorCode::ImageRequest,
    }
}
