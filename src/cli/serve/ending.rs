//! How `vggt serve` and `vggt worker` end.

use std::time::Duration;

use tokio::{runtime::Runtime, sync::watch};

use crate::{atomic_file, store::Store};

/// Completes when the process is asked to `stop`, or has `lost` the database to another one.
pub(super) async fn stopped_or_lost(
    stop: impl Future<Output = ()>,
    mut lost: watch::Receiver<bool>,
) {
    let until_lost = async {
        // Nobody can say so any more.
        if lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = stop => {}
        () = until_lost => {
            tracing::error!("another vggt process has taken the database for itself: this one ends");
        }
    }
}

/// Removes what this process has on the disk for itself.
///
/// # Errors
/// When it has `lost` the database.
pub(super) fn clean_up(
    runtime: Runtime,
    store: &Store,
    lost: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    // A job that did not stop in time must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    atomic_file::remove_unfinished();
    store.remove_scratch();
    if *lost.borrow() {
        anyhow::bail!("another vggt process has taken the database for itself");
    }
    Ok(())
}
