//! Following a job until it has ended: a bar on a terminal, elsewhere a line for each stage.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};

use super::{describe_state, session::Session};
use crate::{
    cli::{
        plain::{plain, plain_lines},
        signals::before_exit,
        terminal::{BARS, ProgressKind, settings, tell},
    },
    protocol::{JobStateReply, JobStatusReply, JobWarning},
};

/// First and longest pause between two looks: short for a result that was stored before, long for one that takes hours.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Parts of a bar.
const PARTS: u64 = 1000;

/// The job that is followed; 0 for none.
static FOLLOWED: AtomicI64 = AtomicI64::new(0);

/// Says how to come back to the job when Ctrl-C ends the client.
fn last_words() -> Option<String> {
    match FOLLOWED.load(Relaxed) {
        0 => None,
        job => Some(how_to_come_back(job)),
    }
}

fn how_to_come_back(job: i64) -> String {
    format!(
        "job {job} goes on: `vggt client wait {job} --out FILE` fetches its result, `vggt client cancel {job}` stops it"
    )
}

impl Session {
    /// Shows how a job stands until it has ended, and returns its last state.
    ///
    /// # Errors
    /// When the connection fails or it takes longer than the timeout; the job goes on then.
    pub(super) fn follow(&mut self, job: i64) -> anyhow::Result<JobStatusReply> {
        before_exit(last_words);
        FOLLOWED.store(job, Relaxed);
        let followed = self.until_ended(job);
        FOLLOWED.store(0, Relaxed);
        followed.map_err(|e| e.context(how_to_come_back(job)))
    }

    fn until_ended(&mut self, job: i64) -> anyhow::Result<JobStatusReply> {
        let mut display = Display::new();
        let (start, mut pause) = (Instant::now(), PAUSE);
        loop {
            let status = self.runtime.block_on(self.client.status(job))?;
            display.show(&status);
            if status.state.is_final() {
                return Ok(status);
            }
            let limit = self.timeout;
            if start.elapsed() >= limit {
                bail!("gave up after {} s (--timeout)", limit.as_secs());
            }
            thread::sleep(pause);
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }
}

/// What is shown of a job.
struct Display {
    /// `None` without a terminal, and where lines are wanted.
    bar: Option<ProgressBar>,
    /// The line that was written last.
    line: String,
    /// Warnings that were written.
    warnings: usize,
}

impl Display {
    fn new() -> Self {
        let bar = (settings().progress == ProgressKind::Bar).then(|| {
            let style = ProgressStyle::with_template("{bar:30} {msg}");
            let bar = BARS.add(ProgressBar::new(PARTS));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            bar,
            line: String::new(),
            warnings: 0,
        }
    }

    fn show(&mut self, status: &JobStatusReply) {
        for warning in status.warnings.iter().skip(self.warnings) {
            warn(warning);
        }
        self.warnings = self.warnings.max(status.warnings.len());
        if let Some(bar) = &self.bar {
            if let JobStateReply::Running { fraction, .. } = status.state {
                bar.set_position((fraction.clamp(0.0, 1.0) * PARTS as f32) as u64);
            }
            bar.set_message(format!(
                "job {}: {}",
                status.job,
                describe_state(&status.state)
            ));
            return;
        }
        // Percent and seconds change all the time: a line for each stage, and for each place in the queue.
        let stage = match &status.state {
            JobStateReply::Running { stage, .. } => plain(stage).to_string(),
            state => describe_state(state),
        };
        let silent = settings().progress == ProgressKind::None;
        if stage != self.line && !status.state.is_final() && !silent {
            tell!("job {}: {}", status.job, describe_state(&status.state));
            self.line = stage;
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            BARS.remove(bar);
        }
    }
}

/// Tells a warning of a server.
pub(super) fn warn(warning: &JobWarning) {
    tracing::warn!("{}", plain_lines(&warning.text));
}
