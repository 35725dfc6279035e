//! Replies to all requests that are not uploads.

use serde_json::{Value, json};

use super::{
    connection::{Disconnect, blocking},
    session::{AskedOptions, Rejection, RequestError, Session},
};
use crate::{
    jobs::{JobNames, JobState, JobStatus, ListedJob, Load, RerunError, SubmitError},
    peers::Block,
    protocol::{
        ErrorCode, FileEntry, FileList, FilePage, Hash, JobEntry, JobPage, JobStateReply,
        JobStatusReply, LoginRequest, PAGE_MAX, PROTOCOL_VERSION, PageRequest,
        ReconstructionOptions, Request, ServerInfo, ServerLimits, encode,
    },
    store::{GlbFile, Store, StoreError, StoredFile},
};

/// An open stored file and its length.
pub(super) struct OpenFile {
    pub(super) hash: Hash,
    pub(super) file: StoredFile,
    pub(super) len: u32,
}

impl Session {
    pub(super) async fn answer_small(&mut self, request: Request) -> Result<(), RequestError> {
        let reply = match request {
            Request::Login(login) => self.log_in(login).await?,
            Request::GetGlb(hash) => return self.get(hash).await,
            Request::List => self.list().await?,
            Request::Delete(hash) => self.delete(hash).await?,
            Request::SetPublic { hash, public } => self.set_public(hash, public).await?,
            Request::Status(job) => self.job(job, false).await?,
            Request::Cancel(job) => self.job(job, true).await?,
            Request::Options(options) => self.set_options(&options).await?,
            Request::Page(page) => self.page(page).await?,
            Request::Jobs(page) => self.jobs(page).await?,
            Request::Rerun(job) => self.rerun(job).await?,
            Request::Info => {
                let user = self.user().await?;
                let jobs = self.shared.jobs.clone();
                let load = match user {
                    Some(_) => blocking(move || jobs.load()).await?,
                    None => Load::default(),
                };
                encode::json_reply(&self.info(load))
            }
        };
        Ok(self.connection.send(&reply).await?)
    }

    async fn log_in(&mut self, login: LoginRequest) -> Result<Vec<u8>, RequestError> {
        let shared = self.shared.clone();
        let block = Block::of(self.address);
        let store = shared.store.clone();
        let (login, known) = blocking(move || {
            let known = store.knows_address(&login.name, &block.to_string());
            (login, known)
        })
        .await?;
        let known = known?;
        let turn = tokio::select! {
            turn = shared.peers.guard.admit(&login.name, block, known) => turn,
            () = self.connection.gone() => return Err(Disconnect::Lost.into()),
        };
        let Some(turn) = turn else {
            // A failed login ends the previous one, so that nobody continues as another user by mistake.
            self.set_login(None);
            return Err(Rejection::new(
                ErrorCode::NotLoggedIn,
                "too many wrong passwords; try again later",
            )
            .into());
        };
        let store = shared.store.clone();
        let checked = blocking(move || store.login(&login.name, &login.password)).await?;
        // A failure of the database is not one of the user.
        turn.end(!matches!(checked, Ok(None))).await;
        let user = checked?;
        self.note_login(user.as_ref()).await?;
        let Some(user) = user else {
            return Err(Rejection::new(ErrorCode::NotLoggedIn, "wrong name or password").into());
        };
        self.remember_address(user.id);
        self.request_log.user = Some(user.username);
        Ok(encode::login_reply(true, user.is_vip))
    }

    /// Remembers from where the user has logged in, on another thread: neither the reply nor the next request waits for the
    /// disk.
    fn remember_address(&self, user_id: i32) {
        let store = self.shared.store.clone();
        let block = Block::of(self.address).to_string();
        tokio::task::spawn_blocking(move || {
            // The login is as good without it.
            if let Err(e) = store.remember_address(user_id, &block) {
                tracing::warn!("cannot remember from where user {user_id} logged in: {e}");
            }
        });
    }

    async fn get(&mut self, hash: Hash) -> Result<(), RequestError> {
        let user = self.user().await?;
        let open_get = self.shared.settings.open_get;
        let store = self.shared.store.clone();
        let jobs = self.shared.jobs.clone();
        let glb = blocking(move || {
            let user = user.map(|user| user.id);
            let preview = match user {
                Some(user) => jobs.preview(user, hash.as_str())?,
                None => None,
            };
            if let Some(file) = preview {
                let len = u32::try_from(file.len());
                let len = len.map_err(|_| Rejection::new(ErrorCode::HashNotFound, ""))?;
                return Ok(OpenFile { hash, file, len });
            }
            let row = store.find_glb(hash.as_str())?.filter(|row| {
                let owned = user == Some(row.user_id);
                owned || row.is_public || open_get
            });
            match row {
                Some(row) => open(&store, &row),
                // The same answer for another user's file and for none, so that hashes cannot be probed.
                None => Err(Rejection::new(ErrorCode::HashNotFound, "").into()),
            }
        })
        .await??;
        self.place.set_sending(true);
        self.connection.send(&encode::blob_head(glb.len)).await?;
        self.connection.send_file(glb.file, glb.len.into()).await?;
        self.place.set_sending(false);
        Ok(())
    }

