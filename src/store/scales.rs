//! The table `result_scales`: how many meters a unit of a result is, where its user has said so.

use std::collections::HashMap;

use diesel::prelude::*;

use super::{GlbFile, Store, StoreError, connection::AnyConnection, schema::result_scales};

/// Fails when a column is missing.
pub(super) fn probe(conn: &mut AnyConnection) -> QueryResult<()> {
    let all = result_scales::table.limit(0);
    all.load::<(i32, f64)>(conn).map(|_| ())
}

impl Store {
    /// Sets how many meters a unit of a result is; `None`: nobody knows.
    ///
    /// # Errors
    /// When the row cannot be written, for example since the result was deleted.
    pub fn set_meters_per_unit(
        &self,
        glb: &GlbFile,
        meters_per_unit: Option<f64>,
    ) -> Result<(), StoreError> {
        self.connection()?.write(|conn| {
            diesel::delete(result_scales::table.find(glb.id)).execute(conn)?;
            if let Some(scale) = meters_per_unit {
                diesel::insert_into(result_scales::table)
                    .values((
                        result_scales::glb_id.eq(glb.id),
                        result_scales::meters_per_unit.eq(scale),
                    ))
                    .execute(conn)?;
            }
            Ok(())
        })
    }

    /// Returns how many meters a unit of a result is, where that is known.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn meters_per_unit(&self, glb: &GlbFile) -> Result<Option<f64>, StoreError> {
        let all = self.all_meters_per_unit(&[glb.id])?;
        Ok(all.get(&glb.id).copied())
    }

    /// Returns how many meters a unit of each of these results is, by the key of its row; those of which it is not known are left out.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn all_meters_per_unit(&self, glb_ids: &[i32]) -> Result<HashMap<i32, f64>, StoreError> {
        let rows: Vec<(i32, f64)> = result_scales::table
            .filter(result_scales::glb_id.eq_any(glb_ids))
            .load(&mut *self.connection()?)?;
        Ok(rows.into_iter().collect())
    }
}
