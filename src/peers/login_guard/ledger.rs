//! Failed logins that several front ends count together.
//!
//! A ledger only keeps the counts. Whether a lane is free is decided by the same rules as in one process, on counts that nobody else
//! changes in between.

use std::{
    error::Error,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    lane::{Lane, Rate},
    queue::Attempt,
};
use crate::peers::later;

/// How much later than others an address with failures has its turn in the slow lane of an account: an owner who waits at one front end
/// passes the addresses of an attack at another. More than a ledger takes to answer, and little beside the 8 s between two turns.
pub(super) const HANDICAP: Duration = Duration::from_millis(100);

/// Pause before a lane in which another front end checks a password is looked at again. A check takes some 15 ms.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// A check that has not ended after this time is one of a process that is gone.
const CHECK_MAX: Duration = Duration::from_secs(10);

/// How long a login waits for the ledger.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a ledger that has failed is not asked.
const PAUSE: Duration = Duration::from_secs(5);

/// Bytes of the hash of a name: few enough to read, too many to find another name with the same ones.
const HASH: usize = 16;

/// Recent logins under one key of a [`Ledger`]. Times are relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Failed logins.
    pub failed: u32,
    /// Logins that are being checked.
    pub checking: u32,
    /// Time since the last failed one.
    pub since_failed: Duration,
    /// Time since the last check began.
    pub since_started: Duration,
    /// Time until the next one may be checked.
    pub wait: Duration,
    /// Time after which all this is forgotten.
    pub keep: Duration,
}

/// Changes what is noted under some keys.
pub type Change<'a> = dyn FnMut(&mut [Option<Standing>]) + 'a;

