//! `vggt status`: what waits, what runs, and who runs it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    job::{shown, span},
    save_to_db::StoreArgs,
};
use crate::{
    cli::terminal::say,
    store::{Overview, RunningJob, Store, WaitingJob, WorkerState},
};

/// Number of jobs of each kind that are shown.
const SHOWN: u32 = 20;

/// Shows the workers of a service with PostgreSQL, the jobs that run with their leases, and those that wait in the order in which they are
/// taken if no others arrive.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// At most so many jobs of each kind
    #[arg(long, value_name = "N", default_value_t = SHOWN)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// Runs the command.
///
/// # Errors
/// When the database cannot be read, or is SQLite.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let store = args.store.open()?;
    let (overview, load) = look(&store, args.limit)?;
    if args.json {
        let json = json!({
            "queued": load.queued,
            "queued_vip": load.queued_vip,
            "running": load.running,
            "workers": overview.workers.iter().map(worker).collect::<Vec<_>>(),
            "running_jobs": overview.running.iter().map(running).collect::<Vec<_>>(),
            "waiting_jobs": overview.waiting.iter().map(waiting).collect::<Vec<_>>(),
        });
        say!("{json:#}");
        return Ok(());
    }
    say!(
        "{} jobs wait ({} of VIPs), {} run on {} workers",
        load.queued,
        load.queued_vip,
        load.running,
        overview.workers.len()
    );
    for table in [
        workers(&overview.workers),
        running_jobs(&overview.running),
        waiting_jobs(&overview.waiting),
    ] {
        if !table.is_empty() {
            say!("\n{}", table.trim_end());
        }
    }
    Ok(())
}

fn look(store: &Store, limit: u32) -> anyhow::Result<(Overview, crate::store::Load)> {
    match store.overview(limit)? {
        Some(overview) => Ok((overview, store.load_of_jobs()?)),
        None => anyhow::bail!(
            "the database is a file: its jobs run in the process that serves, and `vggt job list` shows them"
        ),
    }
}

fn worker(w: &WorkerState) -> Value {
    json!({
        "name": w.name, "version": w.version, "model": w.model, "device": w.device, "labels": w.labels,
        "max_jobs": w.max_jobs, "running": w.running, "draining": w.draining,
        "seen_seconds_ago": w.seen_s, "up_seconds": w.up_s,
    })
}

fn running(job: &RunningJob) -> Value {
    let progress = job.progress_json.as_deref();
    let progress: Option<Value> = progress.and_then(|json| serde_json::from_str(json).ok());
    json!({
        "id": job.id, "user": job.user, "size": job.size, "worker": job.worker, "token": job.token,
        "lease_seconds": job.lease_s, "progress": progress,
    })
}

fn waiting(job: &WaitingJob) -> Value {
    json!({
        "id": job.id, "user": job.user, "vip": job.priority > 0, "size": job.size,
        "waited_seconds": job.waited_s, "not_before_seconds": job.not_before_s,
    })
}

fn whole(seconds: f64) -> Option<i64> {
    Some(seconds.max(0.0).round() as i64)
}

/// Lays out a table, its columns as wide as they need to be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells.map(|(cell, n)| format!("{cell:<n$}")).collect();
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

fn with_header(names: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut all = vec![names.iter().map(|name| (*name).to_owned()).collect()];
    all.extend(rows);
    table(&all)
}

fn workers(all: &[WorkerState]) -> String {
    let rows = all.iter().map(|w| {
        vec![
            shown(&w.name),
            shown(&w.device),
            shown(&w.model),
            match w.labels.as_str() {
                "" => "all".to_owned(),
                labels => shown(labels),
            },
            format!("{}/{}", w.running, w.max_jobs),
            match w.draining {
                true => "draining",
                false => "",
            }
            .to_owned(),
            span(whole(w.seen_s)),
            span(whole(w.up_s)),
            shown(&w.version),
        ]
    });
    with_header(
        &[
            "worker", "device", "model", "takes", "jobs", "", "seen", "up", "version",
        ],
        rows.collect(),
    )
}

fn running_jobs(all: &[RunningJob]) -> String {
    let rows = all.iter().map(|job| {
        let told = job.progress_json.as_deref();
        let told: Option<Value> = told.and_then(|json| serde_json::from_str(json).ok());
        let stage = told.as_ref().and_then(|told| told["stage"].as_str());
        let fraction = told.as_ref().and_then(|told| told["fraction"].as_f64());
        vec![
            job.id.to_string(),
            shown(&job.user),
            job.size.clone(),
            shown(stage.unwrap_or("-")),
            fraction.map_or("-".to_owned(), |part| format!("{:.0} %", 100.0 * part)),
            shown(job.worker.as_deref().unwrap_or("-")),
            match job.lease_s {
                Some(left) if left > 0.0 => span(whole(left)),
                _ => "over".to_owned(),
            },
            job.token.to_string(),
        ]
    });
    with_header(
        &[
            "running", "user", "size", "stage", "done", "worker", "lease", "token",
        ],
        rows.collect(),
    )
}

fn waiting_jobs(all: &[WaitingJob]) -> String {
    let rows = all.iter().map(|job| {
        vec![
            job.id.to_string(),
            shown(&job.user),
            match job.priority > 0 {
                true => "vip",
                false => "",
            }
            .to_owned(),
            job.size.clone(),
            span(whole(job.waited_s)),
            match job.not_before_s {
                Some(left) => format!("tried again in {}", span(whole(left))),
                None => String::new(),
            },
        ]
    });
    with_header(
        &["waiting", "user", "", "size", "waits", ""],
        rows.collect(),
    )
}
