//! Failed logins make further ones slower, by account and by address. Nobody is locked out: where an account is under
//! attack, logins from addresses that it is not known from are checked one at a time.
//!
//! With a [`Ledger`] several front ends count together: what the queue starts is checked once the ledger has counted it too.

mod lane;
mod ledger;
mod queue;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

pub use self::ledger::{Change, Ledger, Standing};
use self::{
    lane::Lane,
    ledger::{Answer, HANDICAP, Shared},
    queue::{Attempt, Queue},
};
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
pub(crate) struct LoginGuard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    /// Notified when an attempt has ended, which moves the turns of those that wait.
    ended: Notify,
    metrics: Arc<Metrics>,
    shared: Option<Shared>,
}

impl LoginGuard {
    /// With a `ledger` other front ends count too.
    pub(crate) fn new(
        settings: LoginSettings,
        metrics: Arc<Metrics>,
        ledger: Option<Arc<dyn Ledger>>,
    ) -> Self {
        let handicap = ledger.as_ref().map_or(Duration::ZERO, |_| HANDICAP);
        Self(Arc::new(Inner {
            queue: Mutex::new(Queue::new(settings, handicap)),
            ended: Notify::new(),
            metrics,
            shared: ledger.map(Shared::new),
        }))
    }

    /// Waits for the turn of an attempt, or returns `None` when it is refused unchecked. `known` is true when the account has
    /// logged in from this address before.
    pub(crate) async fn admit(&self, name: &str, block: Block, known: bool) -> Option<Turn> {
        let attempt = Attempt {
            name: short(name).to_owned(),
            block,
            known,
        };
        let inner = &self.0;
        let (id, mut verdict) = inner.lock().arrive(attempt.clone(), Instant::now());
        // Leaves the queue when the connection ends in the meantime.
        let mut turn = Turn {
            guard: inner.clone(),
            id,
            attempt,
            is_shared: false,
            is_finished: false,
        };
        loop {
            let ended = inner.ended.notified();
            tokio::pin!(ended);
            // From here on: an attempt that ends before the wait begins counts as well.
            ended.as_mut().enable();
            let now = Instant::now();
            let due = inner.lock().due(id, now).unwrap_or(now);
            tokio::select! {
                biased;
                checked = &mut verdict => {
                    if !checked.is_ok_and(|checked| checked) {
                        break;
                    }
                    let answer;
                    (turn, answer) = turn.share().await?;
                    let Some(Answer::Busy(lanes)) = answer else {
                        return Some(turn);
                    };
                    let postponed = inner.lock().postpone(id, lanes, Instant::now());
                    inner.ended.notify_waiters();
                    verdict = postponed?;
                }
                () = sleep_until(due) => inner.lock().run(Instant::now()),
                () = ended => {}
            }
        }
        inner.metrics.login_failed(LoginFailure::Refused);
        None
    }

    #[cfg(test)]
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The counts are consistent after a panic elsewhere.
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Ends an attempt, whether it waits or is checked, and tells those that wait.
    fn end(&self, id: u64, good: bool, told: Option<[Lane; 2]>) {
        let now = Instant::now();
        let mut queue = self.lock();
        match good {
            true => queue.end(id, true, told, now),
            false => queue.leave(id, told, now),
        }
        drop(queue);
        self.ended.notify_waiters();
    }
}

/// An attempt that is being checked. Dropped without [`Turn::end`], it counts as failed.
#[derive(Debug)]
pub(crate) struct Turn {
    guard: Arc<Inner>,
    id: u64,
    attempt: Attempt,
    /// True once it is counted in the ledger.
    is_shared: bool,
    is_finished: bool,
}

impl Turn {
    /// Records the outcome; `good` takes the attempt back. Returns once the next attempt of the same peer finds it, at whichever front end.
    pub(crate) async fn end(mut self, good: bool) {
        if !good {
            self.guard.metrics.login_failed(LoginFailure::Wrong);
        }
        if let Some(ending) = self.finish(good) {
            // It does not panic.
            let _ = ending.await;
        }
    }

    /// Asks the ledger whether the attempt may be checked, and returns its answer; `None` without one, or while it does not answer.
    async fn share(mut self) -> Option<(Self, Option<Answer>)> {
        if self.guard.shared.is_none() {
            return Some((self, None));
        }
        // A task, which goes on when the connection ends in the meantime: what was counted is ended, then, as the turn is dropped.
        let asking = tokio::spawn(async move {
            let rates = self.guard.lock().rates(&self.attempt);
            let answer = match &self.guard.shared {
                Some(shared) => shared.start(&self.attempt, rates).await,
                None => None,
            };
            self.is_shared = matches!(answer, Some(Answer::Started));
            (self, answer)
        });
        // It does not panic.
        asking.await.ok()
    }

    /// Ends the attempt, in the ledger first: its place here is taken until all front ends know the outcome.
    fn finish(&mut self, good: bool) -> Option<JoinHandle<()>> {
        let (guard, id) = (self.guard.clone(), self.id);
        self.is_finished = true;
        let (true, Ok(runtime)) = (self.is_shared, Handle::try_current()) else {
            guard.end(id, good, None);
            return None;
        };
        let attempt = self.attempt.clone();
        Some(runtime.spawn(async move {
            let rates = guard.lock().rates(&attempt);
            let told = match &guard.shared {
                Some(shared) => shared.end(&attempt, rates, good).await,
                None => None,
            };
            guard.end(id, good, told);
        }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_finished {
            self.finish(false);
        }
    }
}

fn short(name: &str) -> &str {
    let mut end = name.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