    async fn list(&mut self) -> Result<Vec<u8>, RequestError> {
        let user = self.logged_in().await?;
        let store = self.shared.store.clone();
        let rows = blocking(move || store.page_of_glbs(user.id, None, PAGE_MAX + 1)).await??;
        let more = rows.len() > PAGE_MAX as usize;
        let newest = rows.into_iter().take(PAGE_MAX as usize);
        let files: Vec<FileEntry> = newest.filter_map(entry).collect();
        Ok(match more {
            false => encode::json_reply(&FileList { files }),
            true => encode::json_reply(&json!({"files": files, "more": true})),
        })
    }

    async fn page(&mut self, page: PageRequest) -> Result<Vec<u8>, RequestError> {
        let user = self.logged_in().await?;
        let store = self.shared.store.clone();
        let limit = page.limit.filter(|n| *n > 0).unwrap_or(PAGE_MAX);
        let limit = limit.min(PAGE_MAX);
        let rows = blocking(move || store.page_of_glbs(user.id, page.before, limit)).await??;
        let next = rows.last().filter(|_| rows.len() == limit as usize);
        let next = next.map(|row| row.id.into());
        let files = rows.into_iter().filter_map(entry).collect();
        Ok(encode::json_reply(&FilePage { files, next }))
    }

    async fn jobs(&mut self, page: PageRequest) -> Result<Vec<u8>, RequestError> {
        let user = self.logged_in().await?;
        let jobs = self.shared.jobs.clone();
        let limit = page.limit.filter(|n| *n > 0).unwrap_or(PAGE_MAX);
        let limit = limit.min(PAGE_MAX);
        let listed = blocking(move || jobs.page(user.id, page.before, limit)).await??;
        let next = listed.last().filter(|_| listed.len() == limit as usize);
        let next = next.map(|job| job.id);
        let jobs = listed.into_iter().map(job_entry).collect();
        Ok(encode::json_reply(&JobPage { jobs, next }))
    }

    async fn delete(&mut self, hash: Hash) -> Result<Vec<u8>, RequestError> {
        let user = self.logged_in().await?;
        let store = self.shared.store.clone();
        let name = hash.to_string();
        let deleted = blocking(move || store.delete_glb(user.id, &name)).await??;
        if !deleted {
            return Err(Rejection::new(ErrorCode::HashNotFound, "you have no such file").into());
        }
        Ok(encode::json_reply(&json!({"hash": hash, "deleted": true})))
    }

    async fn set_public(&mut self, hash: Hash, public: bool) -> Result<Vec<u8>, RequestError> {
        let user = self.logged_in().await?;
        let store = self.shared.store.clone();
        let name = hash.to_string();
        let changed = blocking(move || store.set_public(user.id, &name, public)).await??;
        if !changed {
            return Err(Rejection::new(ErrorCode::HashNotFound, "you have no such file").into());
        }
        Ok(encode::json_reply(&json!({"hash": hash, "public": public})))
    }

    async fn job(&mut self, id: i64, cancel: bool) -> Result<Vec<u8>, RequestError> {
        let user = self.logged_in().await?;
        self.request_log.job = Some(id.to_string());
        let jobs = self.shared.jobs.clone();
        let status = blocking(move || {
            if cancel {
                jobs.cancel(user.id, id)
            } else {
                jobs.status(user.id, id)
            }
        })
        .await??;
        let Some(status) = status else {
            return Err(Rejection::new(ErrorCode::JobNotFound, "you have no such job").into());
        };
        Ok(job_reply(id, status))
    }

