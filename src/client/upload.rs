//! Files on their way out: sized first, then streamed from disk.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{fs::File, io::AsyncReadExt};

use super::ClientError;
use crate::protocol::{Command, RequestHead, SubmitKind};

/// Bytes read and sent at once.
const PIECE: usize = 256 << 10;

/// Files to send as the payload of one request.
#[derive(Debug)]
pub(super) struct Upload {
    command: Command,
    /// What precedes the files: the submitted kind, the count.
    prefix: Vec<u8>,
    files: Vec<(PathBuf, File, u32)>,
    /// Whether each file's length precedes it.
    lengths: bool,
    payload_len: u32,
}

impl Upload {
    /// Opens images for command 2, or for command 8 when `submit`.
    pub(super) async fn images<P: AsRef<Path>>(
        paths: &[P],
        submit: bool,
    ) -> Result<Self, ClientError> {
        let mut prefix = Vec::new();
        if submit {
            prefix.push(SubmitKind::Images.into());
        }
        prefix.extend_from_slice(&(paths.len() as u32).to_be_bytes());
        let command = if submit {
            Command::Submit
        } else {
            Command::Images
        };
        Self::open(command, prefix, paths, true).await
    }

    /// Opens a video for command 3, or for command 8 when `submit`.
    pub(super) async fn video(path: &Path, submit: bool) -> Result<Self, ClientError> {
        if submit {
            let prefix = vec![SubmitKind::Video.into()];
            return Self::open(Command::Submit, prefix, &[path], false).await;
        }
        Self::open(Command::Video, Vec::new(), &[path], false).await
    }

    async fn open<P: AsRef<Path>>(
        command: Command,
        prefix: Vec<u8>,
        paths: &[P],
        lengths: bool,
    ) -> Result<Self, ClientError> {
        let mut total = prefix.len() as u64;
        let mut files = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let (file, len) = open_file(path)
                .await
                .map_err(|source| input(path, source))?;
            total += len + if lengths { 4 } else { 0 };
            // A length that does not fit makes the total too large as well, so none is cut.
            files.push((
                path.to_owned(),
                file,
                u32::try_from(len).unwrap_or(u32::MAX),
            ));
        }
        let size = |fix| ClientError::Size {
            files: paths.len(),
            bytes: total,
            fix,
        };
        if files.is_empty() {
            return Err(size("name at least one"));
        }
        Ok(Self {
            command,
            prefix,
            lengths,
            payload_len: u32::try_from(total)
                .map_err(|_| size("4 GiB is the most; send fewer or smaller ones"))?,
            files,
        })
    }

    /// Begins to give the bytes: the head first.
    pub(super) fn into_pieces(self) -> Pieces {
        let head = RequestHead {
            command: self.command,
            payload_len: self.payload_len,
        };
        let mut buffer = Vec::with_capacity(PIECE);
        buffer.extend_from_slice(&head.to_bytes());
        buffer.extend_from_slice(&self.prefix);
        Pieces {
            buffer,
            files: self.files.into_iter(),
            lengths: self.lengths,
            current: None,
            head_given: false,
        }
    }
}

/// The bytes of a request, piece by piece.
#[derive(Debug)]
pub(super) struct Pieces {
    buffer: Vec<u8>,
    files: std::vec::IntoIter<(PathBuf, File, u32)>,
    lengths: bool,
    current: Option<(PathBuf, tokio::io::Take<File>)>,
    head_given: bool,
}

impl Pieces {
    /// The next bytes to send; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, ClientError> {
        if std::mem::replace(&mut self.head_given, true) {
            self.buffer.clear();
        }
        while self.buffer.len() < PIECE {
            let Some((path, file)) = &mut self.current else {
                let Some((path, file, len)) = self.files.next() else {
                    break;
                };
                if self.lengths {
                    self.buffer.extend_from_slice(&len.to_be_bytes());
                }
                // A file that grows in the meantime is sent as long as it was announced.
                self.current = Some((path, file.take(len.into())));
                continue;
            };
            if file.limit() == 0 {
                self.current = None;
                continue;
            }
            let n = file
                .read_buf(&mut self.buffer)
                .await
                .map_err(|source| input(path, source))?;
            if n == 0 {
                return Err(ClientError::Shrunk { path: path.clone() });
            }
        }
        Ok((!self.buffer.is_empty()).then_some(&self.buffer))
    }
}

async fn open_file(path: &Path) -> io::Result<(File, u64)> {
    // Opening a pipe would wait for its other end.
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if metadata.len() == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
    }
    Ok((file, metadata.len()))
}

fn input(path: &Path, source: io::Error) -> ClientError {
    ClientError::Input {
        path: path.to_owned(),
        source,
    }
}
