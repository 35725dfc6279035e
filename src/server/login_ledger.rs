//! Failed logins in the database, where the servers of one PostgreSQL database count them together.

use std::{error::Error, sync::Arc};

use crate::{
    peers::{Change, Ledger, Standing},
    store::{LoginCount, LoginCounts, Store},
};

/// The counts in the database.
#[derive(Debug)]
struct InDatabase(LoginCounts);

/// Returns where failed logins are counted together with other servers; `None` for SQLite, which has one server.
pub fn login_ledger(store: &Store) -> Option<Arc<dyn Ledger>> {
    let counts = store.login_counts()?;
    Some(Arc::new(InDatabase(counts)))
}

impl Ledger for InDatabase {
    fn update(
        &self,
        keys: &[String],
        change: &mut Change<'_>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let changed = self.0.change(keys, &mut |counts| {
            let told = counts.iter().map(|count| count.as_ref().map(standing));
            let mut standings: Vec<_> = told.collect();
            change(&mut standings);
            for (count, standing) in counts.iter_mut().zip(&standings) {
                *count = standing.as_ref().map(self::count);
            }
        });
        Ok(changed?)
    }
}

fn standing(count: &LoginCount) -> Standing {
    let LoginCount {
        failed,
        checking,
        since_failed,
        since_started,
        wait,
        keep,
    } = *count;
    Standing {
        failed,
        checking,
        since_failed,
        since_started,
        wait,
        keep,
    }
}

fn count(standing: &Standing) -> LoginCount {
    let Standing {
        failed,
        checking,
        since_failed,
        since_started,
        wait,
        keep,
    } = *standing;
    LoginCount {
        failed,
        checking,
        since_failed,
        since_started,
        wait,
        keep,
    }
}
