//! `vggt check`: compares rows and files of the service.

use super::save_to_db::StoreArgs;
use crate::cli::terminal::say;
use crate::store::{CheckReport, Repair, Store};

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt check                                     compares rows and files, changes nothing
  vggt check --repair                            repairs what can be repaired without loss
  vggt check --repair --yes                      also removes rows whose file is gone";

/// Compares the rows of the database with the GLB files, both ways. Exit code 1 when there are problems that were not repaired.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Correct sizes, remove half-written files, and move files without a row to OUT_ROOT/.unclaimed; with --yes remove rows
    /// without a whole file as well
    #[arg(long)]
    repair: bool,
    /// Let --repair remove rows
    #[arg(long, requires = "repair")]
    yes: bool,
    /// Let --repair remove rows even if most files are missing
    #[arg(long, requires = "yes")]
    accept_loss: bool,
    /// After a restore: make OUT_ROOT that of this database, whatever it was before
    #[arg(long)]
    adopt: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Prints one line for each problem, and a summary.
///
/// # Errors
/// When there are problems that were not repaired, or something cannot be read.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let store = args.store.open()?;
    if args.adopt {
        // A server that runs has its own idea of the folder.
        let _database = args.store.settings()?.lock_database()?;
        adopt(&store)?;
    }
    store.check_folder()?;
    let repair = match (args.repair, args.yes, args.accept_loss) {
        (false, ..) => Repair::No,
        (true, false, _) => Repair::Files,
        (true, true, false) => Repair::Rows,
        (true, true, true) => Repair::AllRows,
    };
    let report = store.check_and(repair)?;
    for (what, rows) in [
        ("row without a file", &report.missing),
        ("not a whole GLB", &report.damaged),
        ("wrong size in the row", &report.wrong_size),
    ] {
        for row in rows {
            say!(
                "{what}: {} ({}, user {})",
                store.location_of(row).display(),
                row.original_name,
                row.user_id
            );
        }
    }
    for (what, paths) in [
        ("file without a row", &report.unclaimed),
        ("half-written file", &report.temporary),
    ] {
        for path in paths {
            say!("{what}: {}", path.display());
        }
    }
    say!("{}", sum(&report));
    if report.kept > 0 {
        anyhow::bail!(
            "{} would be removed; add --yes to do that",
            plural(report.kept, "row")
        );
    }
    if report.problems() > 0 && !report.repaired {
        anyhow::bail!("rows and files differ; use --repair to fix them");
    }
    Ok(())
}

fn adopt(store: &Store) -> anyhow::Result<()> {
    let _folder = store.lock_folder()?;
    store.adopt_folder()?;
    say!(
        "\"{}\" belongs to this database now",
        store.location().display()
    );
    Ok(())
}

fn sum(report: &CheckReport) -> String {
    let problems = match (report.problems(), report.repaired, report.kept) {
        (0, ..) => "nothing is wrong".to_owned(),
        (n, true, _) => format!("{n} wrong, repaired"),
        (n, false, 0) => format!("{n} wrong"),
        (n, false, kept) => format!("{n} wrong, {} repaired", n - kept),
    };
    let (rows, files) = (plural(report.rows, "row"), plural(report.files, "file"));
    format!("{rows}, {files}: {problems}")
}

fn plural(n: usize, one: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}
