//! `vggt check`: compares rows and files of the service.

use super::save_to_db::StoreArgs;
use crate::cli::terminal::say;
use crate::store::CheckReport;

/// Compares the rows of the database with the GLB files, both ways. Exit code 1 when there are problems that were not repaired.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Remove rows without a file and half-written files, and move files without a row to OUT_ROOT/.unclaimed
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Prints one line for each problem, and a summary.
///
/// # Errors
/// When there are problems that were not repaired, or something cannot be read.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let store = args.store.open()?;
    let report = store.check(args.repair)?;
    for (what, rows) in [
        ("row without a file", &report.missing),
        ("not a whole GLB", &report.damaged),
        ("wrong size in the row", &report.wrong_size),
    ] {
        for row in rows {
            say!(
                "{what}: {} ({}, user {})",
                store.glb_path(row).display(),
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
    if report.problems() > 0 && !report.repaired {
        anyhow::bail!("rows and files differ; use --repair to fix them");
    }
    Ok(())
}

fn sum(report: &CheckReport) -> String {
    let problems = match (report.problems(), report.repaired) {
        (0, _) => "nothing is wrong".to_owned(),
        (n, true) => format!("{n} wrong, repaired"),
        (n, false) => format!("{n} wrong"),
    };
    let plural = |n: usize, one: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    let (rows, files) = (plural(report.rows, "row"), plural(report.files, "file"));
    format!("{rows}, {files}: {problems}")
}
