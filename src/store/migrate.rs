//! All rows of one database into another, empty one, in one transaction: after an interruption there is nothing of it, and the
//! same call begins again. What was copied is read back and compared before it counts.
//!
//! Files stay where they are: the identifier of the folder is a row like any other. They may be copied first: see `migrate_files`.

use diesel::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    DraftPart, Store, StoreError,
    connection::AnyConnection,
    draft_files::insert_part,
    schema::{
        access_tokens, draft_files, draft_parts, drafts, glb_files, identity, job_warnings, jobs,
        kept_inputs, kept_spools, known_addresses, removed_files, result_scales, results,
        session_ends, share_links, users,
    },
    sqlite,
};

/// Rows that are read and written at once.
const BATCH: i64 = 500;

/// The rows of a table that were copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedTable {
    /// Name of the table.
    pub table: &'static str,
    /// Number of its rows.
    pub rows: usize,
}

/// How many rows of a table there are, and what they hold.
type Sum = (usize, [u8; 32]);

/// Hashes rows in their order.
struct Summing {
    rows: usize,
    digest: Sha256,
}

impl Summing {
    fn new() -> Self {
        Self {
            rows: 0,
            digest: Sha256::new(),
        }
    }

    fn add(&mut self, value: &impl std::fmt::Debug) {
        self.digest.update(format!("{value:?}\n"));
    }

    fn end_row(&mut self) {
        self.rows += 1;
    }

    fn sum(self) -> Sum {
        (self.rows, self.digest.finalize().into())
    }
}

/// Declares the tables in the order in which they may be filled, each with what orders its rows and its columns.
macro_rules! tables {
    ($($table:ident by $key:expr => { $($column:ident: $type:ty),+ $(,)? })+) => {
        /// Reads the rows of all tables and returns what they hold; writes them into another database, if there is one.
        fn read_all(
            from: &mut AnyConnection,
            mut into: Option<&mut AnyConnection>,
        ) -> Result<Vec<(&'static str, Sum)>, CopyError> {
            let mut sums = Vec::new();
            $({
                let name = stringify!($table);
                let failed = |source: diesel::result::Error| CopyError { table: name, source };
                let mut summing = Summing::new();
                loop {
                    let rows: Vec<($($type,)+)> = $table::table
                        .order($key)
                        .select(($($table::$column,)+))
                        .offset(summing.rows as i64)
                        .limit(BATCH)
                        .load(from)
                        .map_err(failed)?;
                    if rows.is_empty() {
                        break;
                    }
                    for ($($column,)+) in rows {
                        $(summing.add(&$column);)+
                        summing.end_row();
                        if let Some(into) = into.as_deref_mut() {
                            let row = ($($table::$column.eq($column),)+);
                            diesel::insert_into($table::table).values(row).execute(into).map_err(failed)?;
                        }
                    }
                }
                sums.push((name, summing.sum()));
            })+
            Ok(sums)
        }
    };
}

tables! {
    users by users::id => {
        id: i32, username: String, password_hash: String, is_vip: Option<bool>, vip_expire_time: Option<String>,
        status: Option<i32>, created_at: Option<String>, updated_at: Option<String>,
    }
    glb_files by glb_files::id => {
        id: i32, hashed_name: String, original_name: Option<String>, file_path: String, user_id: i32, file_size: Option<i64>,
        created_at: Option<String>, is_public: Option<bool>,
    }
    jobs by jobs::id => {
        id: i64, user_id: i32, kind: String, original_name: String, options_json: String, input_key: String, dir: String,
        state: String, hashed_name: Option<String>, reason: Option<String>, created_at: String, started_at: Option<String>,
        finished_at: Option<String>, deaths: i32, tries: i32, next_try_at: Option<String>,
    }
    kept_inputs by kept_inputs::job_id => { job_id: i64, keep_until: String }
    job_warnings by job_warnings::job_id => { job_id: i64, warnings_json: String }
    results by (results::user_id, results::input_key) => { user_id: i32, input_key: String, glb_id: i32, created_at: String }
    kept_spools by kept_spools::glb_id => { glb_id: i32, user_id: i32, bytes: i64 }
    result_scales by result_scales::glb_id => { glb_id: i32, meters_per_unit: f64 }
    known_addresses by (known_addresses::user_id, known_addresses::address) => {
        user_id: i32, address: String, last_login_at: String,
    }
    session_ends by session_ends::user_id => { user_id: i32, count: i64 }
    access_tokens by access_tokens::id => {
        id: i64, secret_hash: String, user_id: i32, user_stamp: String, name: Option<String>, created_at: String,
        last_used_at: Option<String>, expires_at: Option<String>,
    }
    share_links by share_links::id => {
        id: i64, secret_hash: String, glb_id: i32, user_id: i32, options_json: String, created_at: String,
        expires_at: Option<String>,
    }
    drafts by drafts::id => {
        id: i64, user_id: i32, options_json: String, dir: String, next_file: i32, created_at: String, expires_at: String,
    }
    draft_files by (draft_files::draft_id, draft_files::number) => {
        draft_id: i64, number: i32, name: String, metadata: String, length: i64, received: i64,
    }
    identity by identity::id => { id: i32, identifier: String, created_at: String }
    draft_parts by (draft_parts::draft_id, draft_parts::number, draft_parts::start) => {
        draft_id: i64, number: i32, start: i64, length: i64, name: String,
    }
    removed_files by removed_files::file_path => {
        file_path: String, since: Option<String>, process: Option<String>,
    }
}

