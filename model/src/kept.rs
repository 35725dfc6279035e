//! A value that is made once for a key and kept until another key is asked for.

use std::sync::{Arc, Mutex, PoisonError};

/// The value of the last key.
#[derive(Debug)]
pub(crate) struct Kept<K, T>(Mutex<Option<(K, Arc<T>)>>);

impl<K: PartialEq, T> Kept<K, T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns the value of `key`, which `make` makes if another is kept.
    ///
    /// # Errors
    /// That of `make`.
    pub(crate) fn get_or_make<E>(
        &self,
        key: K,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = kept().as_ref().filter(|(of, _)| *of == key) {
            return Ok(Arc::clone(value));
        }
        // Not under the lock: while this thread waits for the others of the pool, it may be given another pass, which asks for the
        // same value. Should both make it, one copy is dropped.
        let value = Arc::new(make()?);
        *kept() = Some((key, Arc::clone(&value)));
        Ok(value)
    }
}
