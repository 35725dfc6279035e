//! The JSON bodies of version 2's replies.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Hash;

/// The reply to 5.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    /// Newest first, at most [`PAGE_MAX`](super::PAGE_MAX).
    pub files: Vec<FileEntry>,
}

/// The reply to 13.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePage {
    /// Newest first.
    pub files: Vec<FileEntry>,
    /// `before` of the next page; `None` at the end.
    pub next: Option<i64>,
}

/// One stored GLB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// What command 4 takes.
    pub hash: Hash,
    /// The name it was stored under, as `images_1700000000.glb`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// UTC, RFC 3339.
    pub created_at: String,
    /// Whether others may fetch it.
    pub public: bool,
}

/// The reply to 8, 9 and 10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatusReply {
    /// The job's number.
    pub job: i64,
    /// How it stands.
    #[serde(flatten)]
    pub state: JobStateReply,
    /// What is to be known of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<JobWarning>,
}

/// Something that a user should know of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobWarning {
    /// A word that programs know it by.
    pub kind: String,
    /// In words.
    pub text: String,
    /// Values that belong to the kind.
    #[serde(flatten)]
    pub values: Map<String, Value>,
}

/// The reply to 14.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    /// Newest first.
    pub jobs: Vec<JobEntry>,
    /// `before` of the next page; `None` at the end.
    pub next: Option<i64>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEntry {
    /// Its number, how it stands, and what is to be known of it.
    #[serde(flatten)]
    pub status: JobStatusReply,
    /// The name that its result has or will have.
    pub name: String,
    /// When it was submitted: UTC, RFC 3339.
    pub created_at: String,
    /// When it ended; `None` before.
    #[serde(default)]
    pub finished_at: Option<String>,
}

/// How a job stands: the field `state` and what belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobStateReply {
    /// Waits for its turn.
    Queued {
        /// Jobs that run before it.
        ahead: u32,
    },
    /// Is being worked on.
    Running {
        /// Which part, a word.
        stage: String,
        /// How much of the whole is done, in [0, 1].
        fraction: f32,
        /// An estimate, once there is one.
        seconds_left: Option<f32>,
        /// What command 4 takes for the anchors' scene while the job runs, once there is one. Of its user alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preview: Option<Hash>,
    },
    /// Has its GLB.
    Done {
        /// What command 4 takes.
        hash: Hash,
    },
    /// Has none and will not.
    Failed {
        /// Why.
        reason: String,
    },
    /// Was stopped.
    Cancelled,
}

impl JobStateReply {
    /// Returns true once the state is final.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Queued { .. } | Self::Running { .. })
    }
}

/// The reply to 12.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// The server's version.
    pub version: String,
    /// The newest table it speaks.
    pub protocol: u32,
    /// The weights' name.
    pub model: String,
    /// `cpu`, `cuda:0`, ...
    pub device: String,
    /// Jobs that wait.
    pub queued: u32,
    /// Jobs being worked on.
    pub running: u32,
    /// What it takes at most.
    pub limits: ServerLimits,
}

/// What a server takes at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLimits {
    /// Payload of an upload.
    pub upload_bytes: u64,
    /// Images in one request.
    pub images: u32,
    /// Jobs waiting in all.
    pub queue: u32,
    /// Jobs waiting of one user.
    pub queue_per_user: u32,
}
