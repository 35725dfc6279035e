//! How many lines of a kind are written in a minute. The rest is counted and told in one line when the minute is over.
//!
//! Peers choose how often some lines are written, so without limits one of them could fill the disk of the log.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use tracing::{Level, callsite::Identifier};

/// Lines are counted for so long.
const WINDOW: Duration = Duration::from_secs(60);

/// Lines of one kind of the service, and all lines of one address without a login. The first of an address in each minute are
/// written whatever comes after them: fail2ban bans after 5 of them.
const OF_A_KIND: u32 = 20;

/// Lines of one kind of one user: two a second, more than a client that asks for its job each second.
const OF_A_USER: u32 = 120;

/// Lines of all addresses without a login: some 80 kB a minute, 110 MB a day under attack.
const OF_STRANGERS: u32 = 300;

/// Lines of all users.
const OF_USERS: u32 = 6000;

/// Kinds of strangers that are told apart, and as many others; what is new beyond them is counted together.
const KINDS: usize = 4096;

/// Kinds that are told of when a minute is over, those with the most lines; the others share one line.
const TOLD: usize = 20;

/// Who caused a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    /// The service itself.
    Service,
    /// A peer without a login.
    Stranger(IpAddr),
    /// A user, and what the user asked for.
    User(String),
    /// Kinds beyond the first [`KINDS`].
    Others,
}

/// What lines have in common that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    cause: Cause,
    /// The place in the code; `None` for all lines of a stranger.
    place: Option<Identifier>,
}

#[derive(Debug)]
struct Count {
    written: u32,
    more: u64,
    /// The first line that was not written.
    first: Option<(Level, String)>,
}

/// Lines of the current minute by their kind.
#[derive(Debug)]
pub(super) struct Fold {
    start: Instant,
    kinds: HashMap<Kind, Count>,
    /// How many of them are of strangers.
    of_strangers: usize,
    strangers: u32,
    users: u32,
}

impl Fold {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            start: now,
            kinds: HashMap::new(),
            of_strangers: 0,
            strangers: 0,
            users: 0,
        }
    }

    /// Counts a line and returns true when it is to be written. `text` is called for the first one that is not.
    pub(super) fn admit(
        &mut self,
        cause: Cause,
        place: Identifier,
        level: Level,
        text: impl FnOnce() -> String,
    ) -> bool {
        let (of_a_kind, total, of_all) = match &cause {
            Cause::User(_) => (OF_A_USER, Some(&mut self.users), OF_USERS),
            Cause::Stranger(_) => (OF_A_KIND, Some(&mut self.strangers), OF_STRANGERS),
            Cause::Service | Cause::Others => (OF_A_KIND, None, u32::MAX),
        };
        let mut kind = Kind {
            place: (!matches!(cause, Cause::Stranger(_))).then_some(place),
            cause: cause.network(),
        };
        if !self.kinds.contains_key(&kind) {
            // Strangers have their own share: they take none from users and the service.
            let of_stranger = matches!(kind.cause, Cause::Stranger(_));
            let share = match of_stranger {
                true => self.of_strangers,
                false => self.kinds.len() - self.of_strangers,
            };
            if share >= KINDS {
                kind = Kind {
                    cause: Cause::Others,
                    place: None,
                };
            } else {
                self.of_strangers += usize::from(of_stranger);
            }
        }
        let count = self.kinds.entry(kind).or_insert(Count {
            written: 0,
            more: 0,
            first: None,
        });
        let all = total.as_ref().map_or(0, |total| **total);
        if count.written < of_a_kind && all < of_all {
            count.written += 1;
            if let Some(total) = total {
                *total += 1;
            }
            return true;
        }
        count.more += 1;
        if count.first.is_none() {
            count.first = Some((level, text()));
        }
        false
    }

    /// Begins another minute if this one is over, and returns a line for each kind of which not all were written.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<(Level, String)> {
        if now.saturating_duration_since(self.start) < WINDOW {
            return Vec::new();
        }
        self.end(now)
    }

    /// As [`Fold::turn`], before the minute is over: for the end of the log.
    pub(super) fn end(&mut self, now: Instant) -> Vec<(Level, String)> {
        let seconds = now.saturating_duration_since(self.start).as_secs();
        let old = std::mem::replace(self, Self::new(now));
        let mut folded: Vec<(u64, Level, String)> = old
            .kinds
            .into_values()
            .filter_map(|count| {
                let (level, text) = count.first?;
                Some((count.more, level, text))
            })
            .collect();
        folded.sort_by_key(|(more, ..)| std::cmp::Reverse(*more));
        let rest = folded.split_off(folded.len().min(TOLD));
        let mut lines: Vec<(Level, String)> = folded
            .into_iter()
            .map(|(more, level, text)| {
                (
                    level,
                    format!("{more} more like this in {seconds} s: {text}"),
                )
            })
            .collect();
        if !rest.is_empty() {
            let more: u64 = rest.iter().map(|(more, ..)| more).sum();
            let text = format!(
                "{more} more lines of {} other kinds in {seconds} s",
                rest.len()
            );
            lines.push((Level::INFO, text));
        }
        lines
    }
}