/// Tables whose keys are never given twice.
const COUNTED: [&str; 5] = ["users", "glb_files", "jobs", "access_tokens", "share_links"];

/// A table cannot be copied.
struct CopyError {
    table: &'static str,
    source: diesel::result::Error,
}

impl From<CopyError> for StoreError {
    fn from(e: CopyError) -> Self {
        Self::Copy {
            table: e.table,
            source: e.source,
        }
    }
}

impl Store {
    /// Copies all rows into `to`, which must be empty, and goes on with its keys where those here ended. Returns how many rows
    /// each table had. No server may use either of the two. `parts` are those of drafts whose files were copied into a bucket.
    ///
    /// # Errors
    /// When `to` has rows, something cannot be read or written, or what was written is not what was read. `to` is as it was then.
    pub fn copy_to(
        &self,
        to: &Self,
        parts: &[(i64, i32, DraftPart)],
    ) -> Result<Vec<CopiedTable>, StoreError> {
        let mut from = self.connection()?;
        let mut into = to.connection()?;
        // Nobody writes here in between.
        from.write(|from| {
            into.write(|to| {
                if let Some((table, _)) = read_all(to, None)?.into_iter().find(|(_, sum)| sum.0 > 0)
                {
                    return Err(StoreError::NotEmpty { table });
                }
                let copied = read_all(from, Some(to))?;
                for table in COUNTED {
                    let last = last_key(from, table)?;
                    go_on_after(to, table, last)?;
                }
                let found = read_all(to, None)?;
                let pairs = copied.iter().zip(&found);
                if let Some(((table, _), _)) = pairs.clone().find(|(a, b)| a != b) {
                    return Err(StoreError::CopyDiffers { table });
                }
                for (draft, number, part) in parts {
                    insert_part(to, *draft, *number, part)?;
                }
                let tables = copied.into_iter();
                let tables = tables.map(|(table, (rows, _))| CopiedTable { table, rows });
                Ok(tables.collect())
            })
        })
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

/// Returns the highest key that a table has given, also to rows that are gone.
fn last_key(conn: &mut AnyConnection, table: &'static str) -> Result<i64, StoreError> {
    let query = match conn {
        AnyConnection::Sqlite(_) => format!(
            "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = '{table}'), \
             (SELECT max(id) FROM {table}), 0) AS number"
        ),
        AnyConnection::Postgres(_) => format!(
            "SELECT COALESCE(pg_sequence_last_value(pg_get_serial_sequence('{table}', 'id')::regclass), 0) AS number"
        ),
    };
    let found: Number = diesel::sql_query(query).get_result(conn)?;
    Ok(found.number)
}

/// Makes the next key of a table a higher one.
fn go_on_after(conn: &mut AnyConnection, table: &'static str, last: i64) -> Result<(), StoreError> {
    if last == 0 {
        return Ok(());
    }
    match conn {
        AnyConnection::Sqlite(conn) => sqlite::go_on_after(conn, table, last)?,
        AnyConnection::Postgres(conn) => {
            let query = format!("SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last})");
            diesel::sql_query(query).execute(conn)?;
        }
    }
    Ok(())
}
