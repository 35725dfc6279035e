//! Passwords: hashed with argon2id, compared in the same time whether the user exists or not.

use std::sync::{Condvar, Mutex};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::{SaltString, rand_core::OsRng},
};

use super::StoreError;

/// OWASP's smallest recommendation for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

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

/// The hasher, and how many may use it at once.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    working: Mutex<usize>,
    one_done: Condvar,
}

impl Passwords {
    /// The hash to store for `password`, in PHC form.
    pub(super) fn hash(&self, password: &str) -> Result<String, StoreError> {
        let _permit = self.permit();
        hash_with(&hasher()?, password)
    }

    /// Compares `password` with what is stored; `None` stands for a user who does not exist. Every way through takes the
    /// time of one hash.
    pub(super) fn verify(
        &self,
        stored: Option<&str>,
        password: &str,
    ) -> Result<Verdict, StoreError> {
        let _permit = self.permit();
        let hasher = hasher()?;
        let verdict = match stored {
            Some(plain) if is_plain(plain) => {
                let hash = hash_with(&hasher, password)?;
                if same_bytes(plain.as_bytes(), password.as_bytes()) {
                    Verdict::GoodButPlain(hash)
                } else {
                    Verdict::Wrong
                }
            }
            Some(hash) if matches(&hasher, hash, password) => Verdict::Good,
            Some(_) => Verdict::Wrong,
            None => {
                hash_with(&hasher, password)?;
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
        let working = lock(&self.working);
        let mut working = self
            .one_done
            .wait_while(working, |n| *n >= AT_ONCE)
            .unwrap_or_else(|e| e.into_inner());
        *working += 1;
        Permit(self)
    }
}

struct Permit<'a>(&'a Passwords);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.working) -= 1;
        self.0.one_done.notify_one();
    }
}

fn lock(working: &Mutex<usize>) -> std::sync::MutexGuard<'_, usize> {
    // A count is whole after a panic elsewhere.
    working.lock().unwrap_or_else(|e| e.into_inner())
}

/// Whether a row holds a plain password, as the Python service wrote it. What begins like a hash never counts as one: a
/// damaged hash must not become a password.
pub(super) fn is_plain(stored: &str) -> bool {
    !stored.starts_with("$argon2")
}

fn hasher() -> Result<Argon2<'static>, StoreError> {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|e| StoreError::Hash(e.into()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash_with(hasher: &Argon2<'_>, password: &str) -> Result<String, StoreError> {
    let salt = SaltString::generate(&mut OsRng);
    hasher
        .hash_password(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(StoreError::Hash)
}

fn matches(hasher: &Argon2<'_>, hash: &str, password: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| hasher.verify_password(password.as_bytes(), &hash).is_ok())
}

/// Equality in a time that tells nothing of where the first difference is.
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
