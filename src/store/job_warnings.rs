//! The table `job_warnings`: what is to be known of jobs.

use std::collections::HashMap;

use diesel::prelude::*;

use super::{Store, StoreError, connection::AnyConnection, queue::Lease, schema::job_warnings};

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    let all = job_warnings::table.limit(0);
    all.load::<(i64, String)>(conn).map(|_| ())
}

impl Store {
    /// Records what is to be known of a job, as JSON, in place of what was recorded before.
    ///
    /// # Errors
    /// When the row cannot be written.
    pub fn set_job_warnings(&self, lease: impl Into<Lease>, json: &str) -> Result<(), StoreError> {
        let lease = lease.into();
        let id = lease.job;
        self.connection()?.write(|conn| {
            if !conn.holds(lease)? {
                return Ok(());
            }
            diesel::delete(job_warnings::table.find(id)).execute(conn)?;
            diesel::insert_into(job_warnings::table)
                .values((
                    job_warnings::job_id.eq(id),
                    job_warnings::warnings_json.eq(json),
                ))
                .execute(conn)?;
            Ok(())
        })
    }

    /// Returns what is to be known of these jobs, as JSON, of those that there is something of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn job_warnings(&self, ids: &[i64]) -> Result<HashMap<i64, String>, StoreError> {
        let rows: Vec<(i64, String)> = job_warnings::table
            .filter(job_warnings::job_id.eq_any(ids))
            .load(&mut *self.connection()?)?;
        Ok(rows.into_iter().collect())
    }
}
