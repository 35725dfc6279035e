//! `vggt migrate`: the rows of one database into another.

use std::path::PathBuf;

use super::{
    save_to_db::{must_exist, open_bucket},
    terminal::{say, tell},
};
use crate::store::{BucketUrl, CopiedFiles, Database, OutRoot, Store, StoreSettings};

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt migrate --from vggt_app.db --to postgres://vggt@db.example/vggt
  PGPASSWORD=... vggt migrate --from vggt_app.db --to \"postgres://vggt@db/vggt?sslmode=verify-full\"
  vggt migrate --from vggt_app.db --to postgres://vggt@db/vggt --files-from ./out --files-to s3://scenes/vggt";

/// Copies all rows of a database into an empty one, as from SQLite to PostgreSQL. The files stay where they are, so that the service
/// goes on with the same --out-root, or are copied into a bucket first. Stop the service before; what is copied stays as it is. If this
/// is interrupted, no row is copied, and the same call goes on with the files that are not in the bucket yet.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The database that is copied: a file of SQLite, or the address of a PostgreSQL server
    #[arg(long, value_name = "FILE|URL")]
    from: Database,
    /// The database that gets the rows, which has none
    #[arg(long, value_name = "FILE|URL")]
    to: Database,
    /// The folder of the files, which are copied into --files-to
    #[arg(long, value_name = "DIR", requires = "files_to")]
    files_from: Option<PathBuf>,
    /// The bucket that gets the files, as in s3://bucket/prefix, which the variables AWS_... lead to
    #[arg(long, value_name = "URL", requires = "files_from")]
    files_to: Option<BucketUrl>,
    /// With --files-to: a local folder for temporary files [default: vggt/scratch in the user's cache]
    #[arg(
        long,
        env = "VGGT_SCRATCH",
        hide_env_values = true,
        value_name = "DIR",
        hide_short_help = true
    )]
    scratch: Option<PathBuf>,
}

/// Prints how many rows each table had.
///
/// # Errors
/// When a server uses one of the databases, one cannot be opened, or `--to` has rows already.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    must_exist(&args.from)?;
    let open = |db: &Database, out_root: Option<OutRoot>| {
        let settings = StoreSettings {
            db: db.clone(),
            out_root: out_root.unwrap_or(StoreSettings::default().out_root),
        };
        let lock = settings.lock_database()?;
        Ok::<_, anyhow::Error>((lock, Store::open(&settings)?))
    };
    let bucket = args.files_to.as_ref();
    let bucket = bucket.map(|url| open_bucket(url, args.scratch.as_deref()));
    let (_from_lock, from) = open(&args.from, args.files_from.clone().map(OutRoot::Folder))?;
    let (_to_lock, to) = open(&args.to, bucket.transpose()?)?;
    let files = match args.files_to {
        Some(_) => {
            let _folder = from.lock_folder()?;
            from.copy_files_to(&to)?
        }
        None => CopiedFiles::default(),
    };
    let tables = from.copy_to(&to, &files.parts)?;
    let rows: usize = tables.iter().map(|table| table.rows).sum();
    for table in tables.iter().filter(|table| table.rows > 0) {
        say!("{:>16}  {}", table.table, table.rows);
    }
    for path in &files.missing {
        say!("missing: {path}");
    }
    match &args.files_to {
        None => tell!(
            "copied and compared {rows} rows; start the service with --db \"{}\" and the same --out-root",
            args.to
        ),
        Some(url) => tell!(
            "copied and compared {rows} rows and {} results ({} were there, {} are missing), {} MiB; start the service with \
             --db \"{}\" and --out-root {url}",
            files.results.0,
            files.results.1,
            files.missing.len(),
            files.bytes >> 20,
            args.to
        ),
    }
    Ok(())
}
