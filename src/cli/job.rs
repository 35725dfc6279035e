//! `vggt job`: the jobs of the service, for its operator.

use std::fmt::Write as _;

use clap::{Subcommand, builder::PossibleValuesParser};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::save_to_db::StoreArgs;
use crate::cli::terminal::say;
use crate::store::{Job, JobFilter, JobKind, Store, StoreError, StoredJobState};

/// Why a job that was cancelled here ended.
const BY_OPERATOR: &str = "cancelled by the operator";

/// Number of jobs that are listed.
const LISTED: u32 = 100;

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt job list --state failed                   what failed, newest first
  vggt job show 17                               all that is known of one job
  vggt job retry 17 18                           queues two jobs again";

/// Shows, cancels and retries the jobs of the service. Works through the database, whether the server runs or not; a
/// running one follows within about a second.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show jobs, newest first
    List {
        /// Only those of this user
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Only those in this state
        #[arg(long, value_parser = PossibleValuesParser::new(["queued", "running", "done", "failed", "cancelled"]))]
        state: Option<String>,
        /// At most so many; 0 shows all
        #[arg(long, value_name = "N", default_value_t = LISTED)]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one job with all that is known of it
    Show {
        /// Number of the job
        job: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Cancel jobs: one that runs stops within about a second
    Cancel {
        /// Numbers of the jobs
        #[arg(value_name = "JOB", required = true)]
        jobs: Vec<i64>,
    },
    /// Queue jobs again that failed by the server or were cancelled here, or try one now that waits for another try
    Retry {
        /// Numbers of the jobs
        #[arg(value_name = "JOB", required = true)]
        jobs: Vec<i64>,
    },
}

/// Runs the command.
///
/// # Errors
/// When there is no such job or user, the job's state does not allow it, or the database cannot be used.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let store = args.store.open()?;
    match args.action {
        Action::List {
            user,
            state,
            limit,
            json,
        } => list(&store, user.as_deref(), state, limit, json),
        Action::Show { job, json } => show(&store, job, json),
        Action::Cancel { jobs } => jobs.into_iter().try_for_each(|id| {
            cancel(&store, id)?;
            say!("cancelled job {id}");
            Ok(())
        }),
        Action::Retry { jobs } => jobs.into_iter().try_for_each(|id| {
            store.retry_job(id)?;
            say!("queued job {id} again");
            Ok(())
        }),
    }
}

fn cancel(store: &Store, id: i64) -> anyhow::Result<()> {
    // Its input files stay for a while, in case it was the wrong one.
    if store.cancel_job(id, BY_OPERATOR, true)? {
        return Ok(());
    }
    let job = store.job(id)?.ok_or(StoreError::UnknownJob(id))?;
    Err(StoreError::JobState {
        id,
        what: "cancel",
        state: job.state.name(),
    }
    .into())
}

fn list(
    store: &Store,
    user: Option<&str>,
    state: Option<String>,
    limit: u32,
    as_json: bool,
) -> anyhow::Result<()> {
    let user = user.map(|name| store.user_by_name(name)).transpose()?;
    let jobs = store.list_jobs(&JobFilter {
        user_id: user.map(|user| user.id),
        state,
        limit: Some(limit).filter(|limit| *limit > 0),
    })?;
    let now = Timestamp::now();
    if as_json {
        let jobs: Vec<Value> = jobs.iter().map(|(job, name)| row(job, name, now)).collect();
        say!("{}", serde_json::to_string_pretty(&json!({"jobs": jobs}))?);
    } else {
        say!("{}", table(&jobs, now).trim_end());
    }
    Ok(())
}

