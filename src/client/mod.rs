//! A client of `vggt serve` and of the older service.
//!
//! A [`Client`] is one connection; requests are answered one after the other. Images and videos are streamed from disk
//! and a GLB to a writer, so memory stays small whatever their size. Every wait has a limit, see [`ClientSettings`].

mod connection;
mod error;
mod upload;

use std::{io::Write, path::Path, time::Duration};

pub use self::error::ClientError;
use self::{connection::Connection, upload::Upload};
use crate::{
    protocol::{
        ErrorCode, FileEntry, FileList, FilePage, Hash, JobPage, JobStatusReply, LoginRequest,
        PageRequest, ReconstructionOptions, Request, ServerInfo,
    },
    resolver::Resolver,
};

/// Timeouts of a client, and the resolver of the server's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSettings {
    /// Timeout of a connection attempt.
    pub connect: Duration,
    /// Timeout of the next bytes sent or received, except the first of a reconstruction.
    pub idle: Duration,
    /// Timeout of the first byte of a reconstruction's reply, which includes the queue.
    pub reconstruction: Duration,
    /// Resolver of the server's host name.
    pub resolver: Resolver,
}

impl Default for ClientSettings {
    /// Returns 10 s, 60 s, and the ten minutes that older clients wait.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            reconstruction: Duration::from_secs(600),
            resolver: Resolver::default(),
        }
    }
}

