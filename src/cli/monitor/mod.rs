//! `vggt monitor`: CPU, GPU and memory over time.
//!
//! Standard output carries the result alone, so that `--csv` and `--json` can be piped; questions and remarks go to
//! standard error.

mod report;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use clap::value_parser;
use indicatif::ProgressBar;

use self::report::Report;
use super::{
    Interrupted, UsageError,
    terminal::{self, BARS},
};
use crate::{
    atomic_file::AtomicFile,
    monitor::{self, End, GpuState, Metric, Sample, Sampler, Session, Watcher, plot},
};

/// More sessions than a plot can tell apart are no use.
const MOST_SESSIONS: u8 = 64;

/// Lines that were typed ahead; whoever types more waits.
const TYPED_AHEAD: usize = 16;

/// Prints minimum, mean, maximum and change of CPU, GPU, VRAM and RAM, ten samples a second, and plots them.
///
/// Called without --seconds it asks for the number of sessions; then Enter starts and stops each. 1 GB is 10^9 bytes; the
/// change is the last sample minus the first. Ctrl-C ends the recording, prints what there is, and exits with code 130.
#[derive(Debug, clap::Args)]
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
    draw: fn(&[Session], &[Metric]) -> Result<Vec<u8>, monitor::MonitorError>,
}

/// Something happened while the monitor waited.
enum Event {
    Line(String),
    /// Standard input is at its end.
    Closed,
    Interrupt,
}

impl Args {
    /// Enter starts and stops: neither a length nor the end of a process does.
    fn asks(&self) -> bool {
        self.seconds.is_none() && self.pid.is_none()
    }
}

/// # Errors
/// When there is no such process, `/proc` cannot be read, the plot cannot be written, or a question finds no answer.
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
        Some(plot) => Some((plot, AtomicFile::create(&plot.path)?)),
        None => None,
    };
    if let Some(GpuState::Absent(why)) = sampler.gpu_state() {
        eprintln!("GPU and VRAM stay zero: {why}");
    }
    let mut desk = Desk::open(args.asks(), args.csv.then(|| sampler.metrics()));
    let mut sessions = Vec::new();
    let recorded = record_all(&args, &mut sampler, &mut desk, &mut sessions);
    if sessions.is_empty() {
        return recorded;
    }
    // Whatever ended the recording early, what was measured is handed over first.
    if let (Some(pid), Some(End::ProcessEnded)) = (args.pid, sessions.last().map(|s| s.end)) {
        eprintln!("process {pid} has ended");
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
    if let Some((plot, mut file)) = plot {
        file.write_all(&(plot.draw)(&sessions, report.metrics)?)?;
        file.commit()?;
        eprintln!("plot: {}", plot.path.display());
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
            eprint!("Session {number} of {wanted}: Enter starts it, Enter stops it ");
            desk.line()?;
        }
        desk.start(number);
        let session = monitor::record(sampler, args.seconds, desk);
        desk.bar.finish_and_clear();
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

/// The person in front, or the pipes instead: what comes in, what goes out, and a line that shows it is running.
struct Desk {
    events: Receiver<Event>,
    bar: ProgressBar,
    /// Columns of the CSV, when that is wanted.
    csv: Option<&'static [Metric]>,
    /// Number of the session that runs, from 1.
    session: u8,
    /// Ctrl-C ended the session.
    interrupted: bool,
    /// The first error of standard output; nothing is written after it. A reader that has left is no failure.
    output: io::Result<()>,
}

impl Desk {
    /// Reads lines of standard input when something is to be asked, and takes over Ctrl-C.
    fn open(asks: bool, csv: Option<&'static [Metric]>) -> Self {
        let (sender, events) = mpsc::sync_channel(TYPED_AHEAD);
        if asks {
            let lines = sender.clone();
            thread::spawn(move || read_lines(&lines));
        }
        terminal::on_interrupt(move || {
            let _ = sender.send(Event::Interrupt);
        });
        let mut desk = Self {
            events,
            bar: ProgressBar::hidden(),
            csv,
            session: 0,
            interrupted: false,
            output: Ok(()),
        };
        if let Some(metrics) = desk.csv {
            let names: Vec<_> = metrics.iter().map(|m| m.key()).collect();
            desk.print(&format!("session,seconds,{}\n", names.join(",")));
        }
        desk
    }

    fn print(&mut self, text: &str) {
        if self.output.is_ok() {
            let mut out = io::stdout().lock();
            self.output = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// The answer to a question.
    fn line(&self) -> anyhow::Result<String> {
        match self.events.recv() {
            Ok(Event::Line(line)) => Ok(line),
            Ok(Event::Interrupt) => Err(Interrupted.into()),
            Ok(Event::Closed) | Err(_) => {
                let message = "standard input ended before an answer; without someone to ask, \
                               give --sessions and --seconds";
                Err(UsageError(message.to_owned()).into())
            }
        }
    }

    fn ask_number(&self) -> anyhow::Result<u8> {
        loop {
            eprint!("Number of sessions: ");
            match self.line()?.trim().parse() {
                Ok(n) if (1..=MOST_SESSIONS).contains(&n) => return Ok(n),
                _ => eprintln!("a whole number from 1 to {MOST_SESSIONS}, please"),
            }
        }
    }

    fn start(&mut self, number: u8) {
        self.session = number;
        if io::stderr().is_terminal() {
            self.bar = BARS.add(ProgressBar::new_spinner());
        }
    }
}

impl Watcher for Desk {
    fn wait(&mut self, time: Duration) -> bool {
        match self.events.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => true,
            Ok(Event::Interrupt) => {
                self.interrupted = true;
                false
            }
            Ok(Event::Line(_) | Event::Closed) => false,
            // Ctrl-C cannot be had and nothing is asked: only time ends the session.
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(time);
                true
            }
        }
    }

    fn sample(&mut self, sample: &Sample) -> bool {
        if let Some(metrics) = self.csv {
            let row = report::csv_row(self.session, metrics, sample);
            self.print(&row);
        }
        if !self.bar.is_hidden() {
            let [cpu, gpu, vram, ram] = sample.values;
            let time = sample.seconds;
            self.bar.set_message(format!(
                "{time:.1} s   CPU {cpu:.0} %   GPU {gpu:.0} %   VRAM {vram:.2} GB   RAM {ram:.2} GB"
            ));
        }
        self.output.is_ok()
    }
}

fn read_lines(events: &SyncSender<Event>) {
    for line in io::stdin().lines() {
        let Ok(line) = line else { break };
        if events.send(Event::Line(line)).is_err() {
            return;
        }
    }
    let _ = events.send(Event::Closed);
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
    let draw = match extension.as_deref() {
        Some("svg") => |s: &[Session], m: &[Metric]| plot::svg(s, m).map(String::into_bytes),
        Some("png") => plot::png,
        _ => return Err("plots are .svg or .png files".to_owned()),
    };
    Ok(Plot { path, draw })
}
