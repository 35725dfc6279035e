//! The order in which passwords are checked. Pure: no threads, and the clock is a parameter.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{
    LoginSettings,
    lane::{Lane, Lanes, Rate},
};
use crate::peers::{Block, later};

/// Maximum number of passwords that are checked at the same time: a hash takes 19 MiB and a core for some 15 ms.
pub(super) const AT_ONCE: usize = 4;

/// Attempts of one account from one address that may wait once some failed.
const WAITING: usize = 4;

/// The same for an address that the account is known from, which may be that of a proxy with many people behind it.
const WAITING_KNOWN: usize = 16;

/// Factor of the limits of an address, which many people may share.
pub(super) const ADDRESS_FACTOR: u32 = 4;

/// An address is checked that many times as often as an account at its slowest.
const ADDRESS_SPEED: u32 = 16;

/// The same for an account from an address that it is known from.
const KNOWN_SPEED: u32 = 4;

/// Who wants to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) name: String,
    pub(super) block: Block,
    /// True when the account has logged in from this address before.
    pub(super) known: bool,
}

impl Attempt {
    fn pair(&self) -> (String, Block) {
        (self.name.clone(), self.block)
    }
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    attempt: Attempt,
    /// Time at which it is refused.
    until: Instant,
    /// Receives true when it is checked and false when it is refused.
    verdict: oneshot::Sender<bool>,
}

#[derive(Debug)]
struct Running {
    id: u64,
    attempt: Attempt,
    /// As of the attempt when it waited.
    until: Instant,
}

/// Waiting and running attempts, and the failures that slow them down.
///
/// An attempt from an address that the account is known from only shares a lane with others of the same pair. Any other
/// attempt needs its turn in the lane of the account and in that of the address. Addresses with the fewest failures go first:
/// an owner with a new address passes the addresses of an attack.
#[derive(Debug)]
pub(super) struct Queue {
    settings: LoginSettings,
    pub(super) accounts: Lanes<String>,
    pub(super) blocks: Lanes<Block>,
    pub(super) pairs: Lanes<(String, Block)>,
    /// In the order of arrival. At most one for each connection.
    waiting: Vec<Waiting>,
    running: Vec<Running>,
    /// How much later than others an address with failures has its turn in the slow lane of an account.
    handicap: Duration,
    next_id: u64,
}

impl Queue {
    pub(super) fn new(settings: LoginSettings, handicap: Duration) -> Self {
        let account = Rate {
            free: settings.free,
            limit: settings.until_slow,
            delay: settings.delay,
            max_delay: settings.max_delay,
            forget: settings.pause,
        };
        Self {
            accounts: Lanes::new(account),
            blocks: Lanes::new(Rate {
                free: settings.free.saturating_mul(ADDRESS_FACTOR),
                limit: settings.until_slow.saturating_mul(ADDRESS_FACTOR),
                max_delay: settings.max_delay / ADDRESS_SPEED,
                ..account
            }),
            pairs: Lanes::new(Rate {
                // A phone that sends many things at once is not slowed.
                free: settings.free.max(AT_ONCE as u32 - 1),
                max_delay: settings.max_delay / KNOWN_SPEED,
                ..account
            }),
            waiting: Vec::new(),
            running: Vec::new(),
            handicap,
            next_id: 0,
            settings,
        }
    }

    /// Adds an attempt and returns its number; the receiver tells whether it is checked or refused.
    pub(super) fn arrive(
        &mut self,
        attempt: Attempt,
        now: Instant,
    ) -> (u64, oneshot::Receiver<bool>) {
        let (verdict, receiver) = oneshot::channel();
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.push(Waiting {
            id,
            attempt: attempt.clone(),
            until: later(now, self.settings.max_wait),
            verdict,
        });
        self.run(now);
        self.trim(&attempt, now);
        (id, receiver)
    }

    /// Starts what may start and refuses what has waited too long.
    pub(super) fn run(&mut self, now: Instant) {
        self.refuse(|_, waiting| now >= waiting.until);
        while self.running.len() < AT_ONCE
            && let Some(at) = self.best(now)
        {
            let Waiting {
                id,
                attempt,
                until,
                verdict,
            } = self.waiting.remove(at);
            // One that is gone has nothing to check.
            if verdict.send(true).is_ok() {
                self.start(&attempt, now);
                self.running.push(Running { id, attempt, until });
            }
        }
    }

    /// Returns when [`Queue::run`] is to be called for a waiting attempt, unless another one ends before.
    pub(super) fn due(&self, id: u64, now: Instant) -> Option<Instant> {
        let waiting = self.waiting.iter().find(|waiting| waiting.id == id)?;
        let turn = self.not_before(&waiting.attempt, now);
        Some(if turn > now {
            turn.min(waiting.until)
        } else {
            waiting.until
        })
    }

    /// Returns an attempt that was started to those that wait: its lanes are not free, as a ledger says. Returns what tells of its next
    /// turn.
    pub(super) fn postpone(
        &mut self,
        id: u64,
        told: [Lane; 2],
        now: Instant,
    ) -> Option<oneshot::Receiver<bool>> {
        let Running { attempt, until, .. } = self.stop(id)?;
        let before = self.accounts.failed(&attempt.name, now);
        self.end_in_lanes(&attempt, true, now);
        self.adopt(&attempt, told, now);
        let (verdict, receiver) = oneshot::channel();
        let at = self.waiting.partition_point(|other| other.id < id);
        let waiting = Waiting {
            id,
            attempt: attempt.clone(),
            until,
            verdict,
        };
        self.waiting.insert(at, waiting);
        self.slow_down(&attempt, before, now);
        self.trim(&attempt, now);
        self.run(now);
        Some(receiver)
    }

