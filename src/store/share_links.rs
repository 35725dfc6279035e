//! The table `share_links`: links under which people without a login see a result. The database has only their hashes.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use diesel::prelude::*;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    GlbFile, Store, StoreError,
    connection::AnyConnection,
    glb_files::{GlbFileRow, no_such_user},
    random::{hex, random},
    schema::{glb_files, share_links, users},
    time::{column, now, parse_time},
    users::UserRow,
};

/// Maximum number of links to one result: more than people make, few enough to list.
const LINKS_MAX: i64 = 100;

/// Bytes of randomness in a link, as many as no search finds.
const SECRET: usize = 24;

/// A link to a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareLink {
    /// The key of its row.
    pub id: i64,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it ends; `None`: when it is removed.
    pub expires_at: Option<Timestamp>,
}

/// A link that was just made, with what stands behind `/s/`, which is kept nowhere.
pub struct NewLink {
    /// The secret.
    pub secret: String,
    /// Its row.
    pub link: ShareLink,
}

impl fmt::Debug for NewLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewLink")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// What a link leads to.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The result.
    pub glb: GlbFile,
    /// The options that its scene was made with.
    pub options_json: String,
    /// When the link ends.
    pub expires_at: Option<Timestamp>,
}

type Row = (i64, String, Option<String>);

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    let all = share_links::table.limit(0);
    all.load::<(i64, String, i32, i32, String, String, Option<String>)>(conn)
        .map(|_| ())
}

/// A date that cannot be read is past.
fn has_ended(expires: Option<&String>, at: Timestamp) -> bool {
    expires.is_some_and(|text| parse_time(text).is_none_or(|time| time <= at))
}

fn link_of((id, created, expires): Row) -> ShareLink {
    ShareLink {
        id,
        created_at: parse_time(&created),
        expires_at: expires.as_deref().and_then(parse_time),
    }
}

fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

impl Store {
    /// Makes a link to a result, which ends at `expires` or never.
    ///
    /// # Errors
    /// When there are too many, the result is gone or the row cannot be written.
    pub fn add_link(
        &self,
        glb: &GlbFile,
        options_json: &str,
        expires: Option<Timestamp>,
    ) -> Result<NewLink, StoreError> {
        let secret = BASE64_URL_SAFE_NO_PAD.encode(random::<SECRET>()?);
        let row = self.connection()?.write(|conn| {
            let time = now();
            let own = share_links::table.filter(share_links::glb_id.eq(glb.id));
            diesel::delete(own.filter(share_links::expires_at.le(column(time)))).execute(conn)?;
            let count: i64 = own.count().get_result(conn)?;
            if count >= LINKS_MAX {
                return Err(StoreError::TooManyLinks(count));
            }
            diesel::insert_into(share_links::table)
                .values((
                    share_links::secret_hash.eq(digest(&secret)),
                    share_links::glb_id.eq(glb.id),
                    share_links::user_id.eq(glb.user_id),
                    share_links::options_json.eq(options_json),
                    share_links::created_at.eq(column(time)),
                    share_links::expires_at.eq(expires.map(column)),
                ))
                .returning((
                    share_links::id,
                    share_links::created_at,
                    share_links::expires_at,
                ))
                .get_result::<Row>(conn)
                .map_err(|e| no_such_user(e, glb.user_id))
        })?;
        Ok(NewLink {
            secret,
            link: link_of(row),
        })
    }

    /// Returns the links to a result that have not ended, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn links_to(&self, glb: &GlbFile) -> Result<Vec<ShareLink>, StoreError> {
        let rows: Vec<Row> = share_links::table
            .filter(share_links::glb_id.eq(glb.id))
            .order(share_links::id.desc())
            .select((
                share_links::id,
                share_links::created_at,
                share_links::expires_at,
            ))
            .load(&mut *self.connection()?)?;
        let time = now();
        let rows = rows
            .into_iter()
            .filter(|row| !has_ended(row.2.as_ref(), time));
        Ok(rows.map(link_of).collect())
    }

    /// Removes a link to a result, and returns true if there was one.
    ///
    /// # Errors
    /// When the row cannot be removed.
    pub fn remove_link(&self, glb: &GlbFile, id: i64) -> Result<bool, StoreError> {
        let own = share_links::table
            .find(id)
            .filter(share_links::glb_id.eq(glb.id));
        Ok(diesel::delete(own).execute(&mut *self.connection()?)? > 0)
    }

    /// Returns what a link leads to; `None` when there is no such link, it has ended, or its user is disabled.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn shared_by(&self, secret: &str) -> Result<Option<Shared>, StoreError> {
        let found = share_links::table
            .inner_join(glb_files::table)
            .inner_join(users::table)
            .filter(share_links::secret_hash.eq(digest(secret)))
            .select((
                GlbFileRow::as_select(),
                UserRow::as_select(),
                share_links::options_json,
                share_links::expires_at,
            ))
            .first::<(GlbFileRow, UserRow, String, Option<String>)>(&mut *self.connection()?)
            .optional()?;
        let Some((glb, user, options_json, expires)) = found else {
            return Ok(None);
        };
        let time = now();
        if has_ended(expires.as_ref(), time) || !user.at(time, 0).active {
            return Ok(None);
        }
        Ok(Some(Shared {
            glb: glb.into(),
            options_json,
            expires_at: expires.as_deref().and_then(parse_time),
        }))
    }
}
