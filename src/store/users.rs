//! The table `users`: names, passwords and VIP status.

use diesel::prelude::*;
use jiff::Timestamp;

use super::{
    SessionStamp, Store, StoreError,
    connection::{AnyConnection, columns},
    drafts,
    error::shortened,
    passwords::{Verdict, is_plain},
    removed::note,
    schema::{glb_files, jobs, session_ends, users},
    sessions,
    time::{column, now, parse_time},
};

/// The column's width, in characters.
const NAME_MAX: usize = 64;

/// The value of `status` that may log in.
pub(super) const ACTIVE: i32 = 1;
const DISABLED: i32 = 0;

/// A user, as of the time of the query. Two are equal when all but their stamps are.
#[derive(Debug, Clone)]
pub struct User {
    /// The primary key.
    pub id: i32,
    /// The name to log in with.
    pub username: String,
    /// True for a VIP whose status has not expired.
    pub is_vip: bool,
    /// Time at which the VIP status expires; `None`: never.
    pub vip_expire_time: Option<Timestamp>,
    /// True when the user may log in.
    pub active: bool,
    /// True when the row still holds a plain password of the Python service.
    pub plain_password: bool,
    /// Time at which the user was added, where that is known.
    pub created_at: Option<Timestamp>,
    /// What a session of this user carries, see [`Store::user_of_session`].
    pub stamp: SessionStamp,
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        // The stamp tells logins apart, not users.
        let facts = |user: &Self| {
            (
                user.id,
                user.is_vip,
                user.vip_expire_time,
                user.active,
                user.plain_password,
                user.created_at,
            )
        };
        self.username == other.username && facts(self) == facts(other)
    }
}

impl Eq for User {}

#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
pub(super) struct UserRow {
    pub(super) id: i32,
    pub(super) username: String,
    pub(super) password_hash: String,
    is_vip: Option<bool>,
    vip_expire_time: Option<String>,
    status: Option<i32>,
    pub(super) created_at: Option<String>,
}

#[derive(Insertable)]
#[diesel(table_name = users)]
struct NewUser<'a> {
    username: &'a str,
    password_hash: &'a str,
    is_vip: bool,
    status: i32,
    created_at: &'a str,
    updated_at: &'a str,
}

impl UserRow {
    /// The user as of `now`, who has been disabled `ends` times.
    pub(super) fn at(&self, now: Timestamp, ends: i64) -> User {
        let expire = self.vip_expire_time.as_deref().map(parse_time);
        User {
            id: self.id,
            // An unreadable date counts as past.
            is_vip: self.is_vip == Some(true)
                && expire.is_none_or(|time| time.is_some_and(|time| time > now)),
            vip_expire_time: expire.flatten(),
            active: self.status == Some(ACTIVE),
            plain_password: is_plain(&self.password_hash),
            created_at: self.created_at.as_deref().and_then(parse_time),
            username: self.username.clone(),
            stamp: SessionStamp::new(self.created_at.clone(), self.password_hash.clone(), ends),
        }
    }
}

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    users::table
        .select((UserRow::as_select(), users::updated_at))
        .limit(0)
        .load::<(UserRow, Option<String>)>(conn)
        .map(|_| ())
}

impl Store {
    /// Adds an active user.
    ///
    /// # Errors
    /// When the name is taken, empty, longer than 64 characters or holds control characters, or the password is empty.
    pub fn add_user(&self, name: &str, password: &str, vip: bool) -> Result<User, StoreError> {
        self.add(name, password, vip, false)
    }

    /// As [`Store::add_user`] while there is no user at all.
    ///
    /// # Errors
    /// As there, and when there is a user.
    pub fn add_first_user(&self, name: &str, password: &str) -> Result<User, StoreError> {
        self.add(name, password, false, true)
    }

    fn add(
        &self,
        name: &str,
        password: &str,
        vip: bool,
        only_first: bool,
    ) -> Result<User, StoreError> {
        check_name(name)?;
        let hash = self.hash(password)?;
        let time = now();
        let text = column(time);
        let new = NewUser {
            username: name,
            password_hash: &hash,
            is_vip: vip,
            status: ACTIVE,
            created_at: &text,
            updated_at: &text,
        };
        let row: UserRow = self.connection()?.write(|conn| {
            // Checked here, since an older table may lack the constraint.
            if only_first && users::table.count().get_result::<i64>(conn)? > 0 {
                return Err(StoreError::HasUsers);
            }
            if find(conn, name)?.is_some() {
                return Err(StoreError::NameTaken(name.to_owned()));
            }
            let added = diesel::insert_into(users::table).values(&new);
            Ok(added.returning(columns::<UserRow>()).get_result(conn)?)
        })?;
        Ok(row.at(time, 0))
    }