    /// Ends an attempt that was checked. A good one is taken back, a wrong one stays counted. `told` is what a ledger says of its
    /// lanes then.
    pub(super) fn end(&mut self, id: u64, good: bool, told: Option<[Lane; 2]>, now: Instant) {
        let Some(Running { attempt, .. }) = self.stop(id) else {
            return;
        };
        let before = self.accounts.failed(&attempt.name, now);
        self.end_in_lanes(&attempt, good, now);
        if good {
            // Only what this address did itself: an attack from elsewhere is as slow as before.
            self.pairs.forgive(&attempt.pair());
        }
        if let Some(told) = told {
            self.adopt(&attempt, told, now);
        }
        if !good {
            self.slow_down(&attempt, before, now);
            self.trim(&attempt, now);
        }
        self.run(now);
    }

    /// Removes an attempt whose connection is gone. One that was being checked counts as failed, since its password may have
    /// been compared.
    pub(super) fn leave(&mut self, id: u64, told: Option<[Lane; 2]>, now: Instant) {
        self.waiting.retain(|waiting| waiting.id != id);
        self.end(id, false, told, now);
    }

    /// Returns the speeds of the lanes of an attempt: of the account or the pair, and of the address.
    pub(super) fn rates(&self, attempt: &Attempt) -> [Rate; 2] {
        let own = match attempt.known {
            true => self.pairs.rate,
            false => self.accounts.rate,
        };
        [own, self.blocks.rate]
    }

    fn stop(&mut self, id: u64) -> Option<Running> {
        let at = self.running.iter().position(|other| other.id == id)?;
        Some(self.running.swap_remove(at))
    }

    fn end_in_lanes(&mut self, attempt: &Attempt, good: bool, now: Instant) {
        self.blocks.end(&attempt.block, good, now);
        if attempt.known {
            self.pairs.end(&attempt.pair(), good, now);
        } else {
            self.accounts.end(&attempt.name, good, now);
        }
    }

    fn adopt(&mut self, attempt: &Attempt, [own, block]: [Lane; 2], now: Instant) {
        self.blocks.adopt(&attempt.block, block, now);
        if attempt.known {
            self.pairs.adopt(&attempt.pair(), own, now);
        } else {
            self.accounts.adopt(&attempt.name, own, now);
        }
    }

    /// Returns the position of the next attempt that may be checked.
    fn best(&self, now: Instant) -> Option<usize> {
        let free = self.waiting.iter().enumerate().filter(|(_, waiting)| {
            let Attempt { name, block, known } = &waiting.attempt;
            if *known {
                self.pairs.is_free(&(name.clone(), *block), now)
            } else {
                self.accounts.is_free(name, now)
                    && self.blocks.is_free(block, now)
                    && now >= self.not_before(&waiting.attempt, now)
            }
        });
        let order = |attempt: &Attempt| {
            let same = |other: &&Running| other.attempt.block == attempt.block;
            let running = self.running.iter().filter(same).count();
            (running, self.blocks.failed(&attempt.block, now))
        };
        free.min_by_key(|(at, waiting)| (order(&waiting.attempt), *at))
            .map(|(at, _)| at)
    }

    fn not_before(&self, attempt: &Attempt, now: Instant) -> Instant {
        let Attempt { name, block, known } = attempt;
        if *known {
            return self.pairs.not_before(&(name.clone(), *block), now);
        }
        let mut account = self.accounts.not_before(name, now);
        let is_slow = self.accounts.failed(name, now) >= self.accounts.rate.limit;
        if is_slow && self.blocks.failed(block, now) > 0 {
            account = later(account, self.handicap);
        }
        account.max(self.blocks.not_before(block, now))
    }

    fn start(&mut self, attempt: &Attempt, now: Instant) {
        let Attempt { name, block, known } = attempt;
        self.blocks.start(block, now);
        if *known {
            self.pairs.start(&(name.clone(), *block), now);
        } else {
            self.accounts.start(name, now);
        }
    }

    /// Refuses what waits when an account reaches its limit. What came before is part of the attack, unless its address has
    /// not failed yet; what comes afterwards has its turn in the slow lane.
    fn slow_down(&mut self, failed: &Attempt, before: u32, now: Instant) {
        let (name, limit) = (&failed.name, self.accounts.rate.limit);
        let is_slow = self.accounts.failed(name, now) >= limit;
        if failed.known || before >= limit || !is_slow {
            return;
        }
        self.refuse(|queue, waiting| {
            let other = &waiting.attempt;
            other.name == *name && !other.known && queue.blocks.failed(&other.block, now) > 0
        });
    }

    /// Refuses attempts like this one that are too many to wait.
    fn trim(&mut self, attempt: &Attempt, now: Instant) {
        let Attempt { name, block, known } = attempt.clone();
        let (failed, rate, most) = if known {
            let failed = self.pairs.failed(&(name.clone(), block), now);
            (failed, self.pairs.rate, WAITING_KNOWN)
        } else {
            (
                self.accounts.failed(&name, now),
                self.accounts.rate,
                WAITING,
            )
        };
        if failed < rate.limit.min(rate.free.saturating_add(1)) {
            return;
        }
        let mut of_block = 0;
        self.refuse(|_, waiting| {
            let other = &waiting.attempt;
            let counts = other.name == name && other.known == known && other.block == block;
            of_block += usize::from(counts);
            counts && of_block > most
        });
    }

    fn refuse(&mut self, mut too_many: impl FnMut(&Self, &Waiting) -> bool) {
        let all = std::mem::take(&mut self.waiting);
        let mut kept = Vec::with_capacity(all.len());
        for waiting in all {
            if too_many(self, &waiting) {
                // Nobody may be listening any more.
                let _ = waiting.verdict.send(false);
            } else {
                kept.push(waiting);
            }
        }
        self.waiting = kept;
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
