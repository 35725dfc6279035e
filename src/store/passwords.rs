//! Passwords: hashed with argon2id, compared in the same time whether the user exists or not.

use std::sync::{Condvar, Mutex, MutexGuard};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, PasswordVerifier, Version,
    password_hash::{Output, ParamsString, Salt, SaltString, rand_core::OsRng},
};

use super::StoreError;

/// OWASP's smallest recommendation for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Largest memory and most passes of a hash that another program wrote: four times 64 MiB and 3 passes, the second
/// recommendation of RFC 9106.
const MEMORY_KIB_MAX: u32 = 4 * 64 * 1024;
const PASSES_MAX: u32 = 4 * 3;

/// How hashes begin: argon2; and of schemes that cannot be checked here bcrypt, SHA-256 and SHA-512 crypt, MD5 crypt,
/// yescrypt, scrypt, PBKDF2. The Python service wrote none of them.
const SCHEMES: [&str; 11] = [
    "$argon", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$1$", "$y$", "$7$", "$scrypt$", "$pbkdf2",
];

/// Four times 19 MiB is what logins may hold at once, however many come.
const AT_ONCE: usize = 4;

/// What came of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not the password, or no such user.
    Wrong,
    /// The password.
    Good,
    /// The password, which was kept plain: this hash is to take its place.
    GoodButPlain(String),
}

/// How many may compare at once, and the memory they do it in.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    state: Mutex<State>,
    one_done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    working: usize,
    /// Memory of those that have finished, at most [`AT_ONCE`] times. Kept, since 19 MiB that come and go between the
    /// buffers of uploads leave the heap in pieces: fifty logins cost 900 MiB that way.
    free: Vec<Vec<Block>>,
}

impl Passwords {
    /// The hash to store for `password`, in PHC form.
    pub(super) fn hash(&self, password: &str) -> Result<String, StoreError> {
        hash_with(&mut self.permit().memory, password)
    }

    /// Compares `password` with what is stored; `None` stands for a user who does not exist. Every way through takes the
    /// time of one hash.
    pub(super) fn verify(
        &self,
        stored: Option<&str>,
        password: &str,
    ) -> Result<Verdict, StoreError> {
        let memory = &mut self.permit().memory;
        let verdict = match stored {
            Some(plain) if is_plain(plain) => {
                let hash = hash_with(memory, password)?;
                if same_bytes(plain.as_bytes(), password.as_bytes()) {
                    Verdict::GoodButPlain(hash)
                } else {
                    Verdict::Wrong
                }
            }
            Some(hash) => match compare(memory, hash, password) {
                Compared::Same => Verdict::Good,
                Compared::Different => Verdict::Wrong,
                // A damaged hash or one of other parameters must not answer sooner than a sound one: that would tell that
                // the account exists.
                Compared::OtherTime => {
                    hash_with(memory, password)?;
                    Verdict::Wrong
                }
            },
            None => {
                hash_with(memory, password)?;
                Verdict::Wrong
            }
        };
        // An empty one opens nothing, even where an older row holds it or its hash.
        Ok(if password.is_empty() {
            Verdict::Wrong
        } else {
            verdict
        })
    }

    fn permit(&self) -> Permit<'_> {
        let mut state = self
            .one_done
            .wait_while(self.lock(), |state| state.working >= AT_ONCE)
            .unwrap_or_else(|e| e.into_inner());
        state.working += 1;
        Permit {
            memory: state.free.pop().unwrap_or_default(),
            passwords: self,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A count and a list are whole after a panic elsewhere.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

struct Permit<'a> {
    passwords: &'a Passwords,
    /// What was worked in last, or nothing yet.
    memory: Vec<Block>,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.passwords.lock();
        state.working -= 1;
        state.free.push(std::mem::take(&mut self.memory));
        drop(state);
        self.passwords.one_done.notify_one();
    }
}

/// Whether a row holds a plain password, as the Python service wrote it. What begins like a hash never counts as one: a
/// damaged hash, or one of an unknown scheme, must not become a password.
pub(super) fn is_plain(stored: &str) -> bool {
    !SCHEMES.iter().any(|scheme| stored.starts_with(scheme))
}

fn params() -> Result<Params, argon2::password_hash::Error> {
    Ok(Params::new(MEMORY_KIB, PASSES, LANES, None)?)
}

fn hash_with(memory: &mut Vec<Block>, password: &str) -> Result<String, StoreError> {
    let mut hashed = || -> Result<String, argon2::password_hash::Error> {
        let (salt, params) = (SaltString::generate(&mut OsRng), params()?);
        let output = output(memory, &params, salt.as_salt(), password)?;
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(salt.as_salt()),
            hash: Some(output),
        };
        Ok(hash.to_string())
    };
    hashed().map_err(StoreError::Hash)
}

fn output(
    memory: &mut Vec<Block>,
    params: &Params,
    salt: Salt<'_>,
    password: &str,
) -> Result<Output, argon2::password_hash::Error> {
    let mut decoded = [0; Salt::MAX_LENGTH];
    let salt = salt.decode_b64(&mut decoded)?;
    memory.resize(params.block_count(), Block::new());
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    Output::init_with(Params::DEFAULT_OUTPUT_LEN, |out| {
        Ok(hasher.hash_password_into_with_memory(password.as_bytes(), salt, out, memory)?)
    })
}

