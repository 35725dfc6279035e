//! A store in a temporary folder: an empty one, and one of the Python service.

use std::{fs, io, path::Path};

use diesel::{prelude::*, sql_types::Text};
use tempfile::TempDir;
use vggt::store::{GlbFile, Store, StoreSettings, WriteSeek};

use super::{
    database::{Rows, database_of, psql},
    files::{out_of, out_root_of},
    repository,
};

/// The shortest GLB header: its own 12 bytes.
pub(crate) const GLB: &[u8] = b"glTF\x02\0\0\0\x0c\0\0\0";
pub(crate) const OLD_HASH: &str =
    "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";

pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
}

pub(crate) fn settings(dir: &Path) -> StoreSettings {
    StoreSettings {
        db: database_of(dir),
        out_root: out_root_of(dir),
    }
}

/// An empty store with the user alice, whose id is 1.
pub(crate) fn house() -> House {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&settings(dir.path())).unwrap();
    store.add_user("alice", "geheim", false).unwrap();
    House { dir, store }
}

/// A database of the Python service, with the one file it tells of.
pub(crate) fn python_house() -> House {
    let dir = TempDir::new().unwrap();
    let sql = fs::read_to_string(repository("tests/data/store/python_service.sql")).unwrap();
    connect(dir.path()).batch_execute(&sql).unwrap();
    let day = out_of(dir.path()).join("2025-03-04");
    fs::create_dir_all(&day).unwrap();
    fs::write(day.join(format!("{OLD_HASH}.glb")), GLB).unwrap();
    let store = Store::open(&settings(dir.path())).unwrap();
    House { dir, store }
}

/// The database as another program sees it.
pub(crate) fn connect(dir: &Path) -> Rows {
    Rows::of(dir)
}

/// The column `answer` of every row.
pub(crate) fn ask(dir: &Path, sql: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Answer {
        #[diesel(sql_type = Text)]
        answer: String,
    }
    match connect(dir) {
        Rows::Sqlite(mut conn) => {
            let rows: Vec<Answer> = diesel::sql_query(sql).load(&mut conn).unwrap();
            rows.into_iter().map(|row| row.answer).collect()
        }
        Rows::Postgres(url) => psql(&url, sql)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect(),
    }
}

/// The one number that a query gives.
pub(crate) fn number(dir: &Path, sql: &str) -> i64 {
    let sql = format!("SELECT CAST(({sql}) AS TEXT) AS answer");
    ask(dir, &sql)[0].parse().unwrap()
}

pub(crate) fn execute(dir: &Path, sql: &str) {
    connect(dir).batch_execute(sql).unwrap();
}

pub(crate) fn write_glb(out: &mut dyn WriteSeek) -> io::Result<()> {
    out.write_all(GLB)
}

pub(crate) fn save(store: &Store, user: i32) -> GlbFile {
    store
        .save_glb(user, "images_1.glb", &mut write_glb)
        .unwrap()
}

/// The folder that a file lies in.
pub(crate) fn day_of(row: &GlbFile) -> &str {
    row.file_path.split('/').nth(1).unwrap()
}
