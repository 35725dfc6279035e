//! Failed logins make further ones slower, by account and by address. Nobody is locked out: where an account is under
//! attack, logins from addresses that it is not known from are checked one at a time.

mod lane;
mod queue;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use self::queue::{Attempt, Queue};
use super::address::Block;
use crate::metrics::{LoginFailure, Metrics};

/// Bytes of a name that are compared; names of accounts are shorter.
const NAME_MAX: usize = 256;

/// Settings of the rate limit for failed logins.
#[derive(Debug, Clone)]
pub struct LoginSettings {
    /// Time in which a new connection must log in.
    pub timeout: Duration,
    /// Failed logins of an account without a delay; an address has four times as many.
    pub free: u32,
    /// Delay after the next failed login; it doubles with each further one.
    pub delay: Duration,
    /// Maximum delay of an account. That of an address is a sixteenth, and a fourth where the account is known from the
    /// address.
    pub max_delay: Duration,
    /// Failed logins from which on the delay is the maximum; an address has four times as many.
    pub until_slow: u32,
    /// Failed logins are forgotten after this time without another.
    pub pause: Duration,
    /// Longest time that an attempt waits for its turn; then it is refused unchecked.
    pub max_wait: Duration,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self {
            // As PostgreSQL's authentication_timeout.
            timeout: Duration::from_secs(60),
            free: 2,
            delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(8),
            until_slow: 10,
            pause: Duration::from_secs(300),
            // Half of the time that clients wait for a reply.
            max_wait: Duration::from_secs(30),
        }
    }
}

/// Failed logins by account and by address, and the attempts that wait.
#[derive(Debug)]
pub(crate) struct LoginGuard {
    queue: Mutex<Queue>,
    /// Notified when an attempt has ended, which moves the turns of those that wait.
    ended: Notify,
    metrics: Arc<Metrics>,
}

impl LoginGuard {
    pub(crate) fn new(settings: LoginSettings, metrics: Arc<Metrics>) -> Self {
        Self {
            queue: Mutex::new(Queue::new(settings)),
            ended: Notify::new(),
            metrics,
        }
    }

    /// Waits for the turn of an attempt, or returns `None` when it is refused unchecked. `known` is true when the account has
    /// logged in from this address before.
    pub(crate) async fn admit(&self, name: &str, block: Block, known: bool) -> Option<Turn<'_>> {
        let attempt = Attempt {
            name: short(name).to_owned(),
            block,
            known,
        };
        let (id, mut verdict) = self.lock().arrive(attempt, Instant::now());
        // Leaves the queue when the connection ends in the meantime.
        let turn = Turn { guard: self, id };
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on: an attempt that ends before the wait begins counts as well.
            ended.as_mut().enable();
            let now = Instant::now();
            let due = self.lock().due(id, now).unwrap_or(now);
            tokio::select! {
                biased;
                checked = &mut verdict => {
                    let checked = checked.is_ok_and(|checked| checked);
                    if !checked {
                        self.metrics.login_failed(LoginFailure::Refused);
                    }
                    return checked.then_some(turn);
                }
                () = sleep_until(due) => self.lock().run(Instant::now()),
                () = ended => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The counts are consistent after a panic elsewhere.
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// An attempt that is being checked. Dropped without [`Turn::end`], it counts as failed.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    guard: &'a LoginGuard,
    id: u64,
}

impl Turn<'_> {
    /// Records the outcome; `good` takes the attempt back.
    pub(crate) fn end(self, good: bool) {
        if !good {
            self.guard.metrics.login_failed(LoginFailure::Wrong);
        }
        // Dropping it tells those that wait.
        self.guard.lock().end(self.id, good, Instant::now());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard.lock().leave(self.id, Instant::now());
        self.guard.ended.notify_waiters();
    }
}

fn short(name: &str) -> &str {
    let mut end = name.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