    /// Returns the user if name and password are right and the user is active. A wrong password, an unknown name and a
    /// disabled user take the same time. A plain password of the Python service is replaced by its hash.
    ///
    /// Blocks for some 20 ms, and longer when more than four log in at once.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn login(&self, name: &str, password: &str) -> Result<Option<User>, StoreError> {
        let mut row = self.row_with_ends(name)?;
        loop {
            // No connection is held during the slow part.
            let stored = row.as_ref().map(|(row, _)| row.password_hash.as_str());
            let verdict = self.passwords.verify(stored, password)?;
            let Some((found, ends)) = row
                .take()
                .filter(|(row, _)| verdict != Verdict::Wrong && row.status == Some(ACTIVE))
            else {
                return Ok(None);
            };
            let mut user = found.at(now(), ends);
            let Verdict::GoodButPlain(hash) = verdict else {
                return Ok(Some(user));
            };
            match self.replace_hash(&found, &hash) {
                Ok(1) => {
                    user.plain_password = false;
                    user.stamp = SessionStamp::new(found.created_at, hash, ends);
                    return Ok(Some(user));
                }
                // Another login was first, or the password has just been changed: compared with what is there now. A hash
                // never becomes a plain password again, so that this ends.
                Ok(_) => row = self.row_with_ends(name)?,
                // The password was right all the same; the next login tries again.
                Err(e) => {
                    tracing::warn!("cannot hash the password of user {}: {e}", found.id);
                    return Ok(Some(user));
                }
            }
        }
    }

    fn row_with_ends(&self, name: &str) -> Result<Option<(UserRow, i64)>, StoreError> {
        let mut conn = self.connection()?;
        let Some(row) = find(&mut conn, name)? else {
            return Ok(None);
        };
        let ends = sessions::ends(&mut conn, row.id)?;
        Ok(Some((row, ends)))
    }

    /// Returns the user with this id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn user_by_id(&self, id: i32) -> Result<Option<User>, StoreError> {
        let mut conn = self.connection()?;
        let found = users::table.find(id).select(UserRow::as_select());
        let Some(row) = found.first::<UserRow>(&mut *conn).optional()? else {
            return Ok(None);
        };
        let ends = sessions::ends(&mut conn, id)?;
        Ok(Some(row.at(now(), ends)))
    }

    /// Returns the user with this name.
    ///
    /// # Errors
    /// [`StoreError::UnknownUser`] when there is none.
    pub fn user_by_name(&self, name: &str) -> Result<User, StoreError> {
        let (row, ends) = self.row_with_ends(name)?.ok_or_else(|| unknown(name))?;
        Ok(row.at(now(), ends))
    }

    /// Returns all users, sorted by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn users(&self) -> Result<Vec<User>, StoreError> {
        let all = users::table
            .left_join(session_ends::table)
            .order(users::id)
            .select((UserRow::as_select(), session_ends::count.nullable()));
        let rows: Vec<(UserRow, Option<i64>)> = all.load(&mut *self.connection()?)?;
        let now = now();
        let users = rows.into_iter();
        Ok(users
            .map(|(row, ends)| row.at(now, ends.unwrap_or(0)))
            .collect())
    }

    /// Changes the password of a user.
    ///
    /// # Errors
    /// When there is no such user or the password is empty.
    pub fn set_password(&self, name: &str, password: &str) -> Result<(), StoreError> {
        self.user_by_name(name)?;
        let hash = self.hash(password)?;
        let change = (
            users::password_hash.eq(hash),
            users::updated_at.eq(column(now())),
        );
        let user = users::table.filter(users::username.eq(name));
        known(
            name,
            diesel::update(user)
                .set(change)
                .execute(&mut *self.connection()?)?,
        )
    }

    /// Sets the VIP status of a user, until `expire` or permanently.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn set_vip(
        &self,
        name: &str,
        vip: bool,
        expire: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let change = (
            users::is_vip.eq(vip),
            users::vip_expire_time.eq(expire.map(column)),
            users::updated_at.eq(column(now())),
        );
        let user = users::table.filter(users::username.eq(name));
        known(
            name,
            diesel::update(user)
                .set(change)
                .execute(&mut *self.connection()?)?,
        )
    }

    /// Enables or disables a user. Disabling ends all sessions of the user for good.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn set_active(&self, name: &str, active: bool) -> Result<(), StoreError> {
        let change = (
            users::status.eq(if active { ACTIVE } else { DISABLED }),
            users::updated_at.eq(column(now())),
        );
        self.connection()?.write(|conn| {
            let id = find(conn, name)?.ok_or_else(|| unknown(name))?.id;
            diesel::update(users::table.find(id))
                .set(change)
                .execute(conn)?;
            if !active {
                sessions::end_all(conn, id)?;
            }
            Ok(())
        })
    }

    /// Removes a user with all files and jobs, and returns the number of removed GLB files. What cannot be removed now is
    /// removed by the next start of a server.
    ///
    /// # Errors
    /// When there is no such user, or the folder of the files is not that of the database.
    pub fn remove_user(&self, name: &str) -> Result<usize, StoreError> {
        let user = self.user_by_name(name)?;
        self.check_folder_of(user.id, Self::guard)?;
        let (paths, dirs) = self.connection()?.write(|conn| {
            let id = find(conn, name)?.ok_or_else(|| unknown(name))?.id;
            let paths: Vec<String> = glb_files::table
                .filter(glb_files::user_id.eq(id))
                .select(glb_files::file_path)
                .load(conn)?;
            let mut dirs: Vec<String> = jobs::table
                .filter(jobs::user_id.eq(id))
                .select(jobs::dir)
                .load(conn)?;
            dirs.extend(drafts::dirs_of(conn, id)?);
            for path in &paths {
                note(conn, path)?;
            }
            // Older tables may not cascade.
            diesel::delete(glb_files::table.filter(glb_files::user_id.eq(id))).execute(conn)?;
            diesel::delete(users::table.find(id)).execute(conn)?;
            Ok::<_, StoreError>((paths, dirs))
        })?;
        self.remove_noted(&paths);
        for dir in &dirs {
            self.remove_job_dir(dir);
        }
        Ok(paths.len())
    }

    /// Fails as [`Store::check_folder`] before a user is removed, unless the folder is not there and the user has no files.
    ///
    /// # Errors
    /// As [`Store::check_folder`].
    pub fn check_before_removal(&self, id: i32) -> Result<(), StoreError> {
        self.check_folder_of(id, Self::check_folder)
    }

    fn check_folder_of(
        &self,
        id: i32,
        check: impl Fn(&Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match check(self) {
            Err(StoreError::NoFolder { .. } | StoreError::FilesMissing { .. })
                if self.usage_of(id)?.files == 0 =>
            {
                Ok(())
            }
            bound => bound,
        }
    }

    /// Replaces every plain password of the Python service by its hash and returns their number.
    ///
    /// # Errors
    /// When the database cannot be written; passwords that were replaced stay replaced.
    pub fn rehash_all(&self) -> Result<usize, StoreError> {
        let all = users::table.select(UserRow::as_select());
        let rows: Vec<UserRow> = all.load(&mut *self.connection()?)?;
        let mut replaced = 0;
        for row in rows.iter().filter(|row| is_plain(&row.password_hash)) {
            let hash = self.passwords.hash(&row.password_hash)?;
            replaced += self.replace_hash(row, &hash)?;
        }
        Ok(replaced)
    }

    fn hash(&self, password: &str) -> Result<String, StoreError> {
        if password.is_empty() {
            return Err(StoreError::EmptyPassword);
        }
        self.passwords.hash(password)
    }

    /// Replaces the hash of a row. Does nothing if the row changed in the meantime.
    fn replace_hash(&self, row: &UserRow, hash: &str) -> Result<usize, StoreError> {
        let unchanged = users::table
            .find(row.id)
            .filter(users::password_hash.eq(&row.password_hash));
        let change = (
            users::password_hash.eq(hash),
            users::updated_at.eq(column(now())),
        );
        Ok(diesel::update(unchanged)
            .set(change)
            .execute(&mut *self.connection()?)?)
    }
}

fn find(conn: &mut AnyConnection, name: &str) -> QueryResult<Option<UserRow>> {
    users::table
        .filter(users::username.eq(name))
        .select(UserRow::as_select())
        .first(conn)
        .optional()
}

fn known(name: &str, changed: usize) -> Result<(), StoreError> {
    if changed == 0 {
        return Err(unknown(name));
    }
    Ok(())
}

fn unknown(name: &str) -> StoreError {
    StoreError::UnknownUser(shortened(name))
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let why = if name.trim().is_empty() {
        "it is empty"
    } else if name.chars().count() > NAME_MAX {
        "it is longer than 64 characters"
    } else if name.trim() != name {
        "it begins or ends with white space"
    } else if name.chars().any(char::is_control) {
        "it holds control characters"
    } else {
        return Ok(());
    };
    Err(StoreError::BadName {
        name: shortened(name),
        why,
    })
}
