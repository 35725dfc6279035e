//! A flag that ends a running pass from another thread.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use candle_core::{Result, bail};

thread_local! {
    /// The flag of the pass that this thread runs.
    static CURRENT: RefCell<Option<StopFlag>> = const { RefCell::new(None) };
}

/// A flag that ends a running pass from another thread; clones share it. Once set it stays set.
///
/// Steps between layers are too far apart with many frames: a single layer over thousands of frames takes minutes on a CPU. So
/// attention and linear layers on the CPU look at the flag of their pass as they go.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Returns a flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the pass to end.
    pub fn stop(&self) {
        // The flag alone is shared: nothing else has to be visible with it.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true once the pass was asked to end.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs `pass`, and lets the operations that this thread calls look at the flag.
    pub(crate) fn watch<T>(&self, pass: impl FnOnce() -> T) -> T {
        /// Puts the flag of the surrounding pass back, also after a panic.
        struct Restore(Option<StopFlag>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())));
        pass()
    }

    /// Returns the flag of the pass that this thread runs; one that is never set when there is none. Tasks of an operation
    /// run in other threads and take it along.
    pub(crate) fn current() -> Self {
        CURRENT.with_borrow(|flag| flag.clone().unwrap_or_default())
    }
}

/// Returns true when the pass that this thread runs was asked to end.
pub(crate) fn is_stopped() -> bool {
    CURRENT.with_borrow(|flag| flag.as_ref().is_some_and(StopFlag::is_stopped))
}

/// Ends an operation whose pass was asked to end. Its result may be incomplete by then.
pub(crate) fn check() -> Result<()> {
    if is_stopped() {
        bail!("the pass was stopped")
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_see_the_flag_of_their_own_pass() {
        let (outer, inner) = (StopFlag::new(), StopFlag::new());
        inner.stop();
        assert!(!is_stopped());
        outer.watch(|| {
            inner.watch(|| assert!(is_stopped() && check().is_err()));
            assert!(!is_stopped());
            outer.clone().stop();
            assert!(is_stopped() && StopFlag::current().is_stopped());
        });
        assert!(!is_stopped() && !StopFlag::current().is_stopped());
    }

    #[test]
    fn a_panic_leaves_no_flag_behind() {
        let flag = StopFlag::new();
        flag.stop();
        let panicked = std::panic::catch_unwind(|| flag.watch(|| panic!("on purpose")));
        assert!(panicked.is_err() && !is_stopped());
    }
}
