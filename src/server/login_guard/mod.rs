//! Rate limiting for failed logins, by account and by address.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Maximum number of accounts and of addresses that are remembered; the oldest are dropped first.
const REMEMBERED: usize = 10_000;

/// Bytes of a name that are compared; names of accounts are shorter.
const NAME_MAX: usize = 256;

/// Settings of the rate limit for failed logins.
#[derive(Debug, Clone)]
pub struct LoginSettings {
    /// Failed logins of an account without a delay; an address has four times as many.
    pub free: u32,
    /// Delay after the next failed login; it doubles with each further one.
    pub delay: Duration,
    /// Maximum delay.
    pub max_delay: Duration,
    /// Failed logins of an account that start the pause; an address has four times as many.
    pub until_pause: u32,
    /// Duration of the pause, in which nobody can log in; failed logins are forgotten after the same time.
    pub pause: Duration,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self {
            free: 2,
            delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(8),
            until_pause: 10,
            pause: Duration::from_secs(300),
        }
    }
}

/// Factor for addresses, which many people may share.
const ADDRESS_FACTOR: u32 = 4;

/// Recent failed logins.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    /// Time before which no further attempt is checked.
    not_before: Instant,
}

#[derive(Debug, Default)]
struct Tables {
    accounts: HashMap<String, Failures>,
    addresses: HashMap<IpAddr, Failures>,
}

/// Failed logins by account and by address.
#[derive(Debug)]
pub(super) struct LoginGuard {
    settings: LoginSettings,
    tables: Mutex<Tables>,
}

impl LoginGuard {
    pub(super) fn new(settings: LoginSettings) -> Self {
        Self {
            settings,
            tables: Mutex::default(),
        }
    }

    /// Returns how long an attempt has to wait, or `None` when it is rejected unchecked. Concurrent attempts wait one after
    /// the other, so that many connections guess no faster than one.
    pub(super) fn admit(&self, name: &str, address: IpAddr, now: Instant) -> Option<Duration> {
        let mut tables = self.lock();
        let s = &self.settings;
        let account = tables.accounts.get_mut(short(name));
        let by_account = account.map(|f| f.turn(s, 1, now));
        let by_address = tables
            .addresses
            .get_mut(&address)
            .map(|f| f.turn(s, ADDRESS_FACTOR, now));
        let wait = by_account.max(by_address).unwrap_or_default();
        (wait <= s.max_delay).then_some(wait)
    }

    /// Records the outcome of an attempt. A successful one clears the account but not the address: otherwise an attacker
    /// could reset the limit with an account of their own.
    pub(super) fn record(&self, name: &str, address: IpAddr, good: bool, now: Instant) {
        let mut tables = self.lock();
        let s = &self.settings;
        if good {
            tables.accounts.remove(short(name));
        } else {
            note(&mut tables.accounts, short(name).to_owned(), s, 1, now);
            note(&mut tables.addresses, address, s, ADDRESS_FACTOR, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // The counts are consistent after a panic elsewhere.
        self.tables.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Failures {
    /// Returns how long this attempt waits, and reserves its turn.
    fn turn(&mut self, s: &LoginSettings, factor: u32, now: Instant) -> Duration {
        let wait = self.not_before.saturating_duration_since(now);
        if wait <= s.max_delay {
            self.not_before = now.max(self.not_before) + self.delay(s, factor);
        }
        wait
    }

    fn delay(&self, s: &LoginSettings, factor: u32) -> Duration {
        match self.count.checked_sub(s.free * factor) {
            None | Some(0) => Duration::ZERO,
            Some(n) => s
                .delay
                .saturating_mul(1 << (n - 1).min(16))
                .min(s.max_delay),
        }
    }
}

fn note<K: Eq + Hash + Clone>(
    table: &mut HashMap<K, Failures>,
    key: K,
    s: &LoginSettings,
    factor: u32,
    now: Instant,
) {
    if table.len() >= REMEMBERED && !table.contains_key(&key) {
        table.retain(|_, f| now.duration_since(f.last) < s.pause);
        let oldest = table.iter().min_by_key(|(_, f)| f.last);
        if table.len() >= REMEMBERED
            && let Some(oldest) = oldest.map(|(key, _)| key.clone())
        {
            table.remove(&oldest);
        }
    }
    let f = table.entry(key).or_insert(Failures {
        count: 0,
        last: now,
        not_before: now,
    });
    if now.duration_since(f.last) > s.pause {
        f.count = 0;
    }
    f.count += 1;
    f.last = now;
    f.not_before = if f.count >= s.until_pause * factor {
        f.count = 0;
        now + s.pause
    } else {
        f.not_before.max(now + f.delay(s, factor))
    };
}

fn short(name: &str) -> &str {
    let mut end = name.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);

    #[test]
    fn wrong_passwords_cost_more_and_more_and_then_a_pause() {
        let s = LoginSettings::default();
        let guard = LoginGuard::new(s.clone());
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..s.until_pause {
            let wait = guard.admit("ann", HERE, now).unwrap();
            waits.push(wait);
            now += wait;
            guard.record("ann", HERE, false, now);
        }
        assert_eq!(waits[..3], [Duration::ZERO; 3]);
        assert!(waits[3..].is_sorted() && waits[4] >= s.delay, "{waits:?}");
        assert_eq!(guard.admit("ann", HERE, now), None);
        assert_eq!(guard.admit("ann", THERE, now), None);
        assert_eq!(guard.admit("bob", THERE, now), Some(Duration::ZERO));
        assert!(guard.admit("ann", THERE, now + s.pause).is_some());
    }

    #[test]
    fn many_accounts_from_one_address_are_slowed_too() {
        let s = LoginSettings::default();
        let guard = LoginGuard::new(s.clone());
        let now = Instant::now();
        for i in 0..s.until_pause * ADDRESS_FACTOR {
            guard.record(&format!("user{i}"), HERE, false, now);
        }
        assert_eq!(guard.admit("fresh", HERE, now), None);
        assert_eq!(guard.admit("fresh", THERE, now), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_at_once_wait_one_after_the_other() {
        let s = LoginSettings::default();
        let guard = LoginGuard::new(s.clone());
        let now = Instant::now();
        for _ in 0..s.free + 3 {
            guard.record("ann", HERE, false, now);
        }
        let waits: Vec<_> = (0..3)
            .filter_map(|_| guard.admit("ann", HERE, now))
            .collect();
        assert!(waits.windows(2).all(|w| w[1] > w[0]), "{waits:?}");
    }

    #[test]
    fn a_good_password_clears_the_account() {
        let guard = LoginGuard::new(LoginSettings::default());
        let now = Instant::now();
        for _ in 0..8 {
            guard.record("ann", HERE, false, now);
        }
        assert!(guard.admit("ann", THERE, now).unwrap() > Duration::ZERO);
        guard.record("ann", HERE, true, now);
        assert_eq!(guard.admit("ann", THERE, now), Some(Duration::ZERO));
    }

    #[test]
    fn made_up_names_do_not_fill_the_memory() {
        let guard = LoginGuard::new(LoginSettings::default());
        let now = Instant::now();
        for i in 0..REMEMBERED + 10 {
            let address = IpAddr::from((i as u32).to_be_bytes());
            guard.record(&format!("{i}"), address, false, now);
        }
        let tables = guard.lock();
        assert!(tables.accounts.len() <= REMEMBERED && tables.addresses.len() <= REMEMBERED);
    }
}
