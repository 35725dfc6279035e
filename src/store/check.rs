//! Compares rows with files, both ways.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use diesel::{prelude::*, sql_types::Text};

use super::{
    GlbFile, Store, StoreError,
    files::{absolute, sync_folder},
    glb_files as glbs,
    schema::glb_files,
};

/// Folder to which a repair moves files without a row: their owner is unknown, and they may be the only copy.
const UNCLAIMED: &str = ".unclaimed";

/// Differences between rows and files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Number of rows.
    pub rows: usize,
    /// Number of GLB files.
    pub files: usize,
    /// Rows without a file. A repair removes them.
    pub missing: Vec<GlbFile>,
    /// Rows whose file is not a whole GLB. A repair removes the row and moves the file away.
    pub damaged: Vec<GlbFile>,
    /// Rows with a wrong size of a whole GLB. A repair corrects it.
    pub wrong_size: Vec<GlbFile>,
    /// GLB files without a row. A repair moves them to `<out_root>/.unclaimed`.
    pub unclaimed: Vec<PathBuf>,
    /// Half-written files of processes that have ended. A repair removes them.
    pub temporary: Vec<PathBuf>,
    /// True when all of this was repaired.
    pub repaired: bool,
}

impl CheckReport {
    /// Returns the number of problems.
    pub fn problems(&self) -> usize {
        self.missing.len()
            + self.damaged.len()
            + self.wrong_size.len()
            + self.unclaimed.len()
            + self.temporary.len()
    }
}

enum Judgement {
    Fine,
    Missing,
    Damaged,
    WrongSize(u64),
}

#[derive(QueryableByName)]
struct Reference {
    #[diesel(sql_type = Text)]
    path: String,
}

impl Store {
    /// Compares rows and files both ways, and repairs on request. Safe while a server is running.
    ///
    /// # Errors
    /// When the database or the folder cannot be read, or a repair fails half-way: what was done is whole.
    pub fn check(&self, repair: bool) -> Result<CheckReport, StoreError> {
        // Files first: one that is stored later is not on the list, and one on the list that is being stored has its row by
        // the time the lock is taken. The lock is held so that no row or file disappears in between.
        let found = self.found()?;
        self.connection()?.immediate_transaction(|conn| {
            let rows = glbs::all(conn)?;
            let mut known: BTreeSet<PathBuf> = rows.iter().map(|row| self.glb_path(row)).collect();
            known.extend(
                other_references(conn)?
                    .iter()
                    .map(|p| absolute(&self.out_root, p)),
            );
            let mut report = CheckReport {
                rows: rows.len(),
                files: found.glbs.len(),
                temporary: found.temporary,
                repaired: repair,
                ..CheckReport::default()
            };
            for path in found.glbs {
                // A file that was deleted since it was listed is not a problem.
                if !known.contains(&path) && path.exists() {
                    report.unclaimed.push(path);
                }
            }
            for row in rows {
                let path = self.glb_path(&row);
                match judge(&row, &path)? {
                    Judgement::Fine => {}
                    Judgement::Missing => {
                        if repair {
                            diesel::delete(glb_files::table.find(row.id)).execute(conn)?;
                        }
                        report.missing.push(row);
                    }
                    Judgement::Damaged => {
                        if repair {
                            diesel::delete(glb_files::table.find(row.id)).execute(conn)?;
                            self.set_aside(&path)?;
                        }
                        report.damaged.push(row);
                    }
                    Judgement::WrongSize(size) => {
                        if repair {
                            let size = i64::try_from(size).unwrap_or(i64::MAX);
                            diesel::update(glb_files::table.find(row.id))
                                .set(glb_files::file_size.eq(size))
                                .execute(conn)?;
                        }
                        report.wrong_size.push(row);
                    }
                }
            }
            if repair {
                for path in &report.unclaimed {
                    self.set_aside(path)?;
                }
                for path in &report.temporary {
                    self.remove_file(path)?;
                }
            }
            Ok(report)
        })
    }

    fn set_aside(&self, path: &Path) -> Result<(), StoreError> {
        let folder = self.out_root.join(UNCLAIMED);
        let name = path.file_name().unwrap_or_default();
        fs::create_dir_all(&folder)
            .and_then(|()| fs::rename(path, folder.join(name)))
            .and_then(|()| sync_folder(&folder))
            .map_err(|source| StoreError::Files {
                what: "move away",
                path: path.to_owned(),
                source,
            })
    }
}

fn judge(row: &GlbFile, path: &Path) -> Result<Judgement, StoreError> {
    let failed = |source| StoreError::Files {
        what: "read",
        path: path.to_owned(),
        source,
    };
    let meta = match fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta,
        Ok(_) => return Ok(Judgement::Missing),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Judgement::Missing),
        Err(e) => return Err(failed(e)),
    };
    if meta.len() == row.file_size {
        return Ok(Judgement::Fine);
    }
    Ok(
        if length_in_header(path).map_err(failed)? == Some(meta.len()) {
            Judgement::WrongSize(meta.len())
        } else {
            Judgement::Damaged
        },
    )
}

/// Returns the length in the header of a GLB: after "glTF" and the version, 32 bits, little-endian.
fn length_in_header(path: &Path) -> io::Result<Option<u64>> {
    let mut head = Vec::with_capacity(12);
    File::open(path)?.take(12).read_to_end(&mut head)?;
    Ok(match *head {
        [b'g', b'l', b'T', b'F', _, _, _, _, a, b, c, d] => {
            Some(u32::from_le_bytes([a, b, c, d]).into())
        }
        _ => None,
    })
}

/// Returns the files that the table `models` of older databases refers to.
fn other_references(conn: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    let exists = diesel::sql_query(
        "SELECT name AS path FROM sqlite_master WHERE type = 'table' AND name = 'models'",
    );
    if exists.load::<Reference>(conn)?.is_empty() {
        return Ok(Vec::new());
    }
    let paths = diesel::sql_query(
        "SELECT file_path AS path FROM models WHERE file_path IS NOT NULL \
         UNION SELECT preview_image FROM models WHERE preview_image IS NOT NULL",
    );
    let paths: Vec<Reference> = paths.load(conn)?;
    Ok(paths.into_iter().map(|r| r.path).collect())
}
