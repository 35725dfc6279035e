//! Questions and answers, rows as they are taken, and Ctrl-C.

use std::{
    io::{self, IsTerminal, Write},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use indicatif::ProgressBar;

use super::{MOST_SESSIONS, report};
use crate::cli::terminal::tell;
use crate::{
    cli::{
        Interrupted, UsageError, signals,
        terminal::{BARS, ask},
    },
    monitor::{Metric, Sample, Watcher},
};

/// Maximum number of lines that are typed ahead.
const TYPED_AHEAD: usize = 16;

/// Something happened while the monitor waited.
enum Event {
    Line(String),
    /// Standard input is at its end.
    Closed,
    Interrupt,
}

/// The person in front, or the pipes instead: what comes in, what goes out, and a line that shows it is running.
pub(super) struct Desk {
    events: Receiver<Event>,
    bar: ProgressBar,
    metrics: &'static [Metric],
    /// Samples are printed as they come.
    csv: bool,
    /// Number of the session that runs, from 1.
    session: u8,
    /// Ctrl-C ended the session.
    pub(super) interrupted: bool,
    /// The first error of standard output; nothing is written after it. A reader that has gone is not a failure.
    pub(super) output: io::Result<()>,
}

impl Desk {
    /// Reads lines of standard input when something is to be asked, and takes over Ctrl-C.
    pub(super) fn open(asks: bool, csv: bool, metrics: &'static [Metric]) -> Self {
        let (sender, events) = mpsc::sync_channel(TYPED_AHEAD);
        if asks {
            let lines = sender.clone();
            thread::spawn(move || read_lines(&lines));
        }
        signals::on_interrupt(move || {
            let _ = sender.send(Event::Interrupt);
        });
        let mut desk = Self {
            events,
            bar: ProgressBar::hidden(),
            metrics,
            csv,
            session: 0,
            interrupted: false,
            output: Ok(()),
        };
        if csv {
            let names: Vec<_> = metrics.iter().map(|m| m.key()).collect();
            desk.print(&format!("session,seconds,{}\n", names.join(",")));
        }
        desk
    }

    /// Result for standard output.
    pub(super) fn print(&mut self, text: &str) {
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

    /// Asks until a number comes that will do.
    pub(super) fn ask_number(&self) -> anyhow::Result<u8> {
        loop {
            ask!("Number of sessions: ");
            match self.line()?.trim().parse() {
                Ok(n) if (1..=MOST_SESSIONS).contains(&n) => return Ok(n),
                _ => tell!("a whole number from 1 to {MOST_SESSIONS}, please"),
            }
        }
    }

    /// Waits for Enter.
    pub(super) fn ask_start(&self, number: u8, of: u8) -> anyhow::Result<()> {
        ask!("Session {number} of {of}: Enter starts it, Enter stops it ");
        self.line()?;
        Ok(())
    }

    pub(super) fn start(&mut self, number: u8) {
        self.session = number;
        if io::stderr().is_terminal() {
            self.bar = BARS.add(ProgressBar::new_spinner());
        }
    }

    pub(super) fn stop(&mut self) {
        self.bar.finish_and_clear();
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
        if self.csv {
            let row = report::csv_row(self.session, self.metrics, sample);
            self.print(&row);
        }
        if !self.bar.is_hidden() {
            let mut message = format!("{:.1} s", sample.seconds);
            for metric in self.metrics {
                let (name, unit) = (metric.name(), metric.unit());
                let value = sample.get(*metric);
                message += &format!("   {name} {value:.*} {unit}", metric.decimals());
            }
            self.bar.set_message(message);
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