/// Counts of logins that several front ends share.
pub trait Ledger: Debug + Send + Sync {
    /// Lets `change` change what is noted under these keys, `None` where nothing is. Nobody else reads or changes it in between.
    /// Blocks.
    ///
    /// # Errors
    /// When it cannot be read or written; nothing has changed then.
    fn update(
        &self,
        keys: &[String],
        change: &mut Change<'_>,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// What a ledger says to an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// It is counted as being checked.
    Started,
    /// Its lanes are not free; they are like this.
    Busy([Lane; 2]),
}

/// A ledger, and whether it answers.
#[derive(Debug)]
pub(super) struct Shared {
    ledger: Arc<dyn Ledger>,
    /// Until when it is not asked; `None` while it answers.
    down_until: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            ledger,
            down_until: Mutex::default(),
        }
    }

    /// Counts an attempt as being checked if its lanes are free; `None` while the ledger does not answer.
    pub(super) async fn start(&self, attempt: &Attempt, rates: [Rate; 2]) -> Option<Answer> {
        // From where an account is known nothing is held against the address.
        let gates = if attempt.known { 1 } else { 2 };
        let change = move |lanes: &mut [Lane; 2], now| {
            let mut own = rates.iter().zip(&*lanes).take(gates);
            if own.all(|(rate, lane)| lane.is_free(rate, now)) {
                for lane in lanes {
                    lane.checking = lane.checking.saturating_add(1);
                }
                return Answer::Started;
            }
            let mut told = *lanes;
            for (lane, rate) in told.iter_mut().zip(&rates).take(gates) {
                if !lane.is_free(rate, now) {
                    lane.not_before = lane.not_before.max(later(now, BUSY_PAUSE));
                }
            }
            Answer::Busy(told)
        };
        self.update(attempt, rates, true, change).await
    }

    /// Ends what [`Shared::start`] began, and returns how the lanes are then.
    pub(super) async fn end(
        &self,
        attempt: &Attempt,
        rates: [Rate; 2],
        good: bool,
    ) -> Option<[Lane; 2]> {
        let known = attempt.known;
        let change = move |lanes: &mut [Lane; 2], now| {
            for (lane, rate) in lanes.iter_mut().zip(&rates) {
                lane.end(rate, good, now);
            }
            if good && known {
                lanes[0].forgive();
            }
            *lanes
        };
        self.update(attempt, rates, false, change).await
    }

    async fn update<T: Send + 'static>(
        &self,
        attempt: &Attempt,
        rates: [Rate; 2],
        starts: bool,
        mut change: impl FnMut(&mut [Lane; 2], Instant) -> T + Send + 'static,
    ) -> Option<T> {
        if self.lock().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let (ledger, keys) = (self.ledger.clone(), keys(attempt));
        let asked = spawn_blocking(move || {
            let mut answer = None;
            ledger.update(&keys, &mut |standings| {
                answer = apply(standings, rates, starts, &mut change);
            })?;
            answer.ok_or_else(|| "it has lost a row".into())
        });
        let answer: Result<T, Box<dyn Error + Send + Sync>> = match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(e)) => Err(e.into()),
            Err(e) => Err(e.into()),
        };
        let mut down_until = self.lock();
        match answer {
            Ok(answer) => {
                if down_until.take().is_some() {
                    tracing::info!("failed logins are counted together with other servers again");
                }
                Some(answer)
            }
            Err(e) => {
                if down_until.is_none() {
                    tracing::warn!("failed logins are counted in this process alone: {e}");
                }
                *down_until = Some(later(Instant::now(), PAUSE));
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.down_until.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Changes the lanes that are noted in a ledger.
fn apply<T>(
    standings: &mut [Option<Standing>],
    rates: [Rate; 2],
    starts: bool,
    change: &mut impl FnMut(&mut [Lane; 2], Instant) -> T,
) -> Option<T> {
    let [own, block] = standings else {
        return None;
    };
    let now = Instant::now();
    let mut lanes = [lane(*own, &rates[0], now), lane(*block, &rates[1], now)];
    let before = lanes;
    let answer = change(&mut lanes, now);
    for (i, noted) in [own, block].into_iter().enumerate() {
        let has_started = starts && lanes[i].checking > before[i].checking;
        let since_started = match *noted {
            Some(noted) if !has_started => noted.since_started,
            _ => Duration::ZERO,
        };
        *noted = standing(&lanes[i], &rates[i], since_started, now);
    }
    Some(answer)
}

fn lane(standing: Option<Standing>, rate: &Rate, now: Instant) -> Lane {
    let fresh = Lane::fresh(now);
    let Some(noted) = standing else { return fresh };
    let lane = Lane {
        failed: noted.failed,
        checking: match noted.since_started > CHECK_MAX {
            true => 0,
            false => noted.checking,
        },
        // Longer ago than the clock of this machine can tell: longer than it runs.
        last: now.checked_sub(noted.since_failed).unwrap_or(now),
        not_before: later(now, noted.wait),
    };
    match lane.is_over(rate, now) {
        true => fresh,
        false => lane,
    }
}

fn standing(lane: &Lane, rate: &Rate, since_started: Duration, now: Instant) -> Option<Standing> {
    let since_failed = now.saturating_duration_since(lane.last);
    let remembered = match lane.failed {
        0 => Duration::ZERO,
        _ => rate.forget.saturating_sub(since_failed),
    };
    let checked = match lane.checking {
        0 => Duration::ZERO,
        _ => CHECK_MAX,
    };
    (!lane.is_over(rate, now)).then(|| Standing {
        failed: lane.failed,
        checking: lane.checking,
        since_failed,
        since_started,
        wait: lane.not_before.saturating_duration_since(now),
        keep: remembered.max(checked),
    })
}

/// Returns the keys of the lanes of an attempt: of the account or the pair, and of the address. Names are those of strangers, and may be
/// passwords in the wrong field.
fn keys(attempt: &Attempt) -> [String; 2] {
    let hash = Sha256::digest(&attempt.name);
    let name: String = hash[..HASH]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let block = attempt.block;
    let own = match attempt.known {
        true => format!("pair/{name}/{block}"),
        false => format!("account/{name}"),
    };
    [own, format!("address/{block}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        free: 2,
        limit: 10,
        delay: Duration::from_millis(250),
        max_delay: Duration::from_secs(8),
        forget: Duration::from_secs(300),
    };

    #[test]
    fn a_lane_is_in_the_ledger_as_it_is_here() {
        let now = Instant::now();
        let noted = Standing {
            failed: 4,
            checking: 1,
            since_failed: Duration::from_millis(100),
            since_started: Duration::from_millis(50),
            wait: Duration::from_millis(400),
            keep: Duration::from_millis(299_900),
        };
        let there = lane(Some(noted), &RATE, now);
        assert_eq!(
            standing(&there, &RATE, noted.since_started, now),
            Some(noted)
        );
        assert!(!there.is_free(&RATE, now));
        assert!(lane(None, &RATE, now).is_free(&RATE, now));
        // What is long ago is forgotten, also where this machine has just been started.
        let old = Standing {
            checking: 0,
            since_failed: Duration::from_secs(86_400 * 365 * 20),
            ..noted
        };
        let there = lane(Some(old), &RATE, now);
        assert!(there.failed == 0 || there.last == now);
    }

    #[test]
    fn a_check_of_a_process_that_is_gone_ends() {
        let now = Instant::now();
        let noted = Standing {
            failed: 4,
            checking: 3,
            since_failed: Duration::from_secs(11),
            since_started: Duration::from_secs(11),
            wait: Duration::ZERO,
            keep: Duration::from_secs(1),
        };
        let there = lane(Some(noted), &RATE, now);
        assert!(there.checking == 0 && there.failed == 4);
        assert!(there.is_free(&RATE, now));
    }

    #[test]
    fn keys_have_no_name_in_them_and_a_length() {
        let attempt = |known| Attempt {
            name: "correct horse ".repeat(20),
            block: crate::peers::Block::of([192, 0, 2, 7].into()),
            known,
        };
        let [account, address] = keys(&attempt(false));
        let [pair, same] = keys(&attempt(true));
        assert_eq!((address.as_str(), &address), ("address/192.0.2.7", &same));
        assert!(account.starts_with("account/") && account.len() == 8 + 2 * HASH);
        assert_eq!(pair, format!("pair/{}/192.0.2.7", &account[8..]));
    }
}
