//! The table `known_addresses`: where users have logged in from.

use diesel::prelude::*;
use jiff::{SignedDuration, Timestamp};

use super::{
    Store, StoreError,
    schema::{known_addresses, users},
    time::{column, now, parse_time},
};

/// Most addresses of one user; the oldest are forgotten first. A phone meets some dozens.
const PER_USER: i64 = 64;

/// Most addresses that [`Store::known_addresses`] returns.
const AT_ONCE: i64 = 10_000;

/// A row is written again after this time, not with every login.
const RENEWED_AFTER: SignedDuration = SignedDuration::from_hours(24);

impl Store {
    /// Returns true when the user of this name has logged in from the address before.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn knows_address(&self, name: &str, address: &str) -> Result<bool, StoreError> {
        let found = known_addresses::table
            .inner_join(users::table)
            .filter(users::username.eq(name))
            .filter(known_addresses::address.eq(address))
            .select(known_addresses::user_id)
            .first::<i32>(&mut *self.connection()?)
            .optional()?;
        Ok(found.is_some())
    }

    /// Remembers that a user has logged in from the address.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remember_address(&self, user_id: i32, address: &str) -> Result<(), StoreError> {
        let mut conn = self.connection()?;
        let time = now();
        let last: Option<String> = known_addresses::table
            .find((user_id, address))
            .select(known_addresses::last_login_at)
            .first(&mut *conn)
            .optional()?;
        if last.is_some_and(|last| is_recent(&last, time)) {
            return Ok(());
        }
        conn.write(|conn| {
            let old = known_addresses::table.find((user_id, address));
            diesel::delete(old).execute(conn)?;
            diesel::insert_into(known_addresses::table)
                .values((
                    known_addresses::user_id.eq(user_id),
                    known_addresses::address.eq(address),
                    known_addresses::last_login_at.eq(column(time)),
                ))
                .execute(conn)?;
            let older: Vec<String> = known_addresses::table
                .filter(known_addresses::user_id.eq(user_id))
                .order(known_addresses::last_login_at.desc())
                .select(known_addresses::address)
                .offset(PER_USER)
                .limit(AT_ONCE)
                .load(conn)?;
            let own = known_addresses::table.filter(known_addresses::user_id.eq(user_id));
            diesel::delete(own.filter(known_addresses::address.eq_any(older)))
                .execute(conn)
                .map(|_| ())
                .map_err(StoreError::from)
        })
    }

    /// Returns addresses from which users have logged in, the latest first and 10 000 at most.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn known_addresses(&self) -> Result<Vec<String>, StoreError> {
        let all = known_addresses::table
            .order(known_addresses::last_login_at.desc())
            .select(known_addresses::address)
            .limit(AT_ONCE);
        Ok(all.load(&mut *self.connection()?)?)
    }
}

fn is_recent(last: &str, now: Timestamp) -> bool {
    parse_time(last).is_some_and(|last| now.duration_since(last).abs() < RENEWED_AFTER)
}
