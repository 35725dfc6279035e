//! Errors of the queue, of a submission and of a job.

use std::io;

use vggt_model::weights::WeightsError;

use super::{
    faults::{has_passing_cause, is_missing, quietly, store_passes},
    quota::QuotaError,
};
use crate::{
    metrics::Cause,
    pipeline::{FramesError, GlbError, PipelineError, WorkerEnd, WorkerError},
    store::{Full, StoreError},
};

/// Why the queue cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network cannot be loaded.
    #[error(transparent)]
    Network(#[from] PipelineError),
    /// The folders of uploads and inputs cannot be cleaned up.
    #[error("cannot clean up the folders of uploads: {0}")]
    Folder(#[source] io::Error),
    /// The thread of the worker cannot start.
    #[error("cannot start the worker: {0}")]
    Thread(#[source] io::Error),
}

/// Why a job is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The queue is full.
    #[error("busy, {ahead} ahead")]
    Busy {
        /// Jobs that would run before it.
        ahead: usize,
    },
    /// The user has the maximum number of waiting jobs.
    #[error("busy, {waiting} of your own wait already; try again when one is done")]
    TooManyOfOne {
        /// Waiting jobs of the user.
        waiting: usize,
    },
    /// The server is stopping.
    #[error("the server is shutting down; try again later")]
    ShuttingDown,
    /// The row cannot be written.
    #[error(transparent)]
    Store(StoreError),
    /// The input files cannot be kept.
    #[error("cannot keep the input files: {0}")]
    Input(#[source] io::Error),
}

impl SubmitError {
    /// There is no place, while so many jobs run.
    pub(super) fn full(full: Full, running: usize) -> Self {
        let Full { own, waiting } = full;
        match own {
            true => Self::TooManyOfOne { waiting },
            false => Self::Busy {
                ahead: waiting + running,
            },
        }
    }
}

impl From<StoreError> for SubmitError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::QueueFull(full) => Self::full(full, 0),
            e => Self::Store(e),
        }
    }
}

/// What clients are told when the disk is full.
pub(super) const DISK_FULL: &str = "the server's disk is full";

/// Why a job ended without a GLB.
#[derive(Debug)]
pub(super) enum JobError {
    /// [`PipelineError::Cancelled`], or the row had ended.
    Stopped,
    /// The reason, worded for the user.
    Failed(Cause, String),
    /// The reason likewise; it may be gone at the next try.
    Fault(String),
}

impl From<PipelineError> for JobError {
    fn from(e: PipelineError) -> Self {
        match e {
            PipelineError::Cancelled => Self::Stopped,
            e if e.missing_space().is_some() => Self::Fault(DISK_FULL.to_owned()),
            e if has_passing_cause(&e) => Self::Fault(with_causes(&e)),
            e if is_of_the_server(&e) => {
                quietly(|| tracing::error!("cannot run a job: {}", with_causes(&e)));
                Self::Failed(
                    Cause::Server,
                    "the server cannot run its network; its operator finds the reason in the log"
                        .to_owned(),
                )
            }
            e => {
                let advice = advice(&e).map(|advice| format!("; {advice}"));
                Self::Failed(cause(&e), with_causes(&e) + &advice.unwrap_or_default())
            }
        }
    }
}

impl From<QuotaError> for JobError {
    fn from(e: QuotaError) -> Self {
        match e {
            QuotaError::Store(e) => e.into(),
            e => Self::Failed(Cause::Quota, e.to_string()),
        }
    }
}

impl From<StoreError> for JobError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::JobOver(_) | StoreError::LeaseOver(_) => Self::Stopped,
            e => {
                quietly(|| tracing::error!("cannot store a result: {e}"));
                let reason = match e.is_disk_full() {
                    true => DISK_FULL,
                    false => "the server could not store the result",
                };
                match store_passes(&e) {
                    true => Self::Fault(reason.to_owned()),
                    false => Self::Failed(Cause::Server, reason.to_owned()),
                }
            }
        }
    }
}

