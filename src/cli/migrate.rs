//! `vggt migrate`: the rows of one database into another.

use super::{
    save_to_db::must_exist,
    terminal::{say, tell},
};
use crate::store::{Database, Store, StoreSettings};

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt migrate --from vggt_app.db --to postgres://vggt@db.example/vggt
  PGPASSWORD=... vggt migrate --from vggt_app.db --to \"postgres://vggt@db/vggt?sslmode=verify-full\"";

/// Copies all rows of a database into an empty one, as from SQLite to PostgreSQL. The files stay where they are, so that the service
/// goes on with the same --out-root. Stop the service first; the database that is copied stays as it is. If this is interrupted,
/// nothing is copied, and the same call begins again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The database that is copied: a file of SQLite, or the address of a PostgreSQL server
    #[arg(long, value_name = "FILE|URL")]
    from: Database,
    /// The database that gets the rows, which has none
    #[arg(long, value_name = "FILE|URL")]
    to: Database,
}

/// Prints how many rows each table had.
///
/// # Errors
/// When a server uses one of the databases, one cannot be opened, or `--to` has rows already.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    must_exist(&args.from)?;
    let open = |db: &Database| {
        let settings = StoreSettings {
            db: db.clone(),
            ..StoreSettings::default()
        };
        let lock = settings.lock_database()?;
        Ok::<_, anyhow::Error>((lock, Store::open(&settings)?))
    };
    let (_from_lock, from) = open(&args.from)?;
    let (_to_lock, to) = open(&args.to)?;
    let tables = from.copy_to(&to)?;
    let rows: usize = tables.iter().map(|table| table.rows).sum();
    for table in tables.iter().filter(|table| table.rows > 0) {
        say!("{:>16}  {}", table.table, table.rows);
    }
    tell!(
        "copied and compared {rows} rows; start the service with --db \"{}\" and the same --out-root",
        args.to
    );
    Ok(())
}