/// A GLB that was reconstructed, stored and received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedGlb {
    /// Hash for [`Client::get`].
    pub hash: Hash,
    /// Size of the GLB in bytes.
    pub bytes: u64,
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// When there is no server or it does not answer in time.
    pub async fn connect(
        host: &str,
        port: u16,
        settings: ClientSettings,
    ) -> Result<Self, ClientError> {
        let connection = Connection::open(host, port, settings).await?;
        Ok(Self { connection })
    }

    /// Logs in; returns true for a VIP.
    ///
    /// # Errors
    /// [`ClientError::LoginRefused`], or when the connection fails.
    pub async fn login(&mut self, name: &str, password: &str) -> Result<bool, ClientError> {
        let request = Request::Login(LoginRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        });
        match self.connection.ask(&request).await? {
            (true, is_vip) => Ok(is_vip),
            (false, _) => Err(ClientError::LoginRefused {
                name: name.to_owned(),
            }),
        }
    }

    /// Sends images for a reconstruction and writes the GLB to `out`, with calls that block.
    ///
    /// # Errors
    /// When an image cannot be read, the server refuses, the connection or `out` fails.
    pub async fn images<P: AsRef<Path>>(
        &mut self,
        paths: &[P],
        out: &mut impl Write,
    ) -> Result<ReceivedGlb, ClientError> {
        let upload = Upload::images(paths, false).await?;
        self.reconstruct(upload, out).await
    }

    /// Sends a video for a reconstruction and writes the GLB to `out`, with calls that block.
    ///
    /// # Errors
    /// As [`Client::images`].
    pub async fn video(
        &mut self,
        path: &Path,
        out: &mut impl Write,
    ) -> Result<ReceivedGlb, ClientError> {
        let upload = Upload::video(path, false).await?;
        self.reconstruct(upload, out).await
    }

    /// Fetches a stored GLB to `out`, with calls that block; returns its size.
    ///
    /// # Errors
    /// When the server refuses, the connection or `out` fails.
    pub async fn get(&mut self, hash: &Hash, out: &mut impl Write) -> Result<u64, ClientError> {
        self.connection.get(hash, out).await
    }

    /// Returns the newest files of the user, newest first: as many as the server sends at once. [`Client::page`] has all.
    ///
    /// # Errors
    /// When the server refuses or the connection fails; an older server only knows the first four commands. The same
    /// holds for all methods below.
    pub async fn list(&mut self) -> Result<Vec<FileEntry>, ClientError> {
        let list: FileList = self.connection.ask(&Request::List).await?;
        Ok(list.files)
    }

    /// Returns a page of the files of the user, newest first: the first one for `None`, else the one that `next` of the page
    /// before leads to. A server without pages returns all files in one.
    ///
    /// # Errors
    /// As [`Client::list`]; also when the server sends pages without an end.
    pub async fn page(&mut self, before: Option<i64>) -> Result<FilePage, ClientError> {
        let request = PageRequest {
            before,
            limit: None,
        };
        let page: Result<FilePage, _> = self.connection.ask(&Request::Page(request)).await;
        match page {
            Err(ClientError::Refused(refusal))
                if before.is_none() && refusal.is(ErrorCode::UnknownCommand) =>
            {
                let files = self.list().await?;
                Ok(FilePage { files, next: None })
            }
            // Cursors count down, else a server could keep its client for ever.
            Ok(page) if page.next.is_some() && before.is_some() && page.next >= before => {
                Err(ClientError::Pages)
            }
            page => page,
        }
    }

    /// Returns a page of the jobs of the user, newest first, as [`Client::page`] does of the files.
    ///
    /// # Errors
    /// As [`Client::page`].
    pub async fn jobs(&mut self, before: Option<i64>) -> Result<JobPage, ClientError> {
        let request = PageRequest {
            before,
            limit: None,
        };
        let page: JobPage = self.connection.ask(&Request::Jobs(request)).await?;
        let is_endless = page.next.is_some() && before.is_some() && page.next >= before;
        match is_endless {
            true => Err(ClientError::Pages),
            false => Ok(page),
        }
    }

    /// Deletes a file of the user.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn delete(&mut self, hash: &Hash) -> Result<(), ClientError> {
        let _: serde_json::Value = self.connection.ask(&Request::Delete(hash.clone())).await?;
        Ok(())
    }

    /// Publishes a file of the user to everybody who has its hash, or makes it private.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn set_public(&mut self, hash: &Hash, public: bool) -> Result<(), ClientError> {
        let hash = hash.clone();
        let _: serde_json::Value = self
            .connection
            .ask(&Request::SetPublic { hash, public })
            .await?;
        Ok(())
    }

    /// Submits images as a job that does not depend on this connection.
    ///
    /// # Errors
    /// As [`Client::list`], or when an image cannot be read.
    pub async fn submit_images<P: AsRef<Path>>(
        &mut self,
        paths: &[P],
    ) -> Result<JobStatusReply, ClientError> {
        let upload = Upload::images(paths, true).await?;
        self.connection.submit(upload).await
    }

    /// Submits a video as a job that does not depend on this connection.
    ///
    /// # Errors
    /// As [`Client::submit_images`].
    pub async fn submit_video(&mut self, path: &Path) -> Result<JobStatusReply, ClientError> {
        let upload = Upload::video(path, true).await?;
        self.connection.submit(upload).await
    }

    /// Returns the state of a job.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn status(&mut self, job: i64) -> Result<JobStatusReply, ClientError> {
        self.connection.ask(&Request::Status(job)).await
    }

    /// Submits the scene of a job that is done once more, with the options that were set on this connection in place of its
    /// own; returns the new job.
    ///
    /// # Errors
    /// As [`Client::list`], also when the server does not keep the job's frames any more.
    pub async fn rerun(&mut self, job: i64) -> Result<JobStatusReply, ClientError> {
        self.connection.ask(&Request::Rerun(job)).await
    }

    /// Stops a job; returns its state.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn cancel(&mut self, job: i64) -> Result<JobStatusReply, ClientError> {
        self.connection.ask(&Request::Cancel(job)).await
    }

    /// Sets the options of the next reconstruction on this connection; returns all of them as the server will use them.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn options(
        &mut self,
        options: &ReconstructionOptions,
    ) -> Result<ReconstructionOptions, ClientError> {
        self.connection
            .ask(&Request::Options(options.clone()))
            .await
    }

    /// Returns version, model, load and limits of the server. Needs no login.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn info(&mut self) -> Result<ServerInfo, ClientError> {
        self.connection.ask(&Request::Info).await
    }

    async fn reconstruct(
        &mut self,
        upload: Upload,
        out: &mut impl Write,
    ) -> Result<ReceivedGlb, ClientError> {
        let (name, bytes) = self.connection.reconstruct(upload, out).await?;
        // The name comes from a peer, so it must be a hash before it is used in a path.
        let hash = name.strip_suffix(".glb").unwrap_or(&name).parse()?;
        Ok(ReceivedGlb { hash, bytes })
    }
}
