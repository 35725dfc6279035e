//! Uploads: bytes are written to disk as they arrive.

use std::{
    fs::File,
    io::{self, Write},
};

use sha2::{Digest, Sha256};

use crate::{
    jobs::InputFolder,
    protocol::{ImageLimits, ImagesDecoder, ProtocolError, SubmitKind, UploadEvent},
    store::{JobKind, Store, create_private},
};

/// Why an upload fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The payload does not match the protocol's table.
    #[error(transparent)]
    Payload(#[from] ProtocolError),
    /// The payload is empty.
    #[error("cannot read a video of 0 bytes")]
    EmptyVideo,
    /// The files cannot be written.
    #[error("cannot keep the upload: {0}")]
    Disk(#[from] io::Error),
}

/// The input files of a request while they arrive. Removed when dropped. Everything here blocks on the disk.
#[derive(Debug)]
pub(super) struct Upload {
    folder: InputFolder,
    sha256: Sha256,
    receiving: Receiving,
    /// Flushes every file to the disk.
    durable: bool,
}

#[derive(Debug)]
enum Receiving {
    Images {
        decoder: ImagesDecoder,
        file: Option<File>,
    },
    Video(File),
}

/// A complete upload.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) folder: InputFolder,
    pub(super) kind: JobKind,
    /// SHA-256 of the kind and the payload, 64 hex digits.
    pub(super) sha256: String,
}

impl Upload {
    pub(super) fn begin(
        store: &Store,
        kind: SubmitKind,
        payload_len: u32,
        max_images: u32,
        durable: bool,
    ) -> Result<Self, UploadError> {
        let folder = InputFolder::create(store)?;
        let mut sha256 = Sha256::new();
        sha256.update([u8::from(kind)]);
        let receiving = match kind {
            SubmitKind::Video if payload_len == 0 => return Err(UploadError::EmptyVideo),
            SubmitKind::Video => Receiving::Video(create_private(&folder.video())?),
            SubmitKind::Images => Receiving::Images {
                decoder: ImagesDecoder::new(payload_len, ImageLimits { max_images }),
                file: None,
            },
        };
        Ok(Self {
            folder,
            sha256,
            receiving,
            durable,
        })
    }

    /// Writes the next bytes of the payload.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        self.sha256.update(bytes);
        match &mut self.receiving {
            Receiving::Video(file) => file.write_all(bytes)?,
            Receiving::Images { decoder, file } => {
                let mut input = bytes;
                while let Some(event) = decoder.feed(&mut input)? {
                    match event {
                        UploadEvent::Count(_) | UploadEvent::End => {}
                        UploadEvent::Begin { index, .. } => {
                            *file = Some(create_private(&self.folder.image(index))?);
                        }
                        UploadEvent::Bytes(bytes) => {
                            if let Some(file) = file {
                                file.write_all(bytes)?;
                            }
                        }
                        UploadEvent::EndImage => {
                            if let Some(file) = file.take()
                                && self.durable
                            {
                                file.sync_all()?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Completes the upload after the last byte of the payload.
    pub(super) fn finish(mut self) -> Result<Received, UploadError> {
        // The decoder reports a payload that ends early only on the next call.
        self.take(&[])?;
        let kind = match &self.receiving {
            Receiving::Video(file) => {
                if self.durable {
                    file.sync_all()?;
                }
                JobKind::Video
            }
            Receiving::Images { .. } => JobKind::Images,
        };
        let digest = self.sha256.finalize();
        Ok(Received {
            folder: self.folder,
            kind,
            sha256: digest.iter().map(|b| format!("{b:02x}")).collect(),
        })
    }
}
