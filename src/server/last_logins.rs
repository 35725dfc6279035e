//! The last login from each address, which further connections from there may continue: in memory, or in a database that several
//! servers share.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{Login, connection::blocking, session::RequestError};
use crate::store::{SharedLogins, Store, User};

/// Maximum number of addresses whose last login is remembered; the oldest are dropped first.
const REMEMBERED_ADDRESSES: usize = 10_000;

/// The last login from each address.
#[derive(Debug)]
pub(super) enum LastLogins {
    /// Of this process alone.
    Own(OwnLogins),
    /// Of all servers of the database.
    Shared(SharedLogins),
}

impl LastLogins {
    pub(super) fn new(store: &Store) -> Self {
        match store.shared_logins() {
            Some(shared) => Self::Shared(shared),
            None => Self::Own(OwnLogins::default()),
        }
    }

    /// Notes who has logged in from an address, for so long; `None` after a failed login.
    pub(super) async fn note(
        &self,
        address: IpAddr,
        user: Option<&User>,
        within: Duration,
    ) -> Result<(), RequestError> {
        match self {
            Self::Own(own) => match user {
                Some(user) => own.note(address, Login::of(user)),
                None => own.forget(address),
            },
            Self::Shared(shared) => {
                let (shared, user, address) = (shared.clone(), user.cloned(), address.to_string());
                blocking(move || match user {
                    Some(user) => shared.note(&address, &user, within),
                    None => shared.forget(&address),
                })
                .await??;
            }
        }
        Ok(())
    }

    /// Returns the last login from an address, if it is not older than `within`. While the database is away there is none.
    pub(super) async fn of(&self, address: IpAddr, within: Duration) -> Option<Login> {
        let shared = match self {
            Self::Own(own) => return own.of(address, within),
            Self::Shared(shared) => shared.clone(),
        };
        match blocking(move || shared.of(&address.to_string(), within)).await {
            Ok(Ok(user)) => user.as_ref().map(Login::of),
            Ok(Err(e)) => {
                tracing::warn!(%address, "cannot read the last login from an address: {e}");
                None
            }
            Err(e) => {
                tracing::error!("cannot read the last login from an address: {e}");
                None
            }
        }
    }
}

/// The last login from each address at this process.
#[derive(Debug, Default)]
pub(super) struct OwnLogins(Mutex<HashMap<IpAddr, (Login, Instant)>>);

impl OwnLogins {
    fn note(&self, address: IpAddr, login: Login) {
        let mut logins = self.lock();
        if logins.len() >= REMEMBERED_ADDRESSES && !logins.contains_key(&address) {
            let oldest = logins.iter().min_by_key(|(_, (_, time))| *time);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                logins.remove(&oldest);
            }
        }
        logins.insert(address, (login, Instant::now()));
    }

    fn forget(&self, address: IpAddr) {
        self.lock().remove(&address);
    }

    fn of(&self, address: IpAddr, within: Duration) -> Option<Login> {
        let (login, time) = self.lock().get(&address)?.clone();
        (time.elapsed() < within).then_some(login)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, (Login, Instant)>> {
        // Every operation is one call: the map is consistent after a panic elsewhere.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
