//! The other end of the wire: what a program needs to talk to `vggt serve`, or to the older service.
//!
//! A [`Client`] is one connection; requests are answered one after the other. Pictures and videos are streamed from disk
//! and a GLB to a writer, so memory stays small whatever their size. Every wait has a limit, see [`ClientSettings`].

mod error;
mod upload;

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub use self::error::ClientError;
use self::upload::Upload;
use crate::protocol::{
    FileEntry, FileList, GlbEvent, GlbReplyDecoder, Hash, JobStatusReply, JsonReplyDecoder,
    LoginRequest, ReconstructionOptions, Refusal, Request, ServerInfo, encode,
};

/// Bytes received at once.
const BUFFER: usize = 256 << 10;

/// How long a dead connection is asked for the reason that the server may have sent before it closed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSettings {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes to go or come, except the first of a reconstruction.
    pub idle: Duration,
    /// For the first byte of a reconstruction's reply: the queue and the network take their time.
    pub reconstruction: Duration,
}

impl Default for ClientSettings {
    /// 10 s, 60 s, and the ten minutes that older clients wait.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            reconstruction: Duration::from_secs(600),
        }
    }
}

/// A GLB that was reconstructed, stored and received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedGlb {
    /// What [`Client::get`] fetches it again by.
    pub hash: Hash,
    /// Its size.
    pub bytes: u64,
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    settings: ClientSettings,
    /// Received bytes that no decoder has taken yet are `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Set while a request is under way, and for good when one breaks off (its future dropped included).
    mid_request: bool,
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// When there is none or it does not answer in time.
    pub async fn connect(
        host: &str,
        port: u16,
        settings: ClientSettings,
    ) -> Result<Self, ClientError> {
        let connecting = timeout(settings.connect, TcpStream::connect((host, port)));
        let stream = match connecting.await {
            Ok(connected) => connected.and_then(|s| s.set_nodelay(true).map(|()| s)),
            Err(_) => {
                return Err(ClientError::TimedOut {
                    what: "connecting",
                    limit: settings.connect,
                });
            }
        };
        Ok(Self {
            stream: stream.map_err(|source| ClientError::Connect {
                address: format!("{host}:{port}"),
                source,
            })?,
            settings,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            mid_request: false,
        })
    }

    /// Logs in; tells whether the user is a VIP.
    ///
    /// # Errors
    /// [`ClientError::LoginRefused`], or when the connection fails.
    pub async fn login(&mut self, name: &str, password: &str) -> Result<bool, ClientError> {
        let request = Request::Login(LoginRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        });
        match self.ask(&request).await? {
            (true, is_vip) => Ok(is_vip),
            (false, _) => Err(ClientError::LoginRefused {
                name: name.to_owned(),
            }),
        }
    }

    /// Has pictures reconstructed and writes the GLB to `out`, with calls that block.
    ///
    /// # Errors
    /// When a picture cannot be read, the server refuses, the connection or `out` fails.
    pub async fn images<P: AsRef<Path>>(
        &mut self,
        paths: &[P],
        out: &mut impl Write,
    ) -> Result<ReceivedGlb, ClientError> {
        let upload = Upload::images(paths, false).await?;
        self.reconstruct(upload, out).await
    }

    /// Has a video reconstructed and writes the GLB to `out`, with calls that block.
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

    /// Fetches a stored GLB to `out`, with calls that block; gives its size.
    ///
    /// # Errors
    /// When the server refuses, the connection or `out` fails.
    pub async fn get(&mut self, hash: &Hash, out: &mut impl Write) -> Result<u64, ClientError> {
        self.begin()?;
        let bytes = encode::request(&Request::GetGlb(hash.clone()));
        self.send(&bytes).await?;
        let decoder = GlbReplyDecoder::unnamed();
        let (_, bytes) = self.receive_glb(decoder, self.settings.idle, out).await?;
        Ok(bytes)
    }

    /// The user's files, newest first.
    ///
    /// # Errors
    /// When the server refuses or the connection fails; an older server knows no commands but the first four. So it is
    /// with all that follow.
    pub async fn list(&mut self) -> Result<Vec<FileEntry>, ClientError> {
        let list: FileList = self.ask(&Request::List).await?;
        Ok(list.files)
    }

    /// Deletes a file of the user.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn delete(&mut self, hash: &Hash) -> Result<(), ClientError> {
        let _: serde_json::Value = self.ask(&Request::Delete(hash.clone())).await?;
        Ok(())
    }

    /// Lets others fetch a file of the user by its hash, or no longer.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn set_public(&mut self, hash: &Hash, public: bool) -> Result<(), ClientError> {
        let hash = hash.clone();
        let _: serde_json::Value = self.ask(&Request::SetPublic { hash, public }).await?;
        Ok(())
    }

    /// Leaves pictures for a job that goes on without this connection.
    ///
    /// # Errors
    /// As [`Client::list`], or when a picture cannot be read.
    pub async fn submit_images<P: AsRef<Path>>(
        &mut self,
        paths: &[P],
    ) -> Result<JobStatusReply, ClientError> {
        let upload = Upload::images(paths, true).await?;
        self.submit(upload).await
    }

    /// Leaves a video for a job that goes on without this connection.
    ///
    /// # Errors
    /// As [`Client::submit_images`].
    pub async fn submit_video(&mut self, path: &Path) -> Result<JobStatusReply, ClientError> {
        let upload = Upload::video(path, true).await?;
        self.submit(upload).await
    }

    /// How a job stands.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn status(&mut self, job: i64) -> Result<JobStatusReply, ClientError> {
        self.ask(&Request::Status(job)).await
    }

    /// Stops a job; tells how it stands.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn cancel(&mut self, job: i64) -> Result<JobStatusReply, ClientError> {
        self.ask(&Request::Cancel(job)).await
    }

    /// Sets the options of the next reconstruction on this connection; gives all of them as they will be used.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn options(
        &mut self,
        options: &ReconstructionOptions,
    ) -> Result<ReconstructionOptions, ClientError> {
        self.ask(&Request::Options(options.clone())).await
    }

    /// What the server is. Needs no login.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn info(&mut self) -> Result<ServerInfo, ClientError> {
        self.ask(&Request::Info).await
    }

    async fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        self.begin()?;
        self.send(&encode::request(request)).await?;
        self.receive_json().await
    }

    async fn reconstruct(
        &mut self,
        upload: Upload,
        out: &mut impl Write,
    ) -> Result<ReceivedGlb, ClientError> {
        self.begin()?;
        if let Err(lost) = self.send_upload(upload).await {
            if !matches!(lost, ClientError::Lost { .. }) {
                return Err(lost);
            }
            let decoder = GlbReplyDecoder::named();
            let mut nowhere = io::sink();
            let words = self.receive_glb(decoder, self.settings.idle, &mut nowhere);
            let words = timeout(LAST_WORDS, words).await;
            self.mid_request = true;
            return Err(last_words(words.ok(), lost));
        }
        let wait = self.settings.reconstruction;
        let (name, bytes) = self
            .receive_glb(GlbReplyDecoder::named(), wait, out)
            .await?;
        // The name comes from a peer: whoever makes a path of it must not be led elsewhere.
        let hash = name.strip_suffix(".glb").unwrap_or(&name).parse()?;
        Ok(ReceivedGlb { hash, bytes })
    }

    async fn submit(&mut self, upload: Upload) -> Result<JobStatusReply, ClientError> {
        self.begin()?;
        if let Err(lost) = self.send_upload(upload).await {
            if !matches!(lost, ClientError::Lost { .. }) {
                return Err(lost);
            }
            let words = timeout(LAST_WORDS, self.receive_json::<JobStatusReply>()).await;
            self.mid_request = true;
            return Err(last_words(words.ok(), lost));
        }
        self.receive_json().await
    }

    fn begin(&mut self) -> Result<(), ClientError> {
        if std::mem::replace(&mut self.mid_request, true) {
            return Err(ClientError::Broken);
        }
        Ok(())
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        const WHAT: &str = "sending the request";
        let limit = self.settings.idle;
        match timeout(limit, self.stream.write_all(bytes)).await {
            Ok(sent) => sent.map_err(|source| ClientError::Lost { what: WHAT, source }),
            Err(_) => Err(ClientError::TimedOut { what: WHAT, limit }),
        }
    }

    async fn send_upload(&mut self, upload: Upload) -> Result<(), ClientError> {
        let mut pieces = upload.into_pieces();
        while let Some(piece) = pieces.next().await? {
            self.send(piece).await?;
        }
        Ok(())
    }

    /// Waits for more bytes once a decoder has taken all there were.
    async fn fill(&mut self, limit: Duration) -> Result<(), ClientError> {
        const WHAT: &str = "waiting for the reply";
        let n = match timeout(limit, self.stream.read(&mut self.buffer)).await {
            Ok(read) => read.map_err(|source| ClientError::Lost { what: WHAT, source })?,
            Err(_) => return Err(ClientError::TimedOut { what: WHAT, limit }),
        };
        if n == 0 {
            return Err(ClientError::Lost {
                what: WHAT,
                source: io::ErrorKind::UnexpectedEof.into(),
            });
        }
        (self.start, self.end) = (0, n);
        Ok(())
    }

    async fn receive_json<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let mut decoder = JsonReplyDecoder::new();
        loop {
            let mut input = &self.buffer[self.start..self.end];
            let body = decoder.feed(&mut input)?;
            self.start = self.end - input.len();
            if let Some(body) = body {
                self.mid_request = false;
                return Ok(JsonReplyDecoder::parse(body)??);
            }
            self.fill(self.settings.idle).await?;
        }
    }

    /// Receives a GLB, or an error; `wait` is for the first byte. Gives the name (empty for command 4) and the size.
    async fn receive_glb(
        &mut self,
        mut decoder: GlbReplyDecoder,
        mut wait: Duration,
        out: &mut impl Write,
    ) -> Result<(String, u64), ClientError> {
        let (mut name, mut bytes) = (String::new(), 0);
        loop {
            let mut input = &self.buffer[self.start..self.end];
            while let Some(event) = decoder.feed(&mut input)? {
                match event {
                    GlbEvent::Name(n) => name = n,
                    GlbEvent::Begin { len } => bytes = u64::from(len),
                    GlbEvent::Bytes(bytes) => out.write_all(bytes).map_err(ClientError::Output)?,
                    GlbEvent::End => {
                        self.start = self.end - input.len();
                        self.mid_request = false;
                        return Ok((name, bytes));
                    }
                    GlbEvent::Refused(refusal) => {
                        self.start = self.end - input.len();
                        self.mid_request = false;
                        return Err(refusal.into());
                    }
                }
            }
            self.start = self.end - input.len();
            self.fill(wait).await?;
            wait = self.settings.idle;
        }
    }
}

/// The server's reason to hang up, when it gave one, else how the connection was `lost`.
fn last_words<T>(words: Option<Result<T, ClientError>>, lost: ClientError) -> ClientError {
    match words {
        Some(Err(ClientError::Refused(refusal))) => refusal.into(),
        _ => lost,
    }
}

impl ClientError {
    /// The server's answer, when there was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}
