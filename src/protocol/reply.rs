//! Replies as a client reads them, from pieces of any size.

use serde::de::DeserializeOwned;

use super::{
    ERROR_MAX, GLB_MAGIC, JSON_REPLY_MAX, NAME_MAX, ProtocolError, Refusal, decode::PartialU32,
};

/// What the next bytes of a reply with a GLB mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GlbEvent<'a> {
    /// The name, `<hash>.glb`; only of commands 2 and 3.
    Name(String),
    /// A GLB of so many bytes begins.
    Begin {
        /// All its bytes, those of `glTF` included.
        len: u32,
    },
    /// The next bytes of the GLB, at least 1.
    Bytes(&'a [u8]),
    /// The GLB is whole.
    End,
    /// There is no GLB; the reply is read.
    Refused(Refusal),
}

/// Reads the reply to 2 and 3 (`u32 name_len`, name, `u32 glb_len`, GLB) or to 4 (`u32 len`, GLB).
///
/// A GLB starts with `glTF`; what does not and is shorter than 1 KiB is an error. Feed it until it gives `None`, then give it
/// the bytes that have arrived since. It takes no byte beyond the reply.
#[derive(Debug)]
pub struct GlbReplyDecoder {
    state: State,
    number: PartialU32,
    /// Name, first bytes of the GLB or error text, whichever is being read: never more than 1 KiB.
    text: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    NameLen,
    Name { len: usize },
    Len,
    Magic { len: u32 },
    MagicRead { len: u32 },
    Glb { left: u32 },
    Error { len: usize },
    Done,
}

impl GlbReplyDecoder {
    /// For the reply to command 2 or 3.
    pub fn named() -> Self {
        Self::at(State::NameLen)
    }

    /// For the reply to command 4.
    pub fn unnamed() -> Self {
        Self::at(State::Len)
    }

    fn at(state: State) -> Self {
        Self {
            state,
            number: PartialU32::default(),
            text: Vec::new(),
        }
    }

    /// Returns true when the reply is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Consumes bytes from the front of `input` and returns the next event; `None` when it needs more bytes, or at the end.
    ///
    /// # Errors
    /// When the reply is empty, its name too long or no text, or it is neither a GLB nor an error. The connection is of no
    /// use then.
    pub fn feed<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<GlbEvent<'a>>, ProtocolError> {
        loop {
            match self.state {
                State::NameLen => {
                    let Some(len) = self.number.take(input) else {
                        return Ok(None);
                    };
                    if len > NAME_MAX {
                        return Err(ProtocolError::ReplyTooLong {
                            what: "a name",
                            len,
                            max: NAME_MAX,
                        });
                    }
                    self.state = match len {
                        0 => State::Len,
                        len => State::Name { len: len as usize },
                    };
                }
                State::Name { len } => {
                    if !self.fill(len, input) {
                        return Ok(None);
                    }
                    let name = self.take_text("the name")?;
                    self.state = State::Len;
                    return Ok(Some(GlbEvent::Name(name)));
                }
                State::Len => {
                    let Some(len) = self.number.take(input) else {
                        return Ok(None);
                    };
                    if len == 0 {
                        return Err(ProtocolError::EmptyReply);
                    }
                    self.state = State::Magic { len };
                }
                State::Magic { len } => {
                    if !self.fill(GLB_MAGIC.len().min(len as usize), input) {
                        return Ok(None);
                    }
                    if self.text == GLB_MAGIC {
                        self.text.clear();
                        self.state = State::MagicRead { len };
                        return Ok(Some(GlbEvent::Begin { len }));
                    }
                    if len > ERROR_MAX {
                        return Err(ProtocolError::NotAGlb { len });
                    }
                    self.state = State::Error { len: len as usize };
                }
                State::MagicRead { len } => {
                    self.state = State::Glb {
                        left: len - GLB_MAGIC.len() as u32,
                    };
                    return Ok(Some(GlbEvent::Bytes(GLB_MAGIC)));
                }
                State::Glb { left: 0 } => {
                    self.state = State::Done;
                    return Ok(Some(GlbEvent::End));
                }
                State::Glb { left } => {
                    let n = input.len().min(left as usize);
                    if n == 0 {
                        return Ok(None);
                    }
                    let (bytes, rest) = input.split_at(n);
                    *input = rest;
                    self.state = State::Glb {
                        left: left - n as u32,
                    };
                    return Ok(Some(GlbEvent::Bytes(bytes)));
                }
                State::Error { len } => {
                    if !self.fill(len, input) {
                        return Ok(None);
                    }
                    let text = self.take_text("the error")?;
                    self.state = State::Done;
                    return Ok(Some(GlbEvent::Refused(Refusal::from_text(&text))));
                }
                State::Done => return Ok(None),
            }
        }
    }

    /// Moves bytes from `input` until `text` holds `len`; returns true when it does.
    fn fill(&mut self, len: usize, input: &mut &[u8]) -> bool {
        let (bytes, rest) = input.split_at(input.len().min(len - self.text.len()));
        self.text.extend_from_slice(bytes);
        *input = rest;
        self.text.len() == len
    }

    fn take_text(&mut self, what: &'static str) -> Result<String, ProtocolError> {
        String::from_utf8(std::mem::take(&mut self.text)).map_err(|_| ProtocolError::NotText(what))
    }
}

/// Reads `u32 len` and JSON. The memory it takes follows the bytes that came, not the length that was announced.
#[derive(Debug, Default)]
pub struct JsonReplyDecoder {
    number: PartialU32,
    len: Option<usize>,
    body: Vec<u8>,
}

impl JsonReplyDecoder {
    /// Starts at the first byte of a reply.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes off the front of `input`; the body once it is whole, `None` while bytes are missing.
    ///
    /// # Errors
    /// When the reply is empty or longer than [`JSON_REPLY_MAX`].
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<&[u8]>, ProtocolError> {
        let len = match self.len {
            Some(len) => len,
            None => {
                let Some(len) = self.number.take(input) else {
                    return Ok(None);
                };
                match len {
                    0 => return Err(ProtocolError::EmptyReply),
                    len if len > JSON_REPLY_MAX => {
                        return Err(ProtocolError::ReplyTooLong {
                            what: "JSON",
                            len,
                            max: JSON_REPLY_MAX,
                        });
                    }
                    len => *self.len.insert(len as usize),
                }
            }
        };
        let (bytes, rest) = input.split_at(input.len().min(len - self.body.len()));
        self.body.extend_from_slice(bytes);
        *input = rest;
        Ok((self.body.len() == len).then_some(&self.body))
    }

    /// Reads a whole body: the value, or the server's refusal, in the form of version 2 or as the bare code that an
    /// older server answers an unknown command with.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, Refusal>, ProtocolError> {
        let text = std::str::from_utf8(body).map_err(|_| ProtocolError::NotText("the reply"))?;
        if text == super::ErrorCode::UnknownCommand.as_str() || text.starts_with("ERROR_") {
            return Ok(Err(Refusal::from_text(text)));
        }
        // The refusal first: a reply whose fields all have defaults would take any object.
        if let Ok(refusal) = serde_json::from_str(text) {
            return Ok(Err(refusal));
        }
        match serde_json::from_str(text) {
            Ok(value) => Ok(Ok(value)),
            Err(e) => Err(ProtocolError::Json {
                what: "the reply",
                detail: e.to_string(),
            }),
        }
    }
}
