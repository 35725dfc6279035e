//! `vggt monitor`: CPU, GPU and memory over time.
//!
//! Standard output carries the result alone, so that `--csv` and `--json` can be piped; questions and remarks go to
//! standard error.

mod desk;
mod report;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::value_parser;

use self::{desk::Desk, report::Report};
use super::{Interrupted, UsageError, output_error};
use crate::cli::terminal::tell;
use crate::{
    monitor::{self, End, GpuState, Sampler, Session, plot},
    output::OutputRules,
};

/// More sessions than a plot can tell apart are no use.
const MOST_SESSIONS: u8 = 64;

/// What the help says below the options.
const NOTES: &str = "\
Examples:
  vggt monitor                                   asks when to start and to stop
  vggt monitor --seconds 60                      one session of a minute
  vggt monitor --pid 1234                        one process until it ends

Without --seconds and --pid it asks for the number of sessions; then Enter starts and stops each. Ten samples a second; \
printed are minimum, mean, maximum and change (last sample minus first) of CPU, GPU, VRAM and RAM, then plots. 1 GB is \
10^9 bytes. Of several GPUs: mean load, memory of all.\n\
Ctrl-C ends the recording, hands over what was measured, and exits with code 130. Figures cover every sample; the curve \
of a session beyond ten minutes is averaged to at most 6000 points.";

/// Records sessions, prints their figures and draws plots.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Args {
    /// Number of sessions, each a line in the plots [default: asked for, or 1 with --seconds or --pid]
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..=MOST_SESSIONS.into()))]
    sessions: Option<u8>,
    /// Length of each session; nothing is asked then
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// Watch this process instead of the machine: CPU (100 % is one CPU) and resident memory, until it ends
    #[arg(long, value_name = "P", value_parser = value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Draw a panel for each metric, one line for each session, into a .svg or .png file
    #[arg(long, value_name = "FILE", value_parser = parse_plot)]
    plot: Option<Plot>,
    /// Replace an existing plot that vggt did not write
    #[arg(long, requires = "plot")]
    overwrite: bool,
    /// Print each sample as a line of CSV, as it is taken
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print figures and curves as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct Plot {
    path: PathBuf,
    format: PlotFormat,
}

#[derive(Debug, Clone, Copy)]
enum PlotFormat {
    Svg,
    Png,
}

impl Args {
    /// Enter starts and stops: neither a length nor the end of a process does.
    fn asks(&self) -> bool {
        self.seconds.is_none() && self.pid.is_none()
    }
}

/// # Errors
/// When there is no such process, `/proc` cannot be read, the plot cannot be written, or a prompt gets no answer.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    if args.pid.is_some() && args.seconds.is_none() && args.sessions.is_some_and(|n| n > 1) {
        let message = "--pid with several --sessions also needs --seconds, the length of each";
        return Err(UsageError(message.to_owned()).into());
    }
    let mut sampler = match args.pid {
        Some(pid) => Sampler::process(pid)?,
        None => Sampler::machine()?,
    };
    // A folder that is not there shows now and not after an hour.
    let plot = match &args.plot {
        Some(plot) => {
            let target = OutputRules::new([""; 0], args.overwrite).file(&plot.path);
            Some((plot, target.map_err(output_error)?))
        }
        None => None,
    };
    if let Some(GpuState::Absent(why)) = sampler.gpu_state() {
        tell!("GPU and VRAM stay zero: {why}");
    }
    let mut desk = Desk::open(args.asks(), args.csv, sampler.metrics());
    let mut sessions = Vec::new();
    let recorded = record_all(&args, &mut sampler, &mut desk, &mut sessions);
    if sessions.is_empty() {
        return recorded;
    }
    // Whatever ended the recording early, what was measured is handed over first.
    if let (Some(pid), Some(End::ProcessEnded)) = (args.pid, sessions.last().map(|s| s.end)) {
        tell!("process {pid} has ended");
    }

    let report = Report {
        pid: args.pid,
        gpu: sampler.gpu_state(),
        metrics: sampler.metrics(),
        sessions: &sessions,
    };
    if args.json {
        desk.print(&report.json());
    } else if !args.csv {
        desk.print(&report.text());
    }
    if let Some((plot, target)) = plot {
        let bytes = match plot.format {
            PlotFormat::Svg => plot::svg(&sessions, report.metrics)?.into_bytes(),
            PlotFormat::Png => plot::png(&sessions, report.metrics)?,
        };
        target.write(&bytes)?;
        tell!("plot: {}", plot.path.display());
    }
    if let Err(e) = desk.output
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(anyhow::Error::new(e).context("cannot write to standard output"));
    }
    recorded
}

/// Records one session after the other, until all are done or something ends them early.
fn record_all(
    args: &Args,
    sampler: &mut Sampler,
    desk: &mut Desk,
    sessions: &mut Vec<Session>,
) -> anyhow::Result<()> {
    let wanted = match args.sessions {
        Some(n) => n,
        None if args.asks() => desk.ask_number()?,
        None => 1,
    };
    for number in 1..=wanted {
        if args.asks() {
            desk.ask_start(number, wanted)?;
        }
        desk.start(number);
        let session = monitor::record(sampler, args.seconds, desk);
        desk.stop();
        let session = session?;
        let ended = session.end == End::ProcessEnded;
        sessions.push(session);
        if desk.interrupted {
            return Err(Interrupted.into());
        }
        if ended || desk.output.is_err() {
            break;
        }
    }
    Ok(())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    /// A year; and one period, so that there is a sample.
    const MOST: f64 = 31_536_000.0;
    let least = monitor::PERIOD.as_secs_f64();
    match text.parse::<f64>() {
        Ok(s) if (least..=MOST).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err(format!("a number of seconds from {least} to {MOST}")),
    }
}

fn parse_plot(text: &str) -> Result<Plot, String> {
    let path = PathBuf::from(text);
    let extension = Path::extension(&path).map(|e| e.to_string_lossy().to_lowercase());
    let format = match extension.as_deref() {
        Some("svg") => PlotFormat::Svg,
        Some("png") => PlotFormat::Png,
        _ => return Err("plots are .svg or .png files".to_owned()),
    };
    Ok(Plot { path, format })
}
