//! Images as they arrive: from pieces of any size to events, nothing held but four bytes of a length.

use super::{DEFAULT_MAX_IMAGES, ProtocolError};

/// What one request of images may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Images, at most.
    pub max_images: u32,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            max_images: DEFAULT_MAX_IMAGES,
        }
    }
}

/// What the next bytes of an upload mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadEvent<'a> {
    /// So many images follow, at least 1.
    Count(u32),
    /// An image begins.
    Begin {
        /// Counted from 0.
        index: u32,
        /// Its bytes, at least 1; they all fit into the payload.
        len: u32,
    },
    /// The next bytes of the image, at least 1.
    Bytes(&'a [u8]),
    /// The image is whole.
    EndImage,
    /// The last image is whole and the payload is read.
    End,
}

/// Reads the payload of command 2: `u32 count`, then count × (`u32 len`, file bytes).
///
/// Feed it until it gives `None`, then give it the bytes that have arrived since. It takes no byte beyond the payload. After
/// an error it returns the same error again; [`ImagesDecoder::remaining`] is what must be skipped to reach the next request.
#[derive(Debug)]
pub struct ImagesDecoder {
    limits: ImageLimits,
    /// Payload bytes that were not consumed yet.
    remaining: u32,
    /// Images whose head was not read yet.
    heads_left: u32,
    next_index: u32,
    number: PartialU32,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Count,
    Head,
    Image { left: u32 },
    Last,
    Done,
    Failed(ProtocolError),
}

impl ImagesDecoder {
    /// Starts at the first byte of a payload of `payload_len` bytes.
    pub fn new(payload_len: u32, limits: ImageLimits) -> Self {
        Self {
            limits,
            remaining: payload_len,
            heads_left: 0,
            next_index: 0,
            number: PartialU32::default(),
            state: State::Count,
        }
    }

    /// Payload bytes that were not consumed yet.
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Returns true after [`UploadEvent::End`].
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Consumes bytes from the front of `input` and returns the next event; `None` when it needs more bytes, or at the end.
    ///
    /// # Errors
    /// When the payload is not as in the table or holds too many images, as soon as that shows.
    pub fn feed<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<UploadEvent<'a>>, ProtocolError> {
        let event = self.step(input);
        if let Err(e) = &event {
            self.state = State::Failed(e.clone());
        }
        event
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<UploadEvent<'a>>, ProtocolError> {
        match &mut self.state {
            State::Count => {
                let Some(count) = self.read_number("the number of images", input)? else {
                    return Ok(None);
                };
                self.check_count(count)?;
                self.heads_left = count;
                self.state = State::Head;
                Ok(Some(UploadEvent::Count(count)))
            }
            State::Head => {
                let Some(len) = self.read_number("the length of an image", input)? else {
                    return Ok(None);
                };
                let index = self.next_index;
                self.heads_left -= 1;
                self.next_index += 1;
                self.check_image(index, len)?;
                self.state = State::Image { left: len };
                Ok(Some(UploadEvent::Begin { index, len }))
            }
            State::Image { left: 0 } => {
                self.state = if self.heads_left == 0 {
                    State::Last
                } else {
                    State::Head
                };
                Ok(Some(UploadEvent::EndImage))
            }
            State::Image { left } => {
                let n = input.len().min(*left as usize);
                if n == 0 {
                    return Ok(None);
                }
                let (bytes, rest) = input.split_at(n);
                *input = rest;
                *left -= n as u32;
                self.remaining -= n as u32;
                Ok(Some(UploadEvent::Bytes(bytes)))
            }
            State::Last => {
                self.state = State::Done;
                Ok(Some(UploadEvent::End))
            }
            State::Done => Ok(None),
            State::Failed(e) => Err(e.clone()),
        }
    }

    fn read_number(
        &mut self,
        what: &'static str,
        input: &mut &[u8],
    ) -> Result<Option<u32>, ProtocolError> {
        let needed = self.number.missing();
        if self.remaining < needed {
            return Err(ProtocolError::TooShort {
                what,
                needed: needed.into(),
                left: self.remaining,
            });
        }
        let before = input.len();
        let number = self.number.take(input);
        self.remaining -= (before - input.len()) as u32;
        Ok(number)
    }

    fn check_count(&self, count: u32) -> Result<(), ProtocolError> {
        if count == 0 {
            return Err(ProtocolError::NoImages);
        }
        if count > self.limits.max_images {
            return Err(ProtocolError::TooManyImages {
                count,
                max: self.limits.max_images,
            });
        }
        self.check_fits("the images", u64::from(count) * SMALLEST_IMAGE)
    }

    fn check_image(&self, index: u32, len: u32) -> Result<(), ProtocolError> {
        if len == 0 {
            return Err(ProtocolError::EmptyImage { index });
        }
        let after = u64::from(self.heads_left) * SMALLEST_IMAGE;
        self.check_fits("an image and those after it", u64::from(len) + after)?;
        if self.heads_left == 0 && self.remaining > len {
            return Err(ProtocolError::TrailingBytes {
                left: self.remaining - len,
            });
        }
        Ok(())
    }

    fn check_fits(&self, what: &'static str, needed: u64) -> Result<(), ProtocolError> {
        if needed > u64::from(self.remaining) {
            return Err(ProtocolError::TooShort {
                what,
                needed,
                left: self.remaining,
            });
        }
        Ok(())
    }
}

/// Bytes of an image's length and of one byte of it.
const SMALLEST_IMAGE: u64 = 5;

/// A big-endian u32 of which some bytes may be missing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PartialU32 {
    bytes: [u8; 4],
    have: usize,
}

impl PartialU32 {
    /// Bytes that are missing.
    pub(super) fn missing(&self) -> u32 {
        4 - self.have as u32
    }

    /// Takes the missing bytes off `input`; the number once it is whole, and then starts again.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<u32> {
        while self.have < 4 {
            let (&byte, rest) = input.split_first()?;
            self.bytes[self.have] = byte;
            self.have += 1;
            *input = rest;
        }
        self.have = 0;
        Some(u32::from_be_bytes(self.bytes))
    }
}