fn show(store: &Store, id: i64, as_json: bool) -> anyhow::Result<()> {
    let job = store.job(id)?.ok_or(StoreError::UnknownJob(id))?;
    let user = store.user_by_id(job.user_id)?;
    let name = user.map(|user| user.username).unwrap_or_default();
    let mut fields = row(&job, &name, Timestamp::now());
    let inputs = store.location_of_inputs(&job.dir)?;
    fields["input_files"] = json!(inputs.map(|at| at.display().to_string()));
    fields["options"] = serde_json::from_str(&job.options_json).unwrap_or(Value::Null);
    if as_json {
        say!("{}", serde_json::to_string_pretty(&fields)?);
        return Ok(());
    }
    let Value::Object(fields) = fields else {
        return Ok(());
    };
    for (name, value) in &fields {
        let text = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => shown(text),
            value => shown(&value.to_string()),
        };
        say!("{name:<16} {text}");
    }
    Ok(())
}

/// Returns a job as JSON.
fn row(job: &Job, user: &str, now: Timestamp) -> Value {
    let hash = match &job.state {
        StoredJobState::Done { hash } => Some(hash),
        _ => None,
    };
    json!({
        "id": job.id,
        "user": user,
        "user_id": job.user_id,
        "kind": kind(job.kind),
        "state": job.state.name(),
        "age_seconds": seconds(job.created_at, Some(now)),
        "running_seconds": running(job, now),
        "tries": job.tries,
        "deaths": job.deaths,
        "reason": job.reason,
        "hash": hash,
        "original_name": job.original_name,
        "created_at": job.created_at.map(|time| time.to_string()),
        "started_at": job.started_at.map(|time| time.to_string()),
        "finished_at": job.finished_at.map(|time| time.to_string()),
        "next_try_at": job.next_try_at.map(|time| time.to_string()),
    })
}

fn table(jobs: &[(Job, String)], now: Timestamp) -> String {
    let names: Vec<String> = jobs.iter().map(|(_, name)| shown(name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0).max(4);
    let mut text = format!(
        "{:>7}  {:<width$}  {:<6}  {:<9}  {:>8}  {:>8}  {:>5}  {:>6}  reason\n",
        "id", "user", "kind", "state", "age", "running", "tries", "deaths"
    );
    for ((job, _), name) in jobs.iter().zip(&names) {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{:>7}  {name:<width$}  {:<6}  {:<9}  {:>8}  {:>8}  {:>5}  {:>6}  {}",
            job.id,
            kind(job.kind),
            job.state.name(),
            span(seconds(job.created_at, Some(now))),
            span(running(job, now)),
            job.tries,
            job.deaths,
            shown(job.reason.as_deref().unwrap_or_default()),
        );
    }
    text
}

fn kind(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Images => "images",
        JobKind::Video => "video",
    }
}

/// Returns how long the job has run, the last time that it did.
fn running(job: &Job, now: Timestamp) -> Option<i64> {
    match job.state {
        StoredJobState::Queued => None,
        StoredJobState::Running => seconds(job.started_at, Some(now)),
        _ => seconds(job.started_at, job.finished_at),
    }
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<i64> {
    // A clock that was set back must not give a negative age.
    Some(to?.duration_since(from?).as_secs().max(0))
}

/// Returns a time as people read it: the two largest units.
pub(super) fn span(seconds: Option<i64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(s) if s < 60 => format!("{s}s"),
        Some(s) if s < 3600 => format!("{}m {:02}s", s / 60, s % 60),
        Some(s) if s < 86_400 => format!("{}h {:02}m", s / 3600, s / 60 % 60),
        Some(s) => format!("{}d {:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// Returns a text of a client or of a file without what a terminal would obey: control characters, and those that change
/// the direction of writing.
pub(super) fn shown(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if obeyed(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_their_two_largest_units() {
        let shown = [0, 59, 61, 3600, 90_000].map(|s| span(Some(s)));
        assert_eq!(shown, ["0s", "59s", "1m 01s", "1h 00m", "1d 01h"]);
        assert_eq!(span(None), "-");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_what_is_shown() {
        assert_eq!(
            shown("a\x1b[2Jb\u{9b}c\u{202e}d\né"),
            "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d\\né"
        );
    }
}
