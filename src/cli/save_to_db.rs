//! The store of the service, for the subcommands that use it, and `vggt export --save-to-db`.

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use super::{UsageError, user_cache};
use crate::store::{
    Bucket, BucketSettings, BucketUrl, Database, GlbFile, JobKind, OutRoot, Store, StoreError,
    StoreSettings, WriteSeek, check_original_name,
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
    /// Where the service's GLB files are: a folder, or a bucket of S3, as in s3://bucket/prefix, which the variables AWS_... lead to
    #[arg(
        long,
        env = "VGGT_OUT_ROOT",
        hide_env_values = true,
        value_name = "DIR|URL",
        default_value = "./out",
        global = true
    )]
    out_root: FilesAt,
    /// With --out-root s3://...: a local folder for what is received, computed or read [default: vggt/scratch in the user's cache]
    #[arg(
        long,
        env = "VGGT_SCRATCH",
        hide_env_values = true,
        value_name = "DIR",
        global = true,
        hide_short_help = true
    )]
    scratch: Option<PathBuf>,
}

/// Where the files are, as on the command line.
#[derive(Debug, Clone)]
enum FilesAt {
    Folder(PathBuf),
    Bucket(BucketUrl),
}

impl FromStr for FilesAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected a folder, or s3://BUCKET/PREFIX".to_owned());
        }
        match BucketUrl::is_address(text) {
            true => text.parse().map(Self::Bucket),
            false => Ok(Self::Folder(text.into())),
        }
    }
}

impl FilesAt {
    /// Prepares access to the bucket, if it is one; nothing is sent.
    fn open(&self, scratch: Option<&Path>) -> anyhow::Result<OutRoot> {
        match self {
            Self::Folder(path) => Ok(path.as_path().into()),
            Self::Bucket(url) => open_bucket(url, scratch),
        }
    }
}

/// Prepares access to a bucket; nothing is sent.
///
/// # Errors
/// When the environment does not lead to it, or there is no place for temporary files.
pub(super) fn open_bucket(url: &BucketUrl, scratch: Option<&Path>) -> anyhow::Result<OutRoot> {
    let scratch = match scratch {
        Some(scratch) => scratch.to_owned(),
        None => {
            let none = || UsageError("a bucket needs --scratch: there is no home".to_owned());
            user_cache().ok_or_else(none)?.join("scratch")
        }
    };
    let mut settings = BucketSettings::from_env();
    settings.resolver = super::resolver()?;
    Ok(OutRoot::Bucket {
        bucket: Bucket::with(url, &settings)?,
        scratch,
    })
}

impl StoreArgs {
    /// Returns the settings of the store.
    ///
    /// # Errors
    /// When the environment does not lead to the bucket.
    pub(super) fn settings(&self) -> anyhow::Result<StoreSettings> {
        Ok(StoreSettings {
            db: self.db.clone(),
            out_root: self.out_root.open(self.scratch.as_deref())?,
        })
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
        Ok(Store::open(&self.settings()?)?)
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
        let path = self.store.location_of(&row);
        Ok((row, path))
    }
}
