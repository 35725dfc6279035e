//! What a session carries, and whether it still holds: the tables `users` and `session_ends`.

use std::fmt;

use diesel::prelude::*;

use super::{
    Store, StoreError, User,
    connection::AnyConnection,
    passwords::{Verdict, is_plain},
    schema::{session_ends, users},
    time::now,
    users::UserRow,
};

/// What a user logged in with: a session ends when the row no longer agrees with it.
///
/// Opaque; it is compared by [`Store::user_of_session`].
#[derive(Clone, PartialEq, Eq)]
pub struct SessionStamp {
    created_at: Option<String>,
    password_hash: String,
    /// How often the user had been disabled.
    ends: i64,
}

impl fmt::Debug for SessionStamp {
    // Without the hash, which is a plain password in rows of the Python service.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStamp").finish_non_exhaustive()
    }
}

impl SessionStamp {
    pub(super) fn new(created_at: Option<String>, password_hash: String, ends: i64) -> Self {
        Self {
            created_at,
            password_hash,
            ends,
        }
    }

    /// Returns true while the row has a plain password, which can be guessed from any hash of it.
    pub(super) fn is_plain(&self) -> bool {
        is_plain(&self.password_hash)
    }

    /// Returns all of it, unambiguously.
    pub(super) fn facts(&self) -> Vec<u8> {
        let created_at = self.created_at.as_deref().unwrap_or_default();
        let mut facts = Vec::new();
        for part in [created_at, &self.password_hash] {
            facts.extend((part.len() as u64).to_be_bytes());
            facts.extend(part.as_bytes());
        }
        facts.extend(self.ends.to_be_bytes());
        facts
    }
}

impl Store {
    /// Returns the user of a session, or `None` when it has ended: the user was removed or disabled since the login, or the
    /// password changed. A plain password that was replaced by its hash is the same password; the returned user then carries a
    /// new stamp, which spares the comparison the next time.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn user_of_session(
        &self,
        id: i32,
        stamp: &SessionStamp,
    ) -> Result<Option<User>, StoreError> {
        let row = users::table
            .left_join(session_ends::table)
            .filter(users::id.eq(id))
            .select((UserRow::as_select(), session_ends::count.nullable()))
            .first::<(UserRow, Option<i64>)>(&mut *self.connection()?)
            .optional()?;
        let Some((row, ends)) = row else {
            return Ok(None);
        };
        let user = row.at(now(), ends.unwrap_or(0));
        let now = &user.stamp;
        if !user.active || now.created_at != stamp.created_at || now.ends != stamp.ends {
            return Ok(None);
        }
        let same = now.password_hash == stamp.password_hash
            || (is_plain(&stamp.password_hash)
                && !is_plain(&now.password_hash)
                && self.is_password(&now.password_hash, &stamp.password_hash)?);
        Ok(same.then_some(user))
    }

    fn is_password(&self, hash: &str, password: &str) -> Result<bool, StoreError> {
        Ok(self.passwords.verify(Some(hash), password)? == Verdict::Good)
    }
}

/// How often the user has been disabled.
pub(super) fn ends(conn: &mut AnyConnection, user_id: i32) -> QueryResult<i64> {
    let found = session_ends::table
        .find(user_id)
        .select(session_ends::count);
    Ok(found.first(conn).optional()?.unwrap_or(0))
}

/// Ends all sessions of a user, also for the time after the user is enabled again.
pub(super) fn end_all(conn: &mut AnyConnection, user_id: i32) -> QueryResult<()> {
    let count = ends(conn, user_id)? + 1;
    diesel::delete(session_ends::table.find(user_id)).execute(conn)?;
    diesel::insert_into(session_ends::table)
        .values((
            session_ends::user_id.eq(user_id),
            session_ends::count.eq(count),
        ))
        .execute(conn)
        .map(|_| ())
}
