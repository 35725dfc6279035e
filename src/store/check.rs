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
    connection::AnyConnection,
    files::{UNCLAIMED, absolute, sync_folder},
    glb_files as glbs,
    schema::{glb_files, removed_files},
};

/// What a check does about the differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    No,
    /// Corrects sizes, moves files without a row away and removes half-written ones. Rows stay.
    Files,
    /// Removes rows without a file as well, unless most of them are missing.
    Rows,
    /// Removes rows without a file, however many there are.
    AllRows,
}

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
    /// Number of rows that were kept, although their files are missing or damaged.
    pub kept: usize,
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
    WrongSize,
}

#[derive(QueryableByName)]
struct Reference {
    #[diesel(sql_type = Text)]
    path: String,
}

impl Store {
    /// Compares rows and files both ways, and on request repairs as [`Repair::Rows`]. Safe while a server is running.
    ///
    /// # Errors
    /// As [`Store::check_and`].
    pub fn check(&self, repair: bool) -> Result<CheckReport, StoreError> {
        self.check_and(if repair { Repair::Rows } else { Repair::No })
    }

    /// Compares rows and files both ways, and repairs as asked for. Safe while a server is running.
    ///
    /// # Errors
    /// When the folder is not that of the database ([`StoreError::OtherFolder`] and others), most files are missing
    /// ([`StoreError::MostMissing`], nothing is repaired then), something cannot be read, or a repair fails half-way: what was
    /// done is whole.
    pub fn check_and(&self, repair: Repair) -> Result<CheckReport, StoreError> {
        self.guard()?;
        if let Some(remote) = &self.remote {
            return self.check_bucket(remote, repair);
        }
        // Files first: one that is stored later is not on the list, and one on the list that is being stored has its row by
        // the time the lock is taken. The lock is held so that no row or file disappears in between.
        let found = self.found()?;
        // Those of files that go with their other names.
        let temporary = found.temporary.iter();
        let twins: BTreeSet<&PathBuf> = temporary.filter_map(|t| t.twin.as_ref()).collect();
        let mut report = CheckReport {
            files: found.glbs.len(),
            temporary: found.temporary.iter().map(|t| t.path.clone()).collect(),
            ..CheckReport::default()
        };
        self.connection()?.write(|conn| {
            self.compare(conn, &found.glbs, &twins, &mut report)?;
            if repair != Repair::No {
                self.repair(conn, repair, &mut report)?;
            }
            Ok::<_, StoreError>(())
        })?;
        if repair != Repair::No {
            // Outside: they ask for rows themselves.
            for temporary in &found.temporary {
                self.remove_temporary(temporary)?;
            }
            self.finish_removals()?;
        }
        Ok(report)
    }

    fn compare(
        &self,
        conn: &mut AnyConnection,
        glbs: &[PathBuf],
        twins: &BTreeSet<&PathBuf>,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let rows = glbs::all(conn)?;
        let mut known: BTreeSet<PathBuf> = rows.iter().map(|row| self.glb_path(row)).collect();
        let others = other_references(conn)?;
        known.extend(others.iter().map(|p| absolute(&self.out_root, p)));
        // Deleted, and to be removed as soon as it can be.
        let noted: Vec<String> = removed_files::table
            .select(removed_files::file_path)
            .load(conn)?;
        known.extend(noted.iter().map(|p| absolute(&self.out_root, p)));
        for path in glbs {
            // A file that was deleted since it was listed is not a problem.
            if !known.contains(path) && !twins.contains(path) && path.exists() {
                report.unclaimed.push(path.clone());
            }
        }
        report.rows = rows.len();
        for row in rows {
            match judge(&row, &self.glb_path(&row))? {
                Judgement::Fine => {}
                Judgement::Missing => report.missing.push(row),
                Judgement::Damaged => report.damaged.push(row),
                Judgement::WrongSize => report.wrong_size.push(row),
            }
        }
        Ok(())
    }

    fn repair(
        &self,
        conn: &mut AnyConnection,
        repair: Repair,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let size = |row: &GlbFile| {
            let path = self.glb_path(row);
            let meta = fs::metadata(&path).map_err(|e| failed("read", &path, e))?;
            Ok(meta.len())
        };
        self.repair_rows(conn, repair, report, size)?;
        if report.kept == 0 {
            for row in &report.damaged {
                self.set_aside(&self.glb_path(row))?;
            }
        }
        for path in &report.unclaimed {
            self.set_aside(path)?;
        }
        Ok(())
    }

    /// Removes the rows of files that are missing or damaged, as far as `repair` says so, and corrects the sizes of the others; `size`
    /// returns that of a file. Wherever the files are.
    ///
    /// # Errors
    /// [`StoreError::MostMissing`] before anything is changed; when `size` fails or the rows cannot be written.
    pub(super) fn repair_rows(
        &self,
        conn: &mut AnyConnection,
        repair: Repair,
        report: &mut CheckReport,
        size: impl Fn(&GlbFile) -> Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        let lost = report.missing.len() + report.damaged.len();
        if repair != Repair::AllRows && lost * 2 > report.rows {
            return Err(StoreError::MostMissing {
                path: self.location(),
                missing: lost,
                rows: report.rows,
            });
        }
        if repair == Repair::Files {
            report.kept = lost;
        } else {
            for row in report.missing.iter().chain(&report.damaged) {
                diesel::delete(glb_files::table.find(row.id)).execute(conn)?;
            }
        }
        for row in &report.wrong_size {
            let size = i64::try_from(size(row)?).unwrap_or(i64::MAX);
            diesel::update(glb_files::table.find(row.id))
                .set(glb_files::file_size.eq(size))
                .execute(conn)?;
        }
        report.repaired = report.kept == 0;
        Ok(())
    }

    fn set_aside(&self, path: &Path) -> Result<(), StoreError> {
        let folder = self.out_root.join(UNCLAIMED);
        let name = path.file_name().unwrap_or_default();
        self.own_folder(&folder)?;
        fs::rename(path, folder.join(name))
            .and_then(|()| sync_folder(&folder))
            .map_err(|e| failed("move away", path, e))
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Files {
        what,
        path: path.to_owned(),
        source,
    }
}

fn judge(row: &GlbFile, path: &Path) -> Result<Judgement, StoreError> {
    let meta = match fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta,
        Ok(_) => return Ok(Judgement::Missing),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Judgement::Missing),
        Err(e) => return Err(failed("read", path, e)),
    };
    if meta.len() == row.file_size {
        return Ok(Judgement::Fine);
    }
    let mut head = Vec::with_capacity(12);
    let read = File::open(path).and_then(|file| file.take(12).read_to_end(&mut head));
    read.map_err(|e| failed("read", path, e))?;
    let length = length_in_header(&head);
    Ok(if length == Some(meta.len()) {
        Judgement::WrongSize
    } else {
        Judgement::Damaged
    })
}

/// Returns the length in the header of a GLB: after "glTF" and the version, 32 bits, little-endian.
pub(super) fn length_in_header(head: &[u8]) -> Option<u64> {
    match *head {
        [b'g', b'l', b'T', b'F', _, _, _, _, a, b, c, d] => {
            Some(u32::from_le_bytes([a, b, c, d]).into())
        }
        _ => None,
    }
}

/// Returns the files that the table `models` of older databases refers to.
fn other_references(conn: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    if matches!(conn, AnyConnection::Postgres(_)) {
        return Ok(Vec::new());
    }
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
