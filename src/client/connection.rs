//! The bytes of a connection: sent and received with a limit on every wait.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{ClientError, ClientSettings, upload::Upload};
use crate::protocol::{GlbEvent, GlbReplyDecoder, Hash, JsonReplyDecoder, Request, encode};

/// Bytes received at once.
const BUFFER: usize = 256 << 10;

/// How long a dead connection is asked for the reason that the server may have sent before it closed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A connection on which at most one request is under way.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    settings: ClientSettings,
    /// Received bytes that no decoder has taken yet are `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// True while a request is in progress, and permanently when one breaks off (including when its future is dropped).
    mid_request: bool,
}

impl Connection {
    /// Connects to `host`.
    pub(super) async fn open(
        host: &str,
        port: u16,
        settings: ClientSettings,
    ) -> Result<Self, ClientError> {
        let connecting = async {
            let addresses = settings.resolver.addresses(host, port).await?;
            TcpStream::connect(&addresses[..]).await
        };
        let stream = match timeout(settings.connect, connecting).await {
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

    /// Sends a small request and receives JSON.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        request: &Request,
    ) -> Result<T, ClientError> {
        self.begin()?;
        self.send(&encode::request(request)).await?;
        self.receive_json().await
    }

    /// Sends a hash and receives the GLB; gives its size.
    pub(super) async fn get(
        &mut self,
        hash: &Hash,
        out: &mut impl Write,
    ) -> Result<u64, ClientError> {
        self.begin()?;
        let bytes = encode::request(&Request::GetGlb(hash.clone()));
        self.send(&bytes).await?;
        let decoder = GlbReplyDecoder::unnamed();
        let (_, bytes) = self.receive_glb(decoder, self.settings.idle, out).await?;
        Ok(bytes)
    }

    /// Sends files and receives the GLB; gives its name and size.
    pub(super) async fn reconstruct(
        &mut self,
        upload: Upload,
        out: &mut impl Write,
    ) -> Result<(String, u64), ClientError> {
        self.begin()?;
        if let Err(e) = self.send_upload(upload).await {
            if !e.is_lost() {
                return Err(e);
            }
            let mut nowhere = io::sink();
            let words = self.receive_glb(GlbReplyDecoder::named(), LAST_WORDS, &mut nowhere);
            let words = timeout(LAST_WORDS, words).await;
            return Err(self.broke_off(e, words.ok()));
        }
        let wait = self.settings.reconstruction;
        self.receive_glb(GlbReplyDecoder::named(), wait, out).await
    }

    /// Sends files and receives JSON.
    pub(super) async fn submit<T: DeserializeOwned>(
        &mut self,
        upload: Upload,
    ) -> Result<T, ClientError> {
        self.begin()?;
        if let Err(e) = self.send_upload(upload).await {
            if !e.is_lost() {
                return Err(e);
            }
            let words = timeout(LAST_WORDS, self.receive_json::<T>()).await;
            return Err(self.broke_off(e, words.ok()));
        }
        self.receive_json().await
    }

    /// Why an upload broke off: what the server said before it hung up, if it did, else `e`.
    fn broke_off<T>(
        &mut self,
        e: ClientError,
        words: Option<Result<T, ClientError>>,
    ) -> ClientError {
        // A whole reply was read, but half a request is on its way.
        self.mid_request = true;
        match words {
            Some(Err(ClientError::Refused(refusal))) => refusal.into(),
            _ => e,
        }
    }

    /// Begins a request; it ends when its reply is read.
    fn begin(&mut self) -> Result<(), ClientError> {
        if std::mem::replace(&mut self.mid_request, true) {
            return Err(ClientError::Broken);
        }
        Ok(())
    }

    /// Sends bytes of a request.
    async fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        const WHAT: &str = "sending the request";
        let limit = self.settings.idle;
        match timeout(limit, self.stream.write_all(bytes)).await {
            Ok(sent) => sent.map_err(|source| ClientError::Lost { what: WHAT, source }),
            Err(_) => Err(ClientError::TimedOut { what: WHAT, limit }),
        }
    }

    /// Streams a request with files from disk.
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

    /// Receives a reply in JSON.
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