    async fn rerun(&mut self, id: i64) -> Result<Vec<u8>, RequestError> {
        let user = self.logged_in().await?;
        let (fields, names) = match self.options.take() {
            Some(asked) => (asked.fields, asked.names),
            None => Default::default(),
        };
        let (jobs, user_id) = (self.shared.jobs.clone(), user.id);
        let (id, status) = blocking(move || {
            let id = jobs.rerun(user, id, &fields, names)?;
            Ok::<_, RerunError>((id, jobs.status(user_id, id).map_err(SubmitError::Store)?))
        })
        .await?
        .map_err(|e| match e {
            RerunError::NoJob => Rejection::new(ErrorCode::JobNotFound, "you have no such job"),
            RerunError::Submit(SubmitError::Store(e)) => {
                tracing::error!("cannot take a job: {e}");
                Rejection::new(ErrorCode::Internal, "the server could not take the job")
            }
            e => Rejection::new(ErrorCode::BadRequest, e),
        })?;
        self.request_log.job = Some(id.to_string());
        Ok(job_reply(id, status.unwrap_or_else(JobStatus::queued)))
    }

    async fn set_options(
        &mut self,
        asked: &ReconstructionOptions,
    ) -> Result<Vec<u8>, RequestError> {
        self.logged_in().await?;
        let refused = |e| Rejection::new(ErrorCode::BadRequest, e);
        let settings = self.shared.jobs.settings();
        let mut fields = asked.fields.clone();
        let names = JobNames::take(&mut fields).map_err(refused)?;
        let options = settings.options.with_request(&fields).map_err(refused)?;
        options.check(settings).map_err(refused)?;
        let reply = encode::json_reply(&options);
        self.options = Some(AskedOptions {
            fields,
            options,
            names,
        });
        Ok(reply)
    }

    /// The counts are zero without a login: they would tell a stranger the moment at which a job ends, from which the hash of
    /// its result can be guessed.
    fn info(&self, load: Load) -> ServerInfo {
        let jobs = &self.shared.jobs;
        let settings = jobs.settings();
        let limits = &self.shared.peers.limits;
        ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            model: jobs.model().to_owned(),
            device: jobs.device(),
            queued: load.queued as u32,
            running: load.running as u32,
            limits: ServerLimits {
                upload_bytes: limits.upload_bytes,
                images: limits.images,
                queue: settings.queue as u32,
                queue_per_user: settings.queue_per_user as u32,
            },
        }
    }
}

/// Opens a stored file. Blocks.
pub(super) fn open(store: &Store, row: &GlbFile) -> Result<OpenFile, RequestError> {
    let missing = || Rejection::new(ErrorCode::FileMissing, "");
    let (file, len) = store.open_glb(row).map_err(|e| match e {
        StoreError::Bucket(e) if e.is_passing() => StoreError::Bucket(e).into(),
        e => {
            tracing::error!("cannot send the file of {}: {e}", row.hashed_name);
            RequestError::from(missing())
        }
    })?;
    Ok(OpenFile {
        hash: row.hashed_name.parse().map_err(|_| missing())?,
        file,
        len,
    })
}

fn entry(row: GlbFile) -> Option<FileEntry> {
    Some(FileEntry {
        hash: row.hashed_name.parse().ok()?,
        name: row.original_name,
        size: row.file_size,
        created_at: row.created_at.map(|t| t.to_string()).unwrap_or_default(),
        public: row.is_public,
    })
}

/// Encodes the reply to commands 8, 9 and 10.
pub(super) fn job_reply(job: i64, status: JobStatus) -> Vec<u8> {
    encode::json_reply(&status_reply(job, status))
}

fn job_entry(job: ListedJob) -> JobEntry {
    JobEntry {
        status: status_reply(job.id, job.status),
        name: job.name,
        created_at: job.created_at.map(|t| t.to_string()).unwrap_or_default(),
        finished_at: job.finished_at.map(|t| t.to_string()),
    }
}

fn status_reply(job: i64, status: JobStatus) -> JobStatusReply {
    let JobStatus { state, warnings } = status;
    let warnings = warnings.into_iter().map(Value::Object);
    let warnings = warnings.filter_map(|warning| serde_json::from_value(warning).ok());
    let state = match state {
        JobState::Queued { ahead } => JobStateReply::Queued {
            ahead: ahead as u32,
        },
        JobState::Running {
            stage,
            fraction,
            seconds_left,
            preview,
        } => JobStateReply::Running {
            stage: stage.to_owned(),
            fraction,
            seconds_left,
            preview: preview.and_then(|hash| hash.parse().ok()),
        },
        JobState::Done { hash } => match hash.parse() {
            Ok(hash) => JobStateReply::Done { hash },
            Err(_) => JobStateReply::Failed {
                reason: "the stored result has no usable hash".to_owned(),
            },
        },
        JobState::Failed { reason } => JobStateReply::Failed { reason },
        JobState::Cancelled => JobStateReply::Cancelled,
    };
    JobStatusReply {
        job,
        state,
        warnings: warnings.collect(),
    }
}
