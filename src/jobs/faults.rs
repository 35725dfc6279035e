//! Faults that pass: what stopped a job may be gone at the next try.

use std::{
    error::Error,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{pipeline::PipelineError, store::StoreError, system::TOO_MANY_FILES};

/// Pauses before further tries. The first are short, for a database that is locked and a disk that somebody is clearing;
/// the last leave the device to other jobs. About 40 minutes in all.
const PAUSES_S: [u64; 8] = [5, 15, 30, 60, 120, 300, 600, 1200];

/// Returns the pause before the next try of a job that was stopped `tries` times before; `None` when it was tried long
/// enough. `total` limits the sum of the pauses.
pub(super) fn pause(tries: u32, total: Duration) -> Option<Duration> {
    let tries = tries as usize;
    let sum: u64 = PAUSES_S.iter().take(tries + 1).sum();
    let next = Duration::from_secs(*PAUSES_S.get(tries)?);
    (Duration::from_secs(sum) <= total).then_some(next)
}

/// Returns true for an error of the operating system that may be gone at the next try.
pub(super) fn passes(e: &io::Error) -> bool {
    let by_kind = matches!(
        e.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StaleNetworkFileHandle
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
            | io::ErrorKind::ResourceBusy
    );
    by_kind
        || e.raw_os_error()
            .is_some_and(|n| TOO_MANY_FILES.contains(&n))
}

/// Returns true when an error, or a cause of it, is one of the operating system that may be gone at the next try.
pub(super) fn has_passing_cause(e: &PipelineError) -> bool {
    has_cause(e, passes)
}

/// Returns true when a file does not exist.
pub(super) fn is_missing(e: &PipelineError) -> bool {
    has_cause(e, |e| e.kind() == io::ErrorKind::NotFound)
}

fn has_cause(e: &PipelineError, is: impl Fn(&io::Error) -> bool) -> bool {
    // A transparent error is not among its own causes.
    if let PipelineError::Write(e) = e {
        return is(e);
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(e);
    while let Some(e) = cause {
        if e.downcast_ref().is_some_and(&is) {
            return true;
        }
        cause = e.source();
    }
    false
}

/// Runs what must not end the caller, such as writing a line of the log: a panic in it is dropped.
pub(super) fn quietly(run: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(run));
}

/// Returns true when the store may work at the next try: the disk is full, the database is locked or out of reach, or a
/// folder is missing.
pub(super) fn store_passes(e: &StoreError) -> bool {
    match e {
        // A folder that is not mounted.
        StoreError::Write { source, .. } | StoreError::Files { source, .. }
            if passes(source) || source.kind() == io::ErrorKind::NotFound =>
        {
            true
        }
        e => e.is_passing(),
    }
}

#[cfg(test)]
mod tests {
    use vggt_model::weights::WeightsError;

    use super::*;

    #[test]
    fn pauses_grow_until_the_total_is_reached() {
        let all = Duration::from_secs(PAUSES_S.iter().sum());
        let pauses: Vec<u64> = (0..10)
            .map_while(|tries| pause(tries, all))
            .map(|pause| pause.as_secs())
            .collect();
        assert_eq!(pauses, PAUSES_S);
        assert_eq!(pause(0, Duration::ZERO), None);
        assert_eq!(pause(1, Duration::from_secs(20)).unwrap().as_secs(), 15);
        assert_eq!(pause(2, Duration::from_secs(20)), None);
    }

    #[test]
    fn only_faults_of_the_surroundings_pass() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        assert!(has_passing_cause(&PipelineError::Write(full())));
        let weights = WeightsError::Io {
            path: "a".into(),
            source: io::Error::from_raw_os_error(TOO_MANY_FILES[0]),
        };
        let network = vggt_model::Error::Weights(weights);
        assert!(has_passing_cause(&PipelineError::Network(network)));
        assert!(!has_passing_cause(&PipelineError::Cancelled));
        assert!(!passes(&io::ErrorKind::InvalidData.into()));
        let write = |source| StoreError::Write {
            path: "a".into(),
            source,
        };
        assert!(store_passes(&write(full())));
        assert!(!store_passes(&StoreError::JobOver(1)));
    }
}
