//! Keys that are never given twice: `AUTOINCREMENT` for the tables whose keys identify users and files.
//!
//! Without it SQLite gives the highest key again once its row is gone, so that the next user would be taken for a removed
//! one. Tables of older databases get it in place: the change is one of SQLite's schema table, no row is moved, and indexes,
//! triggers, views, other columns and references stay as they are. A table with and one without `AUTOINCREMENT` have the same
//! form on the disk, see <https://www.sqlite.org/lang_altertable.html#otheralter> and
//! <https://www.sqlite.org/autoinc.html>. It is not a migration: a foreign key cannot be switched off within diesel's transaction,
//! and a table that another program makes anew is mended at the next start.

use diesel::{
    connection::SimpleConnection,
    prelude::*,
    sql_types::{BigInt, Integer, Nullable, Text},
};

use super::create_table::{has_autoincrement, with_autoincrement};

/// The tables, and the column by which others refer to them.
const TABLES: [(&str, &str); 2] = [("users", "user_id"), ("glb_files", "glb_id")];

/// Keys that a counter starts behind: those above are damage, and a counter there would soon have no key to give.
const LARGEST_KEY: i32 = i32::MAX - (1 << 20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(QueryableByName)]
struct TableSql {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    sql: String,
}

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    column_name: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
}

#[derive(QueryableByName)]
struct Violation {
    #[diesel(sql_type = Text)]
    violation: String,
}

/// Makes the keys of users and files unique for all time. All tables are changed or none; does nothing the second time.
///
/// # Errors
/// When the database is locked, read-only or full.
pub(super) fn never_reuse(conn: &mut SqliteConnection) -> Result<(), Failure> {
    let mut pending = false;
    for (table, _) in TABLES {
        pending |= change(conn, table)?.is_some();
    }
    if !pending {
        return Ok(());
    }
    conn.batch_execute("PRAGMA foreign_keys = OFF;")?;
    let done = conn.immediate_transaction(change_all);
    // Also after a failure, whatever has been read of a schema that is rolled back.
    let reset = conn.batch_execute("PRAGMA writable_schema = RESET; PRAGMA foreign_keys = ON;");
    done?;
    Ok(reset?)
}

fn change_all(conn: &mut SqliteConnection) -> Result<(), Failure> {
    let before = violations(conn);
    for (table, column) in TABLES {
        // Asked again under the lock: another process may have been quicker.
        let Some(changed) = change(conn, table)? else {
            continue;
        };
        let highest = highest_key(conn, &changed.name, column)?;
        let version = number(
            conn,
            "SELECT schema_version AS number FROM pragma_schema_version",
        )?;
        conn.batch_execute("PRAGMA writable_schema = ON;")?;
        diesel::sql_query("UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?")
            .bind::<Text, _>(&changed.sql)
            .bind::<Text, _>(&changed.name)
            .execute(conn)?;
        // Tells other connections to read the schema again; RESET does so here, and fails when it cannot be read.
        conn.batch_execute(&format!(
            "PRAGMA schema_version = {}; PRAGMA writable_schema = RESET;",
            version + 1
        ))?;
        diesel::sql_query("DELETE FROM sqlite_sequence WHERE name = ?")
            .bind::<Text, _>(&changed.name)
            .execute(conn)?;
        diesel::sql_query("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)")
            .bind::<Text, _>(&changed.name)
            .bind::<BigInt, _>(highest)
            .execute(conn)?;
        tracing::debug!(
            "keys of the table {} are never given twice from now on",
            changed.name
        );
    }
    if violations(conn) != before {
        return Err("its foreign keys would be damaged".into());
    }
    Ok(())
}

/// Returns the table's name and its new text; `None` when nothing is to be done, or nothing can be.
fn change(conn: &mut SqliteConnection, table: &str) -> QueryResult<Option<TableSql>> {
    let found = diesel::sql_query(
        "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE",
    )
    .bind::<Text, _>(table)
    .get_result::<TableSql>(conn)
    .optional()?;
    let Some(TableSql { name, sql }) = found.filter(|found| !has_autoincrement(&found.sql)) else {
        return Ok(None);
    };
    let changed = with_autoincrement(&sql).filter(|sql| {
        // SQLite refuses the word where keys are not given by the table itself; then none is given twice either.
        SqliteConnection::establish(":memory:")
            .map(|mut empty| empty.batch_execute(sql))
            .is_ok_and(|done| done.is_ok())
    });
    if changed.is_none() {
        tracing::warn!(
            "the key of the table {name} is not an INTEGER PRIMARY KEY: it is left as it is"
        );
    }
    Ok(changed.map(|sql| TableSql { name, sql }))
}

/// Returns the highest key that the table or a reference to it holds, also where the row is gone.
fn highest_key(conn: &mut SqliteConnection, table: &str, column: &str) -> QueryResult<i64> {
    let columns: Vec<Column> = diesel::sql_query(
        "SELECT m.name AS table_name, c.name AS column_name \
         FROM sqlite_master m, pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND (c.name = ?2 COLLATE NOCASE OR m.name = ?1 AND c.name = 'id' COLLATE NOCASE) \
         UNION SELECT m.name, f.\"from\" FROM sqlite_master m, pragma_foreign_key_list(m.name) f \
         WHERE m.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE",
    )
    .bind::<Text, _>(table)
    .bind::<Text, _>(column)
    .load(conn)?;
    let mut highest = 0;
    for Column {
        table_name,
        column_name,
    } in columns
    {
        let (table, column) = (quoted(&table_name), quoted(&column_name));
        let query = format!(
            "SELECT max({column}) AS number FROM {table} WHERE typeof({column}) = 'integer' AND {column} <= ?"
        );
        let found: Number = diesel::sql_query(query)
            .bind::<Integer, _>(LARGEST_KEY)
            .get_result(conn)?;
        highest = highest.max(found.number.unwrap_or(0));
    }
    Ok(highest)
}

fn number(conn: &mut SqliteConnection, query: &str) -> QueryResult<i64> {
    let found: Number = diesel::sql_query(query).get_result(conn)?;
    Ok(found.number.unwrap_or(0))
}

/// Returns the rows whose references lead nowhere, or why they cannot be found out: older databases may have both.
fn violations(conn: &mut SqliteConnection) -> Result<Vec<String>, String> {
    let query = "SELECT \"table\" || ' ' || coalesce(rowid, '') || ' ' || parent || ' ' || fkid AS violation \
                 FROM pragma_foreign_key_check ORDER BY 1";
    let found = diesel::sql_query(query).load::<Violation>(conn);
    found
        .map(|rows| rows.into_iter().map(|row| row.violation).collect())
        .map_err(|e| e.to_string())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
