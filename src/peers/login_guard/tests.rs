use tokio::sync::oneshot::Receiver;

use super::{
    lane::REMEMBERED,
    queue::{ADDRESS_FACTOR, AT_ONCE},
    *,
};

fn block(n: u32) -> Block {
    Block::of(std::net::IpAddr::from(n.to_be_bytes()))
}

/// A queue with its own clock, in which every check takes a millisecond.
struct Bench {
    queue: Queue,
    now: Instant,
    open: Vec<(u64, String, u32, bool, Receiver<bool>)>,
    /// Name, address and time of each check.
    checked: Vec<(String, u32, Duration)>,
    refused: usize,
    start: Instant,
}

impl Bench {
    fn new(settings: LoginSettings) -> Self {
        let start = Instant::now();
        Self {
            queue: Queue::new(settings, Duration::ZERO),
            now: start,
            start,
            open: Vec::new(),
            checked: Vec::new(),
            refused: 0,
        }
    }

    fn arrive(&mut self, name: &str, from: u32, known: bool, good: bool) {
        let attempt = Attempt {
            name: name.to_owned(),
            block: block(from),
            known,
        };
        let (id, verdict) = self.queue.arrive(attempt, self.now);
        self.open.push((id, name.to_owned(), from, good, verdict));
    }

    /// Runs until nothing waits or the time is over.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while !self.open.is_empty() && self.now < end {
            let mut ended = Vec::new();
            for (id, name, from, good, mut verdict) in std::mem::take(&mut self.open) {
                match verdict.try_recv() {
                    Ok(true) => {
                        let at = self.now - self.start;
                        self.checked.push((name, from, at));
                        ended.push((id, good));
                    }
                    Ok(false) => self.refused += 1,
                    Err(_) => self.open.push((id, name, from, good, verdict)),
                }
            }
            assert!(ended.len() <= AT_ONCE);
            self.now += Duration::from_millis(1);
            for (id, good) in ended {
                self.queue.end(id, good, None, self.now);
            }
            self.queue.run(self.now);
        }
    }

    fn checked_from(&self, from: u32) -> Vec<Duration> {
        let own = self.checked.iter().filter(|(_, other, _)| *other == from);
        own.map(|(_, _, at)| *at).collect()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn wrong_passwords_cost_more_and_more_and_then_the_longest_delay_each() {
    let s = LoginSettings::default();
    let mut bench = Bench::new(s.clone());
    for _ in 0..s.until_slow + 2 {
        bench.arrive("ann", 1, false, false);
        bench.run(MINUTE);
    }
    let times: Vec<_> = bench.checked.iter().map(|(_, _, at)| *at).collect();
    let gaps: Vec<_> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps[..2].iter().all(|gap| *gap < s.delay), "{gaps:?}");
    assert!(gaps[2..].is_sorted() && gaps[2] >= s.delay, "{gaps:?}");
    assert!(gaps[9..].iter().all(|gap| *gap >= s.max_delay), "{gaps:?}");
    assert_eq!(bench.refused, 0);
    // Other accounts are as quick as before, and this one is once the failures are forgotten.
    bench.arrive("ben", 2, false, true);
    let before = bench.now;
    bench.run(MINUTE);
    assert!(bench.now - before < s.delay);
    bench.now += s.pause + s.max_delay;
    bench.arrive("ann", 1, false, true);
    let before = bench.now;
    bench.run(MINUTE);
    assert!(bench.now - before < s.delay);
}

#[test]
fn a_burst_is_compared_no_more_often_than_the_limit_says() {
    for (delay, addresses) in [(250, 1), (250, 8), (0, 1), (0, 8)] {
        let s = LoginSettings {
            delay: Duration::from_millis(delay),
            ..LoginSettings::default()
        };
        let mut bench = Bench::new(s.clone());
        for i in 0..32 * addresses {
            bench.arrive("ann", i % addresses, false, false);
        }
        bench.run(2 * s.max_wait);
        let compared = bench.checked.len();
        assert!(
            compared <= s.until_slow as usize,
            "{compared} of {addresses} addresses"
        );
        assert_eq!(compared + bench.refused, 32 * addresses as usize);
        assert_eq!(bench.queue.waiting(), 0);
    }
}

#[test]
fn an_owner_gets_in_while_the_account_is_attacked_from_many_addresses() {
    let s = LoginSettings::default();
    let mut bench = Bench::new(s.clone());
    let mut owner = Duration::ZERO;
    for round in 0..20 {
        for i in 10..18 {
            for _ in 0..32 {
                bench.arrive("ann", i, false, false);
            }
        }
        if round == 10 {
            owner = bench.now - bench.start;
            // From a new address: within two turns of the slow lane.
            bench.arrive("ann", 1, false, true);
            // From a known one: at once.
            bench.arrive("ann", 2, true, true);
        }
        bench.run(Duration::from_secs(5));
    }
    let known = bench.checked_from(2)[0];
    assert!(known - owner < Duration::from_millis(20), "{known:?}");
    let new = bench.checked_from(1)[0];
    assert!(new - owner <= 2 * s.max_delay, "{new:?}");
}

#[test]
fn made_up_names_do_not_keep_others_of_the_same_address_out() {
    let s = LoginSettings::default();
    let mut bench = Bench::new(s.clone());
    for round in 0..60 {
        for i in 0..10 {
            bench.arrive(&format!("nobody{round}-{i}"), 1, false, false);
        }
        bench.run(Duration::from_secs(1));
    }
    bench.arrive("ann", 1, false, true);
    bench.arrive("ann", 1, true, true);
    let before = bench.now - bench.start;
    bench.run(s.max_wait);
    let ann: Vec<_> = bench
        .checked
        .iter()
        .filter(|(name, _, _)| name == "ann")
        .collect();
    assert!(
        !ann.is_empty() && ann[0].2 - before < Duration::from_millis(20),
        "{ann:?}"
    );
    // And another address does not notice.
    bench.arrive("ben", 2, false, true);
    let before = bench.now - bench.start;
    bench.run(Duration::from_secs(1));
    assert!(bench.checked_from(2)[0] - before < Duration::from_millis(20));
}

