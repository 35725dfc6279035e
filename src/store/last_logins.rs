//! The table `last_logins`: the last login from each address, for all servers of one PostgreSQL database.

use std::time::Duration;

use diesel::{
    prelude::*,
    sql_types::{BigInt, Integer, Text},
};
use sha2::{Digest, Sha256};

use super::{
    SessionStamp, Store, StoreError, User,
    login_counts::{CLOCK, micros},
    random::hex,
};

/// Most addresses that are remembered, as in memory; the oldest are forgotten first.
const REMEMBERED: i64 = 10_000;

/// Rows that one statement removes: few milliseconds.
const BATCH: i64 = 1000;

/// The last login from each address, where several servers share it.
#[derive(Debug, Clone)]
pub struct SharedLogins(pub(super) Store);

#[derive(QueryableByName)]
struct LoginRow {
    #[diesel(sql_type = Integer)]
    user_id: i32,
    #[diesel(sql_type = Text)]
    user_stamp: String,
}

impl SharedLogins {
    /// Notes that a user has logged in from an address, for so long. It takes the place of an earlier login from there.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn note(&self, address: &str, user: &User, within: Duration) -> Result<(), StoreError> {
        if user.stamp.is_plain() {
            // Such a password could be guessed from its hash. It is replaced with the next login.
            return self.forget(address);
        }
        let note = format!(
            "INSERT INTO last_logins (address, user_id, user_stamp, logged_in_at, expires_at) \
             SELECT $1, $2, $3, now, now + $4 FROM (SELECT {CLOCK} AS now) AS clock \
             ON CONFLICT (address) DO UPDATE SET user_id = excluded.user_id, user_stamp = excluded.user_stamp, \
             logged_in_at = excluded.logged_in_at, expires_at = excluded.expires_at"
        );
        let mut conn = self.0.connection()?;
        diesel::sql_query(note)
            .bind::<Text, _>(address)
            .bind::<Integer, _>(user.id)
            .bind::<Text, _>(digest(&user.stamp))
            .bind::<BigInt, _>(micros(within))
            .execute(conn.postgres()?)?;
        drop(conn);
        self.0.tidy_logins_now_and_then();
        Ok(())
    }

    /// Forgets the login from an address.
    ///
    /// # Errors
    /// When the row cannot be removed.
    pub fn forget(&self, address: &str) -> Result<(), StoreError> {
        diesel::sql_query("DELETE FROM last_logins WHERE address = $1")
            .bind::<Text, _>(address)
            .execute(self.0.connection()?.postgres()?)?;
        Ok(())
    }

    /// Returns who has logged in from an address within a time, unless what ends a session has ended the login.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn of(&self, address: &str, within: Duration) -> Result<Option<User>, StoreError> {
        let find = format!(
            "SELECT user_id, user_stamp FROM last_logins WHERE address = $1 \
             AND logged_in_at > {CLOCK} - $2 AND expires_at > {CLOCK}"
        );
        let found: Option<LoginRow> = diesel::sql_query(find)
            .bind::<Text, _>(address)
            .bind::<BigInt, _>(micros(within))
            .get_result(self.0.connection()?.postgres()?)
            .optional()?;
        let Some(row) = found else { return Ok(None) };
        let user = self.0.user_by_id(row.user_id)?;
        Ok(user.filter(|user| user.active && digest(&user.stamp) == row.user_stamp))
    }
}

impl Store {
    /// Returns the last logins by address where several servers share them: in PostgreSQL.
    pub fn shared_logins(&self) -> Option<SharedLogins> {
        let is_server = self.database().file().is_none();
        is_server.then(|| SharedLogins(self.clone()))
    }
}

/// Removes logins whose time is over, and the oldest beyond their number.
pub(super) fn forget_old(store: &Store) -> Result<(), StoreError> {
    let mut conn = store.connection()?;
    let conn = conn.postgres()?;
    // Rows that another server writes at this moment are left to it: the two would wait for each other.
    let expired = format!(
        "DELETE FROM last_logins WHERE address IN (SELECT address FROM last_logins WHERE expires_at <= {CLOCK} \
         LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"
    );
    diesel::sql_query(expired).execute(conn)?;
    let too_many = format!(
        "DELETE FROM last_logins WHERE address IN (SELECT address FROM last_logins ORDER BY logged_in_at DESC \
         OFFSET {REMEMBERED} LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"
    );
    diesel::sql_query(too_many).execute(conn)?;
    Ok(())
}

/// The SHA-256 of what ends a login when it changes.
fn digest(stamp: &SessionStamp) -> String {
    hex(&Sha256::digest(stamp.facts()))
}
