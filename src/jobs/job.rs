//! A job: its id, its state, and the request that it starts from.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{input::InputFolder, names::JobNames, options::JobOptions};
use crate::store::{JobKind, User};

/// Identifies a job in logs and replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobId {
    /// Key of the job's row.
    Row(i64),
    /// A job without a row, tied to a connection: a number of this process.
    Connection(u64),
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(id) => write!(f, "{id}"),
            Self::Connection(id) => write!(f, "c{id}"),
        }
    }
}

/// State of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum JobState {
    /// Waiting.
    Queued {
        /// Number of jobs that run before it, the running one included.
        ahead: usize,
    },
    /// Running.
    Running {
        /// Name of the stage, one word or two.
        stage: &'static str,
        /// Finished fraction of the whole, in [0, 1].
        fraction: f32,
        /// Estimate, once there is one.
        seconds_left: Option<f32>,
        /// Hash of the anchors' scene, once there is one: a GLB that can be fetched while the job runs.
        preview: Option<String>,
    },
    /// Finished: the GLB is stored.
    Done {
        /// `hashed_name` of the GLB.
        hash: String,
    },
    /// Ended without a GLB.
    Failed {
        /// Reason, worded for the user.
        reason: String,
    },
    /// Cancelled by the user.
    Cancelled,
}

impl JobState {
    /// Returns true once the state is final.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Queued { .. } | Self::Running { .. })
    }
}

/// A reconstruction to be queued.
#[derive(Debug)]
pub struct JobRequest {
    /// User who owns the result.
    pub user: User,
    /// Kind of the input files.
    pub kind: JobKind,
    /// Folder of the input files.
    pub folder: InputFolder,
    /// SHA-256 of the input, 64 hex digits.
    pub input_sha256: String,
    /// Options of the reconstruction.
    pub options: JobOptions,
    /// Original name of the result.
    pub original_name: String,
    /// Names that the client gave.
    pub names: JobNames,
}

/// How a job stands, and what is to be known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStatus {
    /// How it stands.
    pub state: JobState,
    /// Warnings as JSON objects: `kind`, `text`, and values that belong to the kind.
    pub warnings: Vec<Map<String, Value>>,
}

impl JobStatus {
    /// Returns that of a job that was only just taken.
    pub fn queued() -> Self {
        Self {
            state: JobState::Queued { ahead: 0 },
            warnings: Vec::new(),
        }
    }
}

/// A job of a user's list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedJob {
    /// The key of its row.
    pub id: i64,
    /// How it stands.
    pub status: JobStatus,
    /// Name of its result.
    pub name: String,
    /// When it was submitted.
    pub created_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}
