//! The table `access_tokens`: sessions and named tokens, by the hashes of their secrets.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use diesel::prelude::*;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{
    SessionStamp, Store, StoreError, User,
    connection::{AnyConnection, columns},
    error::shortened,
    glb_files::no_such_user,
    random::{hex, random},
    schema::{access_tokens, session_ends, users},
    time::{column, now, parse_time},
    users::UserRow,
};

/// How a secret begins, so that it is recognized where it does not belong: in a log, or in a public repository.
const PREFIX: &str = "vggt_";

/// How long a session lasts.
const SESSION: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Most sessions of a user; a further one ends the oldest.
const SESSIONS_MAX: i64 = 100;

/// Most named tokens of a user.
const TOKENS_MAX: i64 = 100;

/// Longest name of a token, in characters: the column's width.
const NAME_MAX: usize = 64;

/// A use is noted again after this time, not with every request.
const NOTED_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// A session or a named token of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The primary key, never reused.
    pub id: i64,
    /// The name that the user gave; `None` for a session.
    pub name: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it ends; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// A secret that was made now and is not stored anywhere.
#[derive(Clone)]
pub struct NewSecret {
    /// What its holder presents.
    pub secret: String,
    /// Its row.
    pub token: AccessToken,
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSecret")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = access_tokens)]
struct TokenRow {
    id: i64,
    user_stamp: String,
    name: Option<String>,
    created_at: String,
    last_used_at: Option<String>,
    expires_at: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = access_tokens)]
struct NewToken<'a> {
    secret_hash: String,
    user_id: i32,
    user_stamp: String,
    name: Option<&'a str>,
    created_at: String,
    expires_at: Option<String>,
}

impl From<TokenRow> for AccessToken {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            created_at: parse_time(&row.created_at),
            last_used_at: row.last_used_at.as_deref().and_then(parse_time),
            expires_at: row.expires_at.as_deref().and_then(parse_time),
        }
    }
}

impl TokenRow {
    /// A date that cannot be read is past.
    fn has_expired(&self, now: Timestamp) -> bool {
        let expires = self.expires_at.as_deref().map(parse_time);
        expires.is_some_and(|time| time.is_none_or(|time| time <= now))
    }

    fn is_to_be_noted(&self, now: Timestamp) -> bool {
        let last = self.last_used_at.as_deref().and_then(parse_time);
        last.is_none_or(|last| now.duration_since(last).abs() >= NOTED_AFTER)
    }
}

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    access_tokens::table
        .select((TokenRow::as_select(), access_tokens::user_id))
        .limit(0)
        .load::<(TokenRow, i32)>(conn)
        .map(|_| ())
}

impl Store {
    /// Starts a session of a user who has just logged in.
    ///
    /// # Errors
    /// When the user is gone or the row cannot be written.
    pub fn start_session(&self, user: &User) -> Result<NewSecret, StoreError> {
        let end = now() + SESSION;
        self.add_secret(user, None, Some(end))
    }

    /// Makes a token with a name for a user, which ends at `expires` or never.
    ///
    /// # Errors
    /// When the name does not fit, the user has too many tokens or is gone, or the row cannot be written.
    pub fn add_token(
        &self,
        user: &User,
        name: &str,
        expires: Option<Timestamp>,
    ) -> Result<NewSecret, StoreError> {
        check_name(name)?;
        self.add_secret(user, Some(name), expires)
    }

