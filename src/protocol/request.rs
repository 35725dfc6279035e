//! The requests whose payload is small: all but uploads.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Command, Hash, ProtocolError, ReconstructionOptions, SMALL_PAYLOAD_MAX};

/// The payload of command 1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRequest {
    /// The user's name.
    #[serde(rename = "u")]
    pub name: String,
    /// The password as typed. No log shows it: `Debug` leaves it out.
    #[serde(rename = "p")]
    pub password: String,
}

impl fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A request that is not an upload.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// 1
    Login(LoginRequest),
    /// 4
    GetGlb(Hash),
    /// 5
    List,
    /// 6
    Delete(Hash),
    /// 7
    SetPublic {
        /// Which file.
        hash: Hash,
        /// Whether others may fetch it from now on.
        public: bool,
    },
    /// 9
    Status(i64),
    /// 10
    Cancel(i64),
    /// 11
    Options(ReconstructionOptions),
    /// 12
    Info,
    /// 13
    Page(PageRequest),
    /// 14
    Jobs(PageRequest),
    /// 15
    Rerun(i64),
}

/// The payload of commands 13 and 14.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRequest {
    /// `next` of the page before; `None` for the newest.
    #[serde(default)]
    pub before: Option<i64>,
    /// Most files or jobs in the page; the server takes [`PAGE_MAX`](super::PAGE_MAX) for more, and for none.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl Request {
    /// Reads the payload of a `command` that is not an upload.
    ///
    /// # Errors
    /// When it is longer than [`SMALL_PAYLOAD_MAX`] or not as in the table; [`ProtocolError::NotSmall`] for an upload and
    /// an unknown command. [`ProtocolError::code`] gives what to answer.
    pub fn parse(command: Command, payload: &[u8]) -> Result<Self, ProtocolError> {
        if payload.len() as u64 > u64::from(SMALL_PAYLOAD_MAX) {
            return Err(ProtocolError::PayloadTooLong {
                command,
                len: payload.len() as u64,
                max: SMALL_PAYLOAD_MAX.into(),
            });
        }
        match command {
            Command::Login => login(payload).map(Self::Login),
            Command::GetGlb => Hash::parse(payload).map(Self::GetGlb),
            Command::List => nothing("list", payload).map(|()| Self::List),
            Command::Delete => {
                let body: HashBody = json("delete", payload)?;
                Ok(Self::Delete(body.hash.parse()?))
            }
            Command::SetPublic => {
                let body: PublicBody = json("set public", payload)?;
                Ok(Self::SetPublic {
                    hash: body.hash.parse()?,
                    public: body.public,
                })
            }
            Command::Status => json("status", payload).map(|body: JobBody| Self::Status(body.job)),
            Command::Cancel => json("cancel", payload).map(|body: JobBody| Self::Cancel(body.job)),
            Command::Rerun => json("rerun", payload).map(|body: JobBody| Self::Rerun(body.job)),
            Command::Options => ReconstructionOptions::parse(payload).map(Self::Options),
            Command::Info => nothing("info", payload).map(|()| Self::Info),
            Command::Page => page("page", payload).map(Self::Page),
            Command::Jobs => page("jobs", payload).map(Self::Jobs),
            Command::Images | Command::Video | Command::Submit | Command::Unknown(_) => {
                Err(ProtocolError::NotSmall(command))
            }
        }
    }

    /// Which command this is.
    pub fn command(&self) -> Command {
        match self {
            Self::Login(_) => Command::Login,
            Self::GetGlb(_) => Command::GetGlb,
            Self::List => Command::List,
            Self::Delete(_) => Command::Delete,
            Self::SetPublic { .. } => Command::SetPublic,
            Self::Status(_) => Command::Status,
            Self::Cancel(_) => Command::Cancel,
            Self::Options(_) => Command::Options,
            Self::Info => Command::Info,
            Self::Page(_) => Command::Page,
            Self::Jobs(_) => Command::Jobs,
            Self::Rerun(_) => Command::Rerun,
        }
    }

    /// The payload as it is sent.
    pub fn payload(&self) -> Vec<u8> {
        let value = match self {
            Self::Login(login) => serde_json::json!({"u": login.name, "p": login.password}),
            Self::GetGlb(hash) => return hash.as_str().into(),
            Self::List | Self::Info => return Vec::new(),
            Self::Delete(hash) => serde_json::json!({ "hash": hash }),
            Self::SetPublic { hash, public } => {
                serde_json::json!({"hash": hash, "public": public})
            }
            Self::Status(job) | Self::Cancel(job) | Self::Rerun(job) => {
                serde_json::json!({ "job": job })
            }
            Self::Options(options) => serde_json::json!(options),
            Self::Page(page) | Self::Jobs(page) => serde_json::json!(page),
        };
        value.to_string().into_bytes()
    }
}

/// Bodies keep a hash as text, so that a wrong one is answered as such and not as bad JSON.
#[derive(Deserialize)]
struct HashBody {
    hash: String,
}

#[derive(Deserialize)]
struct PublicBody {
    hash: String,
    public: bool,
}

#[derive(Deserialize)]
struct JobBody {
    job: i64,
}

#[derive(Deserialize)]
struct EmptyBody {}

fn login(payload: &[u8]) -> Result<LoginRequest, ProtocolError> {
    // serde_json quotes the unexpected value, which may be a password: only its position is reported.
    serde_json::from_slice(payload).map_err(|e| ProtocolError::Json {
        what: "login",
        detail: format!(
            "{:?} error at line {} column {}",
            e.classify(),
            e.line(),
            e.column()
        ),
    })
}

fn page(what: &'static str, payload: &[u8]) -> Result<PageRequest, ProtocolError> {
    match payload {
        [] => Ok(PageRequest::default()),
        _ => json(what, payload),
    }
}

fn nothing(what: &'static str, payload: &[u8]) -> Result<(), ProtocolError> {
    if payload.is_empty() {
        return Ok(());
    }
    json::<EmptyBody>(what, payload).map(|_| ())
}

fn json<T: DeserializeOwned>(what: &'static str, payload: &[u8]) -> Result<T, ProtocolError> {
    serde_json::from_slice(payload).map_err(|e| ProtocolError::Json {
        what,
        detail: e.to_string(),
    })
}
