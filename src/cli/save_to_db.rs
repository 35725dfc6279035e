//! The store of the service, for the subcommands that use it, and `vggt export --save-to-db`.

use std::{io, path::PathBuf, time::SystemTime};

use super::UsageError;
use crate::store::{
    Database, GlbFile, JobKind, Store, StoreError, StoreSettings, WriteSeek, check_original_name,
};

/// Paths of the database and the files.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct StoreArgs {
    /// The service's database: a file of SQLite, or the address of a PostgreSQL server, as in postgres://user@host/database
    #[arg(
        long,
        env = "VGGT_DB",
        hide_env_values = true,
        value_name = "FILE|URL",
        default_value = "./vggt_app.db",
        global = true
    )]
    db: Database,
    /// The folder of the service's GLB files
    #[arg(long, value_name = "DIR", default_value = "./out", global = true)]
    out_root: PathBuf,
}

impl StoreArgs {
    /// Returns the settings of the store.
    pub(super) fn settings(&self) -> StoreSettings {
        StoreSettings {
            db: self.db.clone(),
            out_root: self.out_root.clone(),
        }
    }

    /// Opens a database that must exist, so that a typo does not create an empty database.
    ///
    /// # Errors
    /// When it does not exist or cannot be opened.
    pub(super) fn open(&self) -> anyhow::Result<Store> {
        must_exist(&self.db)?;
        self.open_or_create()
    }

    /// Opens or creates the database.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open_or_create(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.settings())?)
    }
}

/// Fails for a file that is not there, so that a typo does not create an empty database.
///
/// # Errors
/// When there is no such file.
pub(super) fn must_exist(db: &Database) -> anyhow::Result<()> {
    if let Some(file) = db.file().filter(|file| !file.exists()) {
        anyhow::bail!(
            "there is no database \"{}\"; name it with --db, or create it with `vggt user add`",
            file.display()
        );
    }
    Ok(())
}

/// Stores the GLB as the service does.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Service")]
pub(super) struct SaveArgs {
    /// Store the GLB as the service does, for --user-id, and print its hash and path; --out is only written when given
    #[arg(long, requires = "user_id", hide_short_help = true)]
    save_to_db: bool,
    /// User id of the owner
    #[arg(
        long,
        value_name = "N",
        requires = "save_to_db",
        hide_short_help = true
    )]
    user_id: Option<i32>,
    /// Original name of the file [default: images_TIME.glb or video_TIME.glb, in Unix seconds]
    #[arg(
        long,
        value_name = "NAME",
        requires = "save_to_db",
        hide_short_help = true
    )]
    original_name: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
}

/// An open store and a user who exists, checked before the long computation.
pub(super) struct Destination {
    store: Store,
    user_id: i32,
    original_name: String,
}

impl SaveArgs {
    /// Returns the destination, if the GLB is to be stored; `kind` selects the default name.
    ///
    /// # Errors
    /// When there is no such database or user, or the folder is not that of the database.
    pub(super) fn destination(&self, kind: JobKind) -> anyhow::Result<Option<Destination>> {
        if !self.save_to_db {
            return Ok(None);
        }
        let user_id = self
            .user_id
            .ok_or_else(|| UsageError("--save-to-db needs --user-id".to_owned()))?;
        let store = self.store.open()?;
        if store.user_by_id(user_id)?.is_none() {
            return Err(StoreError::UnknownUserId(user_id).into());
        }
        store.bind_folder()?;
        let original_name = match &self.original_name {
            Some(name) => name.clone(),
            None => kind.original_name(SystemTime::now()),
        };
        check_original_name(&original_name)?;
        Ok(Some(Destination {
            store,
            user_id,
            original_name,
        }))
    }
}

impl Destination {
    /// Stores what `write` writes and returns its row and path.
    ///
    /// # Errors
    /// When it cannot be stored; neither file nor row is left then.
    pub(super) fn store(
        &self,
        mut write: impl FnMut(&mut dyn WriteSeek) -> io::Result<()>,
    ) -> anyhow::Result<(GlbFile, PathBuf)> {
        let row = self
            .store
            .save_glb(self.user_id, &self.original_name, &mut write)?;
        let path = self.store.glb_path(&row);
        Ok((row, path))
    }
}
