//! The log: events of `tracing` to lines on standard error.
//!
//! Most commands write a line when it is made, above the progress bars. The service must not wait for its log, nor let a peer
//! fill the disk: its lines pass through [`fold`] and [`queue`], have a time, and a limited length.

mod fields;
mod fold;
mod queue;

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::json;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, layer::Context, layer::SubscriberExt, util::SubscriberInitExt,
};

use self::{fields::Fields, fold::Fold, queue::Queue};
use super::{
    plain::{plain, plain_json, plain_lines},
    terminal::{above_bars, events, settings},
};
use crate::system;

/// Longest line of the service in bytes, before control characters are escaped. The longest reason of a failure is shorter.
const LINE_MAX: usize = 2048;

/// How the service's lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// Time, level, message and fields
    #[default]
    Text,
    /// A JSON object with the same
    Json,
}

/// How long the last lines of the service may take.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The log of the service, once it runs.
static SERVICE: OnceLock<Service> = OnceLock::new();

/// Sets up the log of a command that writes each line when it is made.
pub(super) fn set_up_direct() {
    let lines = Lines {
        color: settings().color_err,
        service: None,
    };
    tracing_subscriber::registry()
        .with(filter())
        .with(lines)
        .init();
}

/// Sets up the log of the service, and of its threads that panic. Without a thread for it lines are written when they are
/// made.
pub(super) fn set_up_service(format: LogFormat) {
    let service = match Service::start(format) {
        Ok(service) => SERVICE.get_or_init(|| service),
        Err(_) => return set_up_direct(),
    };
    let lines = Lines {
        color: service.form.color,
        service: Some(service),
    };
    tracing_subscriber::registry()
        .with(filter())
        .with(lines)
        .init();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let at = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(
            "thread '{name}' panicked at {at}: {}",
            text.unwrap_or("no message")
        );
    }));
}

/// What -q and -v ask for, else VGGT_LOG, else remarks and what is wrong.
fn filter() -> EnvFilter {
    if let Some(filter) = settings().log {
        return EnvFilter::new(filter);
    }
    EnvFilter::try_from_env("VGGT_LOG").unwrap_or_else(|_| EnvFilter::new("vggt=info"))
}

/// Passes a line that is not an event to the log of the service; returns false when there is none.
pub(super) fn service_line(text: fmt::Arguments<'_>) -> bool {
    let Some(service) = SERVICE.get() else {
        return false;
    };
    let mut bounded = Bounded::default();
    let _ = write!(bounded, "{text}");
    service.queue.send(match service.form.format {
        LogFormat::Text => plain(&bounded.0).into_owned() + "\n",
        LogFormat::Json => service.form.of_text(Level::INFO, &bounded.0),
    });
    true
}

/// Waits for the last lines of the service, for a limited time.
pub(super) fn flush() {
    if let Some(service) = SERVICE.get() {
        service.queue.flush(LAST_LINES);
    }
}

/// Formats events.
struct Lines {
    color: bool,
    service: Option<&'static Service>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut fields = Fields::default();
        match self.service {
            None => {
                fields.do_not_shorten();
                event.record(&mut fields);
                if events::are_wanted() {
                    let level = level.to_string().to_lowercase();
                    let text = fields.message().to_owned() + &fields.rest();
                    return events::write("log", json!({ "level": level, "text": text }));
                }
                let text = plain_lines(fields.message()).into_owned() + &plain(&fields.rest());
                let line = line("", level, self.color, &text);
                // Nobody hears that the terminal is gone.
                let _ = above_bars(|| io::stderr().write_all(line.as_bytes()));
            }
            Some(service) => {
                event.record(&mut fields);
                service.event(event, level, fields);
            }
        }
    }
}

/// The log of the service: a thread that writes, and what it needs to know.
#[derive(Debug)]
struct Service {
    queue: Queue,
    fold: Arc<Mutex<Fold>>,
    form: Form,
}

/// How lines of the service look.
#[derive(Debug, Clone, Copy)]
struct Form {
    color: bool,
    times: bool,
    format: LogFormat,
}

impl Form {
    /// A line without fields.
    fn of_text(self, level: Level, text: &str) -> String {
        match self.format {
            LogFormat::Text => line(&time(self.times), level, self.color, text),
            LogFormat::Json => {
                let mut fields = Fields::default();
                fields.set_message(text);
                fields.to_json(level)
            }
        }
    }
}

impl Service {
    fn start(format: LogFormat) -> io::Result<Self> {
        let form = Form {
            color: settings().color_err,
            times: !journal_adds_times(),
            format,
        };
        let fold = Arc::new(Mutex::new(Fold::new(Instant::now())));
        let shared = fold.clone();
        let more = move |last: bool, lost: Option<u64>| {
            let now = Instant::now();
            let mut folded = match last {
                false => lock(&shared).turn(now),
                true => lock(&shared).end(now),
            };
            folded.extend(lost.map(|n| {
                let text = format!("{n} lines of this log were lost: it could not be written fast enough, or not at all");
                (Level::WARN, text)
            }));
            let line = |(level, text): (Level, String)| form.of_text(level, &text);
            folded.into_iter().map(line).collect()
        };
        // Not through `io::stderr`: its lock would make others wait for the thread.
        let out = Stderr {
            file: system::standard_error()?,
            bars: io::stderr().is_terminal(),
        };
        Ok(Self {
            queue: Queue::start(out, more)?,
            fold,
            form,
        })
    }

    fn event(&self, event: &Event<'_>, level: Level, fields: Fields) {
        let cause = fields.cause();
        let place = event.metadata().callsite();
        let text = || plain(fields.message()).into_owned() + &plain(&fields.rest());
        if !lock(&self.fold).admit(cause, place, level, text) {
            return;
        }
        let Form { color, times, .. } = self.form;
        self.queue.send(match self.form.format {
            LogFormat::Text => line(&time(times), level, color, &text()),
            LogFormat::Json => fields.to_json(level),
        });
    }
}

fn lock(fold: &Mutex<Fold>) -> MutexGuard<'_, Fold> {
    // The counts are consistent after a panic elsewhere.
    fold.lock().unwrap_or_else(|e| e.into_inner())
}

/// Standard error without its lock.
struct Stderr {
    file: system::Standard,
    bars: bool,
}

impl Write for Stderr {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.bars {
            true => above_bars(|| self.file.write(buf)),
            false => self.file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Returns true when systemd's journal reads standard error: it notes the time of each line. By the rule of systemd.exec(5),
/// since a child of a unit may write elsewhere and inherit the variable.
fn journal_adds_times() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    system::standard_error_id() == Some(stream)
}

/// The time now and a blank; nothing where others add the time.
fn time(wanted: bool) -> String {
    match wanted {
        true => now() + " ",
        false => String::new(),
    }
}

/// The time in UTC, as RFC 3339 has it.
fn now() -> String {
    Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

fn line(time: &str, level: Level, color: bool, text: &str) -> String {
    if !color {
        return format!("{time}{level:>5} {text}\n");
    }
    // The colors of `tracing`'s own lines.
    let color = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    format!("{time}\x1b[{color}m{level:>5}\x1b[0m {text}\n")
}

/// A text that takes so many bytes at most.
#[derive(Debug)]
struct Bounded(String, usize);

impl Default for Bounded {
    fn default() -> Self {
        Self(String::new(), LINE_MAX)
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.1 - self.0.len();
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        const MARK: &str = "…";
        let mut end = room;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        self.1 = self.0.len();
        self.0.push_str(MARK);
        self.1 = self.0.len();
        // Ends the formatting of the rest.
        Err(fmt::Error)
    }
}
