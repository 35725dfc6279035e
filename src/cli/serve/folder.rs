//! The folder or the bucket of the files at the start: waited for, locked, and looked at.

use std::{pin::Pin, time::Duration};

use crate::store::{Store, StoreError, StoreLock};

/// Time between two looks for a folder that is not there, or a bucket that does not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// Waits until the folder of the files is there, as for a disk that is mounted late, or their bucket answers, and locks it. `None` when
/// the process is asked to stop before.
///
/// # Errors
/// When the files belong to another database, another server uses them, or they cannot be used.
pub(super) async fn wait_and_lock(
    store: &Store,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> anyhow::Result<Option<StoreLock>> {
    let mut told: Option<String> = None;
    let mut tell = |reason: String| {
        // Once, and again when the reason is another.
        if told.as_ref() != Some(&reason) {
            tracing::warn!("waiting for the files: {reason}");
            told = Some(reason);
        }
    };
    let mut is_first = true;
    loop {
        // A bucket is asked again and again before that is an error.
        let asked = store.clone();
        let mut asking = tokio::task::spawn_blocking(move || asked.bind_folder());
        let bound = loop {
            tokio::select! {
                bound = &mut asking => break bound?,
                () = tokio::time::sleep(PAUSE), if is_first => {
                    is_first = false;
                    tell(format!("\"{}\" does not answer", store.location().display()));
                }
                () = stop.as_mut() => return Ok(None),
            }
        };
        match bound {
            Ok(()) => break,
            Err(e @ (StoreError::NoFolder { .. } | StoreError::FilesMissing { .. })) => {
                tell(format!(
                    "{e}; after a restore, `vggt check --adopt` makes this folder the one"
                ));
            }
            Err(StoreError::Bucket(e)) if e.is_passing() => tell(e.to_string()),
            Err(e) => return Err(e.into()),
        }
        is_first = false;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.as_mut() => return Ok(None),
        }
    }
    if told.is_some() {
        tracing::info!("the files are there");
    }
    let lock = store.join_folder()?;
    let open = store.open_to_others();
    if !open.is_empty() {
        let paths: Vec<_> = open.iter().map(|p| p.display().to_string()).collect();
        tracing::warn!(
            "other users of this machine may look into {}; `chmod go-rwx` changes that",
            paths.join(", ")
        );
    }
    Ok(Some(lock))
}
