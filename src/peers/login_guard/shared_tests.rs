//! Several guards that count in one ledger.

use std::{
    collections::HashMap,
    error::Error,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use super::*;

/// A ledger in memory.
#[derive(Debug, Default)]
struct Memory {
    rows: Mutex<HashMap<String, (Standing, Instant)>>,
    is_broken: AtomicBool,
    asked: AtomicUsize,
}

impl Ledger for Memory {
    fn update(
        &self,
        keys: &[String],
        change: &mut Change<'_>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.asked.fetch_add(1, Relaxed);
        if self.is_broken.load(Relaxed) {
            return Err("it is away".into());
        }
        let mut rows = self.rows.lock().unwrap();
        let now = Instant::now();
        let noted = keys.iter().map(|key| {
            let (noted, at) = rows.get(key)?;
            let age = now - *at;
            (noted.keep > age).then(|| Standing {
                since_failed: noted.since_failed + age,
                since_started: noted.since_started + age,
                wait: noted.wait.saturating_sub(age),
                keep: noted.keep - age,
                ..*noted
            })
        });
        let mut standings: Vec<_> = noted.collect();
        change(&mut standings);
        for (key, standing) in keys.iter().zip(standings) {
            match standing {
                Some(standing) => drop(rows.insert(key.clone(), (standing, now))),
                None => drop(rows.remove(key)),
            }
        }
        Ok(())
    }
}

impl Memory {
    fn failed(&self, key: &str) -> u32 {
        let rows = self.rows.lock().unwrap();
        let found = rows.iter().find(|(name, _)| name.starts_with(key));
        found.map_or(0, |(_, (standing, _))| standing.failed)
    }
}

fn block(n: u8) -> Block {
    Block::of([192, 0, 2, n].into())
}

fn guards(settings: &LoginSettings) -> (Arc<Memory>, [Arc<LoginGuard>; 2]) {
    let ledger = Arc::<Memory>::default();
    let guard = || {
        let guard = LoginGuard::new(settings.clone(), Arc::default(), Some(ledger.clone()));
        Arc::new(guard)
    };
    let guards = [guard(), guard()];
    (ledger, guards)
}

/// Logs in once, and returns true when the password was compared.
async fn try_once(guard: &LoginGuard, from: u8, known: bool, good: bool) -> bool {
    let Some(turn) = guard.admit("ann", block(from), known).await else {
        return false;
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    turn.end(good).await;
    true
}

fn quick() -> LoginSettings {
    LoginSettings {
        delay: Duration::from_millis(1),
        until_slow: 5,
        max_delay: Duration::from_secs(600),
        max_wait: Duration::from_secs(2),
        ..LoginSettings::default()
    }
}

#[tokio::test]
async fn guesses_at_two_front_ends_are_as_few_as_at_one() {
    let settings = quick();
    let (ledger, guards) = guards(&settings);
    let mut all = Vec::new();
    for guard in &guards {
        for i in 0..32 {
            let guard = guard.clone();
            all.push(tokio::spawn(async move {
                try_once(&guard, i % 8, false, false).await
            }));
        }
    }
    let mut compared = 0;
    for one in all {
        compared += u32::from(one.await.unwrap());
    }
    assert_eq!(compared, settings.until_slow);
    assert_eq!(ledger.failed("account/"), settings.until_slow);
    // Neither waits for those who are known.
    for guard in &guards {
        assert!(try_once(guard, 100, true, true).await);
    }
}

#[tokio::test]
async fn a_delay_begins_at_one_front_end_and_holds_at_the_other() {
    let settings = LoginSettings {
        delay: Duration::from_millis(100),
        ..LoginSettings::default()
    };
    let (_, guards) = guards(&settings);
    let mut ends = Vec::new();
    for i in 0..5 {
        assert!(try_once(&guards[i % 2], 1, false, false).await);
        ends.push(Instant::now());
    }
    let gaps: Vec<_> = ends.windows(2).map(|two| two[1] - two[0]).collect();
    // As in one process: none after the first two, then one that doubles.
    let noticed = Duration::from_millis(20);
    assert!(gaps[2] + noticed >= settings.delay, "{gaps:?}");
    assert!(gaps[3] + noticed >= 2 * settings.delay, "{gaps:?}");
}

#[tokio::test]
async fn many_good_logins_at_two_front_ends_are_all_let_in_and_leave_nothing() {
    let (ledger, guards) = guards(&quick());
    let mut all = Vec::new();
    for guard in &guards {
        for i in 0..40 {
            let guard = guard.clone();
            all.push(tokio::spawn(async move {
                try_once(&guard, 1, i % 2 == 0, true).await
            }));
        }
    }
    for one in all {
        assert!(one.await.unwrap());
    }
    assert!(ledger.rows.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_owner_who_succeeds_at_one_front_end_is_forgiven_at_the_other() {
    let (ledger, [one, other]) = guards(&quick());
    for _ in 0..3 {
        assert!(try_once(&one, 1, true, false).await);
    }
    assert_eq!(ledger.failed("pair/"), 3);
    assert!(try_once(&other, 1, true, true).await);
    assert_eq!(ledger.failed("pair/"), 0);
    for _ in 0..4 {
        assert!(try_once(&one, 1, true, false).await);
    }
    let pair = ("ann".to_owned(), block(1));
    assert_eq!(ledger.failed("pair/"), 4);
    assert_eq!(one.lock().pairs.failed(&pair, Instant::now()), 4);
}

#[tokio::test]
async fn an_owner_at_one_front_end_passes_an_attack_at_the_other() {
    let settings = LoginSettings {
        delay: Duration::ZERO,
        max_delay: Duration::from_millis(500),
        until_slow: 2,
        max_wait: Duration::from_secs(60),
        ..LoginSettings::default()
    };
    let (_, [one, other]) = guards(&settings);
    let guesses = Arc::new(AtomicUsize::new(0));
    let attack: Vec<_> = (0..4)
        .map(|from| {
            let (one, guesses) = (one.clone(), guesses.clone());
            tokio::spawn(async move {
                loop {
                    let compared = try_once(&one, from, false, false).await;
                    guesses.fetch_add(usize::from(compared), Relaxed);
                }
            })
        })
        .collect();
    while guesses.load(Relaxed) < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = guesses.load(Relaxed);
    assert!(try_once(&other, 77, false, true).await);
    let passed = guesses.load(Relaxed) - before;
    assert!(passed <= 2, "{passed} guesses were compared first");
    attack.iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn without_its_ledger_a_guard_counts_alone() {
    let settings = quick();
    let (ledger, [guard, _]) = guards(&settings);
    ledger.is_broken.store(true, Relaxed);
    let mut compared = 0;
    for i in 0..20 {
        compared += u32::from(try_once(&guard, i % 2, false, false).await);
        if compared == settings.until_slow {
            break;
        }
    }
    assert_eq!(compared, settings.until_slow);
    let failed = guard
        .lock()
        .accounts
        .failed(&"ann".to_owned(), Instant::now());
    assert_eq!(failed, settings.until_slow);
    assert!(try_once(&guard, 9, true, true).await);
    // It is not asked with each login.
    assert!(ledger.asked.load(Relaxed) <= 2);
}

#[tokio::test]
async fn a_connection_that_ends_while_its_password_is_checked_counts_for_all() {
    let (ledger, [one, _]) = guards(&quick());
    drop(one.admit("ann", block(1), false).await.unwrap());
    while ledger.failed("account/") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // One that ends while the ledger is asked may count, but is not left as being checked.
    let asking = one.admit("ann", block(1), false);
    let _ = tokio::time::timeout(Duration::ZERO, asking).await;
    let is_checked = || {
        let rows = ledger.rows.lock().unwrap();
        rows.values().any(|(standing, _)| standing.checking > 0)
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    while is_checked() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