#[test]
fn the_one_who_floods_waits_behind_those_who_do_not() {
    let mut bench = Bench::new(LoginSettings::default());
    for i in 0..200 {
        bench.arrive(&format!("nobody{i}"), 1, false, false);
    }
    for i in 0..8 {
        bench.arrive("ben", 10 + i, false, true);
    }
    bench.run(MINUTE);
    let last_other = bench.checked.iter().rposition(|(name, _, _)| name == "ben");
    assert!(last_other < Some(40), "{last_other:?}");
    let limit = (LoginSettings::default().until_slow * ADDRESS_FACTOR) as usize;
    let at_once = bench
        .checked_from(1)
        .iter()
        .filter(|at| at.as_secs() < 1)
        .count();
    assert!(at_once <= limit);
}

#[test]
fn many_good_logins_at_once_are_not_slowed() {
    let mut bench = Bench::new(LoginSettings::default());
    for known in [true, false] {
        for _ in 0..50 {
            bench.arrive("ann", 1, known, true);
        }
    }
    bench.run(MINUTE);
    assert_eq!((bench.checked.len(), bench.refused), (100, 0));
    assert!(bench.now - bench.start < Duration::from_millis(200));
}

#[test]
fn a_good_password_takes_back_its_own_attempt_and_nothing_else() {
    let s = LoginSettings::default();
    let mut bench = Bench::new(s.clone());
    for _ in 0..8 {
        bench.arrive("ann", 1, false, false);
        bench.run(MINUTE);
    }
    bench.arrive("ann", 2, false, true);
    bench.run(MINUTE);
    let now = bench.now;
    assert_eq!(bench.queue.accounts.failed(&"ann".to_owned(), now), 8);
    assert_eq!(bench.queue.blocks.failed(&block(1), now), 8);
    assert_eq!(bench.queue.blocks.failed(&block(2), now), 0);
    // Where the owner is known, a good one clears the owner's own slips.
    for good in [false, false, true] {
        bench.arrive("ann", 2, true, good);
        bench.run(MINUTE);
    }
    assert_eq!(
        bench
            .queue
            .pairs
            .failed(&("ann".to_owned(), block(2)), bench.now),
        0
    );
}

#[test]
fn made_up_names_neither_fill_the_memory_nor_push_out_an_account_under_attack() {
    let mut bench = Bench::new(LoginSettings::default());
    for _ in 0..3 {
        bench.arrive("ann", 1, false, false);
        bench.run(MINUTE);
    }
    for i in 0..REMEMBERED as u32 + 10 {
        bench.arrive(&format!("{i}"), 100 + i, false, false);
        bench.run(MINUTE);
    }
    assert!(bench.queue.accounts.len() <= REMEMBERED);
    assert!(bench.queue.blocks.len() <= REMEMBERED);
    assert_eq!(bench.queue.accounts.failed(&"ann".to_owned(), bench.now), 3);
}

#[test]
fn the_longest_times_there_are_do_not_overflow() {
    let mut bench = Bench::new(LoginSettings {
        pause: Duration::MAX,
        delay: Duration::MAX,
        max_delay: Duration::MAX,
        max_wait: Duration::MAX,
        until_slow: 1,
        ..LoginSettings::default()
    });
    for i in 0..20 {
        bench.arrive("ann", i, i % 2 == 0, false);
        bench.run(Duration::from_millis(20));
    }
    assert!(!bench.checked.is_empty());
}

#[tokio::test]
async fn a_connection_that_ends_while_it_waits_leaves_the_queue() {
    let guard = LoginGuard::new(
        LoginSettings {
            until_slow: 1,
            ..LoginSettings::default()
        },
        Arc::default(),
        None,
    );
    guard
        .admit("ann", block(1), false)
        .await
        .unwrap()
        .end(false)
        .await;
    let wait = guard.admit("ann", block(1), false);
    let waited = tokio::time::timeout(Duration::from_millis(20), wait).await;
    assert!(waited.is_err());
    assert_eq!(guard.lock().waiting(), 0);
    // Dropped while it is checked, an attempt counts.
    drop(guard.admit("ben", block(2), false).await.unwrap());
    assert_eq!(
        guard
            .lock()
            .accounts
            .failed(&"ben".to_owned(), Instant::now()),
        1
    );
}

#[tokio::test]
async fn who_waits_is_woken_when_the_turn_comes() {
    let guard = LoginGuard::new(
        LoginSettings {
            delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(16),
            max_wait: Duration::from_secs(3600),
            ..LoginSettings::default()
        },
        Arc::default(),
        None,
    );
    let guard = std::sync::Arc::new(guard);
    // All wait before the first has failed; each gets a turn after the one before, not after the longest wait.
    let all: Vec<_> = (0..40)
        .map(|i| {
            let guard = guard.clone();
            tokio::spawn(async move {
                let turn = guard.admit(&format!("nobody{i}"), block(1), false).await;
                tokio::task::yield_now().await;
                turn.unwrap().end(false).await;
            })
        })
        .collect();
    for task in all {
        let ended = tokio::time::timeout(Duration::from_secs(60), task).await;
        ended.unwrap().unwrap();
    }
}
