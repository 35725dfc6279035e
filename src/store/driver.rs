//! The threads that move the bytes of remote stores, so that callers may block wherever they like.

use std::{io, sync::OnceLock};

use tokio::runtime::{Builder, Runtime};

/// A part of an upload is signed on one of them; the other goes on with the bytes of the database meanwhile.
const THREADS: usize = 2;

/// Returns the runtime of all connections to databases and buckets, which starts with the first call.
pub(super) fn driver() -> Result<&'static Runtime, io::Error> {
    static DRIVER: OnceLock<Runtime> = OnceLock::new();
    if let Some(driver) = DRIVER.get() {
        return Ok(driver);
    }
    let new = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("store")
        .enable_all()
        .build()?;
    Ok(DRIVER.get_or_init(|| new))
}
