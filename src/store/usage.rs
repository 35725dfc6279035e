//! What a user's files take, and what the disk has left.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Integer},
};

use super::{Store, StoreError};
use crate::system;

/// Stored files of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of files.
    pub files: u64,
    /// Their size in bytes, and that of the kept spools.
    pub bytes: u64,
    /// Size of the kept spools in bytes. They can be removed to make space.
    pub spool_bytes: u64,
}

/// Space of the disk that holds the files, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// What this process may still write.
    pub free: u64,
    /// Size of the disk.
    pub total: u64,
}

#[derive(QueryableByName)]
struct UsageRow {
    #[diesel(sql_type = BigInt)]
    files: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = BigInt)]
    spool_bytes: i64,
}

impl Store {
    /// Returns how much the user has stored.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn usage_of(&self, user_id: i32) -> Result<Usage, StoreError> {
        let mut conn = self.connection()?;
        // TOTAL and the limit, since sums may overflow with sizes that another program wrote.
        let query = conn.sql(
            "SELECT COUNT(*) AS files, CAST(TOTAL(MAX(file_size, 0)) AS INTEGER) AS bytes, \
             (SELECT CAST(TOTAL(MAX(bytes, 0)) AS INTEGER) FROM kept_spools WHERE user_id = $1) AS spool_bytes \
             FROM glb_files WHERE user_id = $1",
            "SELECT COUNT(*) AS files, \
             LEAST(COALESCE(SUM(GREATEST(file_size, 0)), 0), 9223372036854775807)::BIGINT AS bytes, \
             (SELECT LEAST(COALESCE(SUM(GREATEST(bytes, 0)), 0), 9223372036854775807)::BIGINT \
             FROM kept_spools WHERE user_id = $1) AS spool_bytes \
             FROM glb_files WHERE user_id = $1",
        );
        let row: UsageRow = diesel::sql_query(query)
            .bind::<Integer, _>(user_id)
            .get_result(&mut *conn)?;
        let spool_bytes = row.spool_bytes.unsigned_abs();
        Ok(Usage {
            files: row.files.unsigned_abs(),
            bytes: row.bytes.unsigned_abs().saturating_add(spool_bytes),
            spool_bytes,
        })
    }

    /// Returns an error when the database cannot be written now. Changes nothing.
    ///
    /// # Errors
    /// When another process holds its lock for too long, or it cannot be written.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        use diesel::result::Error::RollbackTransaction;
        let tried = self.connection()?.write(|conn| {
            diesel::sql_query(
                "INSERT INTO removed_files (file_path) SELECT file_path FROM removed_files WHERE 1 = 0",
            )
            .execute(conn)?;
            Err(RollbackTransaction)
        });
        match tried {
            Ok(()) | Err(RollbackTransaction) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns the space of the disk of [`Store::out_root`]; `None` where the system does not tell.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        let above = self.out_root().ancestors();
        let mut existing = above.map(|folder| match folder.as_os_str().is_empty() {
            true => std::path::Path::new("."),
            false => folder,
        });
        let disk = existing.find_map(system::disk_space)?;
        (disk.total > 0).then_some(DiskSpace {
            free: disk.free,
            total: disk.total,
        })
    }
}