/// What came of the comparison with a hash.
#[derive(Debug, PartialEq, Eq)]
enum Compared {
    Same,
    /// Not the same, after the time of one hash.
    Different,
    /// Not the same, in any other time.
    OtherTime,
}

fn compare(memory: &mut Vec<Block>, hash: &str, password: &str) -> Compared {
    let Ok(hash) = PasswordHash::new(hash) else {
        return Compared::OtherTime;
    };
    let ours = params().and_then(|params| {
        let same = Params::try_from(&hash)?.block_count() == params.block_count()
            && hash.params == ParamsString::try_from(&params)?
            && hash.algorithm == Algorithm::Argon2id.ident()
            && hash.version == Some(Version::V0x13.into());
        Ok(same.then_some(params))
    });
    match (ours, hash.salt, hash.hash) {
        (Ok(Some(params)), Some(salt), Some(expected)) => {
            match output(memory, &params, salt, password) {
                // `Output` compares in constant time.
                Ok(output) if output == expected => Compared::Same,
                Ok(_) => Compared::Different,
                Err(_) => Compared::OtherTime,
            }
        }
        // A hash of other parameters works in memory of its own.
        _ if is_affordable(&hash)
            && Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok() =>
        {
            Compared::Same
        }
        _ => Compared::OtherTime,
    }
}

/// Whether a hash of other parameters can be computed here. A damaged digit may ask for terabytes, which would end the process.
fn is_affordable(hash: &PasswordHash<'_>) -> bool {
    Params::try_from(hash)
        .is_ok_and(|params| params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX)
}

/// Compares in a time that does not depend on the position of the first difference.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn a_hash_is_argon2id_with_its_own_salt_and_fits_the_column() {
        let passwords = Passwords::default();
        let (a, b) = (passwords.hash("x").unwrap(), passwords.hash("x").unwrap());
        assert!(a.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{a}");
        assert_ne!(a, b);
        assert!(a.len() <= 255);
        assert_eq!(passwords.verify(Some(&a), "x").unwrap(), Verdict::Good);
        assert_eq!(passwords.verify(Some(&a), "X").unwrap(), Verdict::Wrong);
        assert_eq!(passwords.verify(None, "nobody").unwrap(), Verdict::Wrong);
    }

    #[test]
    fn a_plain_password_is_replaced_but_a_damaged_hash_is_no_password() {
        let passwords = Passwords::default();
        let verdict = passwords.verify(Some("geheim"), "geheim").unwrap();
        let Verdict::GoodButPlain(hash) = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(
            passwords.verify(Some(&hash), "geheim").unwrap(),
            Verdict::Good
        );
        for (stored, given) in [("geheim", "geheiM"), ("geheim", "gehei"), ("", "")] {
            assert_eq!(
                passwords.verify(Some(stored), given).unwrap(),
                Verdict::Wrong
            );
        }
        let damaged = &hash[..40];
        assert_eq!(
            passwords.verify(Some(damaged), damaged).unwrap(),
            Verdict::Wrong
        );
    }

    #[test]
    fn whatever_a_row_holds_a_wrong_password_takes_the_time_of_one_hash() {
        let passwords = Passwords::default();
        let good = passwords.hash("x").unwrap();
        let salt = good.split('$').nth(4).unwrap();
        let cut = |at: usize| good[..at].to_owned();
        // Nothing that could be compared in a shorter time counts as compared.
        let mut memory = Vec::new();
        for damaged in [
            cut(6),
            cut(7),
            cut(40),
            good.replace("argon2id", "argon2x"),
            good.replace("v=19", "v=99"),
            good.replace(salt, "x"),
            good.replace(salt, "!!!!!!!!!!!!"),
            good.replace("m=19456", "m=19"),
            // A digit too many would ask for terabytes, and for years.
            good.replace("m=19456", "m=4194560000"),
            good.replace("t=2", "t=4000000000"),
            "$2b$12$abcdefghijklmnopqrstuuEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE".to_owned(),
        ] {
            let compared = compare(&mut memory, &damaged, "x");
            assert_eq!(compared, Compared::OtherTime, "{damaged}");
            let verdict = passwords.verify(Some(&damaged), &damaged).unwrap();
            assert_eq!(verdict, Verdict::Wrong, "{damaged}");
        }
        assert_eq!(compare(&mut memory, &good, "x"), Compared::Same);
        assert_eq!(compare(&mut memory, &good, "y"), Compared::Different);
        // Compared in full, where enough is left of it.
        let verdict = passwords.verify(Some(&cut(good.len() - 20)), "x").unwrap();
        assert_eq!(verdict, Verdict::Wrong);
        assert_eq!(passwords.verify(Some(""), "x").unwrap(), Verdict::Wrong);
    }

    #[test]
    fn no_more_than_four_work_at_once() {
        let passwords = Passwords::default();
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _permit = passwords.permit();
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=AT_ONCE).contains(&most.into_inner()));
    }
}
