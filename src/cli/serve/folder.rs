//! The folder of the files at the start: waited for, locked, and looked at.

use std::{pin::Pin, time::Duration};

use crate::store::{Store, StoreError, StoreLock};

/// Time between two looks for a folder that is not there.
const PAUSE: Duration = Duration::from_secs(2);

/// Waits until the folder of the files is there, as for a disk that is mounted late, and locks it. `None` when the process is
/// asked to stop before.
///
/// # Errors
/// When the folder belongs to another database, another server uses it, or it cannot be used.
pub(super) async fn wait_and_lock(
    store: &Store,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<StoreLock>, StoreError> {
    let mut told = None;
    loop {
        match store.bind_folder() {
            Ok(()) => break,
            Err(e @ (StoreError::NoFolder { .. } | StoreError::FilesMissing { .. })) => {
                // Once, and again when the reason is another.
                let reason = e.to_string();
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(
                        "waiting for the files: {reason}; after a restore, `vggt check --adopt` makes this folder the one"
                    );
                    told = Some(reason);
                }
            }
            Err(e) => return Err(e),
        }
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