/// Returns in a word why a job fails whose error is not the server's.
fn cause(e: &PipelineError) -> Cause {
    match e {
        PipelineError::OutOfMemory { .. }
        | PipelineError::Decoder(WorkerError::Ended {
            end: WorkerEnd::Memory { .. } | WorkerEnd::Killed,
            ..
        }) => Cause::OutOfMemory,
        PipelineError::Frames(FramesError::VideoTooSlow { .. } | FramesError::TooSlow { .. })
        | PipelineError::Decoder(WorkerError::Ended {
            end: WorkerEnd::CpuTime { .. },
            ..
        }) => Cause::Timeout,
        PipelineError::Decoder(WorkerError::Ended { .. })
        | PipelineError::Frames(_)
        | PipelineError::Attention(_)
        | PipelineError::Scene(_)
        | PipelineError::Glb(_)
        | PipelineError::Vanished { .. } => Cause::Input,
        _ => Cause::Server,
    }
}

/// Whether an error is about files and devices of the server, whose names are for its operator.
fn is_of_the_server(e: &PipelineError) -> bool {
    use vggt_model::Error;
    match e {
        PipelineError::Network(e) => matches!(e, Error::Weights(_) | Error::Config(_)),
        PipelineError::Frames(e) => {
            matches!(
                e,
                FramesError::SkyNetwork { .. } | FramesError::SkyRun { .. }
            )
        }
        PipelineError::Device { .. }
        | PipelineError::Dtype { .. }
        | PipelineError::Precision
        | PipelineError::Output(_)
        | PipelineError::Spool(_)
        | PipelineError::Write(_) => true,
        _ => false,
    }
}

/// Returns a reason with the names of files in place of quoted absolute paths.
pub(super) fn without_paths(reason: &str) -> String {
    let parts = reason.split('"').enumerate().map(|(i, part)| {
        let quoted = i % 2 == 1 && part.starts_with('/');
        let name = part.rsplit('/').next().filter(|_| quoted);
        name.unwrap_or(part)
    });
    parts.collect::<Vec<_>>().join("\"")
}

impl JobError {
    /// Returns the error of a job whose network, or `what` else of the operator's, cannot be loaded. The cause names paths of
    /// the server, which are for the log.
    pub(super) fn of_loading(what: &str, e: &PipelineError) -> Self {
        quietly(|| tracing::error!("cannot load {what}: {}", with_causes(e)));
        let reason = format!("the server cannot load {what}");
        let passes = match e {
            // A file that is being replaced.
            PipelineError::Network(vggt_model::Error::Weights(
                WeightsError::NotFound { .. } | WeightsError::Truncated { .. },
            )) => true,
            e => has_passing_cause(e) || is_missing(e),
        };
        match passes {
            true => Self::Fault(reason),
            false => Self::Failed(Cause::Server, reason),
        }
    }
}

/// Returns what a client of the service can do about an error, in terms of its requests and the options of command 11.
fn advice(e: &PipelineError) -> Option<&'static str> {
    match e {
        PipelineError::OutOfMemory { .. } | PipelineError::Glb(GlbError::TooLarge { .. }) => {
            Some("send fewer images, or set a lower fps for a video")
        }
        _ => None,
    }
}

/// Returns an error with its causes, in one line.
fn with_causes(e: &dyn std::error::Error) -> String {
    let mut line = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let text = e.to_string();
        // Some messages include their cause.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = e.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_server_are_not_told() {
        let secret = "/srv/secret/model.pt";
        let weights = vggt_model::weights::WeightsError::NotFound {
            path: secret.into(),
        };
        let sky = FramesError::SkyNetwork {
            path: secret.into(),
            source: "no".into(),
        };
        for e in [
            PipelineError::Network(weights.into()),
            PipelineError::Frames(sky),
        ] {
            let JobError::Failed(_, reason) = JobError::from(e) else {
                panic!()
            };
            assert!(!reason.contains("secret"), "{reason}");
        }
        let read = "cannot read \"/srv/secret/skyseg.onnx\": gone, \"a/b\"";
        assert_eq!(
            without_paths(read),
            "cannot read \"skyseg.onnx\": gone, \"a/b\""
        );
    }

    #[test]
    fn a_client_of_the_service_is_advised_in_terms_of_its_requests() {
        let errors = [
            PipelineError::OutOfMemory {
                frames: 300,
                width: 518,
                height: 392,
            },
            PipelineError::Glb(GlbError::TooLarge { bytes: 1 << 33 }),
        ];
        for e in errors {
            let values = e.to_string();
            let JobError::Failed(_, reason) = JobError::from(e) else {
                panic!("{values}")
            };
            assert!(reason.starts_with(&values), "{reason}");
            assert!(
                reason.len() > values.len() && !reason.contains("--"),
                "{reason}"
            );
        }
    }
}