    fn add_secret(
        &self,
        user: &User,
        name: Option<&str>,
        expires: Option<Timestamp>,
    ) -> Result<NewSecret, StoreError> {
        let secret = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random::<32>()?));
        let time = now();
        let new = NewToken {
            secret_hash: digest(&secret, None),
            user_id: user.id,
            user_stamp: digest(&secret, Some(&user.stamp)),
            name,
            created_at: column(time),
            expires_at: expires.map(column),
        };
        let row: TokenRow = self.connection()?.write(|conn| {
            make_room(conn, user.id, name.is_some(), time)?;
            diesel::insert_into(access_tokens::table)
                .values(&new)
                .returning(columns::<TokenRow>())
                .get_result(conn)
                .map_err(|e| no_such_user(e, user.id))
        })?;
        Ok(NewSecret {
            secret,
            token: row.into(),
        })
    }

    /// Returns the user of a secret, and the session or token that it is of; `None` when there is none, or it has ended: it
    /// expired or was revoked, or the user was removed or disabled or has another password since.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn user_of_secret(&self, secret: &str) -> Result<Option<(User, AccessToken)>, StoreError> {
        if !secret.starts_with(PREFIX) {
            return Ok(None);
        }
        let mut conn = self.connection()?;
        let found = access_tokens::table
            .inner_join(users::table)
            .left_join(session_ends::table.on(session_ends::user_id.eq(access_tokens::user_id)))
            .filter(access_tokens::secret_hash.eq(digest(secret, None)))
            .select((
                TokenRow::as_select(),
                UserRow::as_select(),
                session_ends::count.nullable(),
            ))
            .first::<(TokenRow, UserRow, Option<i64>)>(&mut *conn)
            .optional()?;
        let Some((row, user, ends)) = found else {
            return Ok(None);
        };
        let time = now();
        let user = user.at(time, ends.unwrap_or(0));
        let holds = row.user_stamp == digest(secret, Some(&user.stamp));
        if !holds || !user.active || row.has_expired(time) {
            return Ok(None);
        }
        if row.is_to_be_noted(time) {
            let own = access_tokens::table.find(row.id);
            let noted = diesel::update(own)
                .set(access_tokens::last_used_at.eq(column(time)))
                .execute(&mut *conn);
            // The request is as good without it.
            if let Err(e) = noted {
                tracing::warn!("cannot note the use of token {}: {e}", row.id);
            }
        }
        Ok(Some((user, row.into())))
    }

    /// Returns true as long as a session or named token of a user is there and has not expired. Whether the login behind it holds is for
    /// [`Store::user_of_session`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn holds_token(&self, user_id: i32, id: i64) -> Result<bool, StoreError> {
        let row = access_tokens::table
            .find(id)
            .filter(access_tokens::user_id.eq(user_id))
            .select(TokenRow::as_select())
            .first(&mut *self.connection()?)
            .optional()?;
        Ok(row.is_some_and(|row| !row.has_expired(now())))
    }

    /// Returns the named tokens of a user that have not expired, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tokens_of(&self, user_id: i32) -> Result<Vec<AccessToken>, StoreError> {
        let rows: Vec<TokenRow> = access_tokens::table
            .filter(access_tokens::user_id.eq(user_id))
            .filter(access_tokens::name.is_not_null())
            .order(access_tokens::id.desc())
            .limit(TOKENS_MAX)
            .select(TokenRow::as_select())
            .load(&mut *self.connection()?)?;
        let time = now();
        let rows = rows.into_iter().filter(|row| !row.has_expired(time));
        Ok(rows.map(AccessToken::from).collect())
    }

    /// Ends a session of a user, and returns true if there was one.
    ///
    /// # Errors
    /// When the row cannot be removed.
    pub fn end_session(&self, user_id: i32, id: i64) -> Result<bool, StoreError> {
        let own = access_tokens::table
            .find(id)
            .filter(access_tokens::user_id.eq(user_id))
            .filter(access_tokens::name.is_null());
        Ok(diesel::delete(own).execute(&mut *self.connection()?)? > 0)
    }

    /// Revokes a named token of a user, and returns true if there was one.
    ///
    /// # Errors
    /// When the row cannot be removed.
    pub fn revoke_token(&self, user_id: i32, id: i64) -> Result<bool, StoreError> {
        let own = access_tokens::table
            .find(id)
            .filter(access_tokens::user_id.eq(user_id))
            .filter(access_tokens::name.is_not_null());
        Ok(diesel::delete(own).execute(&mut *self.connection()?)? > 0)
    }
}

/// Removes what has expired and the oldest sessions beyond their number.
fn make_room(
    conn: &mut AnyConnection,
    user_id: i32,
    is_named: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    let own = access_tokens::user_id.eq(user_id);
    let expired = access_tokens::table
        .filter(own)
        .filter(access_tokens::expires_at.le(column(now)));
    diesel::delete(expired).execute(conn)?;
    if is_named {
        let named = access_tokens::table
            .filter(own)
            .filter(access_tokens::name.is_not_null());
        let count: i64 = named.count().get_result(conn)?;
        if count >= TOKENS_MAX {
            return Err(StoreError::TooManyTokens(count));
        }
        return Ok(());
    }
    let oldest: Vec<i64> = access_tokens::table
        .filter(own)
        .filter(access_tokens::name.is_null())
        .order(access_tokens::id.desc())
        .select(access_tokens::id)
        .limit(SESSIONS_MAX)
        .offset(SESSIONS_MAX - 1)
        .load(conn)?;
    diesel::delete(access_tokens::table.filter(access_tokens::id.eq_any(oldest))).execute(conn)?;
    Ok(())
}

/// The SHA-256 of a secret, alone or with what ends it when it changes. The secret is random and stored nowhere, so that neither
/// can be guessed, not even where the row of the Python service still has a plain password.
fn digest(secret: &str, stamp: Option<&SessionStamp>) -> String {
    let mut hash = Sha256::new();
    hash.update(secret.as_bytes());
    if let Some(stamp) = stamp {
        hash.update([0]);
        hash.update(stamp.facts());
    }
    hex(&hash.finalize())
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let why = if name.trim().is_empty() {
        "it is empty"
    } else if name.chars().count() > NAME_MAX {
        "it is longer than 64 characters"
    } else if name.chars().any(char::is_control) {
        "it holds control characters"
    } else {
        return Ok(());
    };
    Err(StoreError::BadTokenName {
        name: shortened(name),
        why,
    })
}
