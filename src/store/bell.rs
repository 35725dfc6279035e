//! What is rung when something has changed that others wait for.

use std::{
    fmt,
    sync::{Mutex, MutexGuard},
};

type Ear = Box<dyn Fn() + Send>;

/// Calls everybody who listens.
#[derive(Default)]
pub struct Bell(Mutex<Vec<Ear>>);

impl Bell {
    /// Has `ear` called at each ring from now on. It must not block.
    pub fn listen(&self, ear: impl Fn() + Send + 'static) {
        self.lock().push(Box::new(ear));
    }

    /// Calls all.
    pub fn ring(&self) {
        for ear in self.lock().iter() {
            ear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ear>> {
        // A push is one call: the list is whole after a panic elsewhere.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bell").field(&self.lock().len()).finish()
    }
}