impl Cause {
    /// One host of IPv6 has all addresses of a network: they count as one.
    fn network(self) -> Self {
        match self {
            Self::Stranger(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                let [a, b, c, d, ..] = address.segments();
                Self::Stranger(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
            cause => cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Callsite, Metadata, subscriber::Interest};

    use super::*;

    struct Place;
    static PLACE: Place = Place;
    impl Callsite for Place {
        fn set_interest(&self, _: Interest) {}
        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("no test asks for it")
        }
    }

    fn place() -> Identifier {
        Identifier(&PLACE)
    }

    fn written(fold: &mut Fold, cause: impl Fn(u32) -> Cause, lines: u32) -> u32 {
        (0..lines)
            .map(|i| u32::from(fold.admit(cause(i), place(), Level::INFO, || format!("line {i}"))))
            .sum()
    }

    #[test]
    fn the_first_lines_of_an_address_are_written_and_the_rest_is_told_once() {
        let start = Instant::now();
        let mut fold = Fold::new(start);
        let a = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(written(&mut fold, |_| Cause::Stranger(a), 1000), OF_A_KIND);
        let b = IpAddr::from([10, 0, 0, 2]);
        assert_eq!(written(&mut fold, |_| Cause::Stranger(b), 3), 3);
        assert!(fold.turn(start + Duration::from_secs(59)).is_empty());
        let told = fold.turn(start + Duration::from_secs(60));
        let expected = "980 more like this in 60 s: line 20".to_owned();
        assert_eq!(told, [(Level::INFO, expected)]);
        // Another minute, another 20.
        assert_eq!(written(&mut fold, |_| Cause::Stranger(a), 1000), OF_A_KIND);
    }

    #[test]
    fn many_addresses_have_one_limit_and_a_network_of_ipv6_counts_as_one() {
        let start = Instant::now();
        let mut fold = Fold::new(start);
        let v6 = |i: u32| Cause::Stranger(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, i as u16, 1]));
        assert_eq!(written(&mut fold, v6, 1000), OF_A_KIND);
        let v4 = |i: u32| Cause::Stranger(IpAddr::from(i.to_be_bytes()));
        assert_eq!(written(&mut fold, v4, 100_000), OF_STRANGERS - OF_A_KIND);
        assert!(fold.kinds.len() <= KINDS + 1);
        // Strangers take nothing from users and from the service.
        let user = |_| Cause::User("ann".to_owned());
        assert_eq!(written(&mut fold, user, 1000), OF_A_USER);
        assert_eq!(fold.turn(start + WINDOW).len(), TOLD + 1);
        assert_eq!(written(&mut fold, user, 1000), OF_A_USER);
        assert_eq!(written(&mut fold, |_| Cause::Service, 1000), OF_A_KIND);
    }
}
