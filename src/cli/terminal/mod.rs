//! The terminal: what is printed and where, progress, warnings and errors.
//!
//! Standard output is for results, standard error for people. Neither is worth failing for when nobody reads it any more.

mod args;
pub(super) mod events;
mod stages;

use std::{
    io::{self, Write},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

pub(super) use self::{
    args::{ProgressKind, TerminalArgs, color_of_help, settings},
    stages::StageBars,
};
use super::{cure, log, plain::plain_lines, signals};

/// All bars of this process, so that a log line does not tear one.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Columns where the terminal does not tell.
const COLUMNS: usize = 80;

/// Sets up the log and the signals. The service, whose lines have a format, handles its signals itself and must not wait for its log.
pub(super) fn set_up(service: Option<log::LogFormat>, args: &TerminalArgs) {
    args.apply();
    if settings().progress != ProgressKind::Bar {
        BARS.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Some(format) = service {
        return log::set_up_service(format);
    }
    log::set_up_direct();
    signals::set_up();
}

/// Locked while progress is shown; true once the last words were said.
static OVER: Mutex<bool> = Mutex::new(false);

/// Lets nobody else write progress meanwhile; false once there is none any more.
fn may_show() -> Option<MutexGuard<'static, bool>> {
    let over = OVER.lock().unwrap_or_else(PoisonError::into_inner);
    (!*over).then_some(over)
}

/// Says the last words: the work that still runs shows no more progress after them.
pub(super) fn say_last(words: impl FnOnce()) {
    let mut over = OVER.lock().unwrap_or_else(PoisonError::into_inner);
    *over = true;
    clear_bars();
    words();
}

/// Takes all bars off the screen.
pub(super) fn clear_bars() {
    let _ = BARS.clear();
}

/// Calls `write` with no bar on the screen; the next step draws it again. Not [`MultiProgress::suspend`], which panics when the terminal
/// is gone.
pub(super) fn above_bars<T>(write: impl FnOnce() -> T) -> T {
    clear_bars();
    write()
}

/// Returns the columns of the terminal that standard error or output is; 80 where there is none.
pub(super) fn width() -> usize {
    let size = terminal_size::terminal_size_of(io::stderr());
    let size = size.or_else(|| terminal_size::terminal_size_of(io::stdout()));
    // Some terminals say 0.
    let columns = size.map(|(width, _)| usize::from(width.0));
    columns.filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// Prints an error with its causes and what to do about it, in one line.
pub(super) fn print_error(e: &anyhow::Error) {
    clear_bars();
    let causes = causes(e.chain().map(ToString::to_string));
    let cure = cure::cure(e).map(|cure| format!("; {cure}"));
    let text = causes.join(": ") + &cure.unwrap_or_default();
    if events::are_wanted() {
        return events::write("error", json!({ "text": text }));
    }
    // Causes quote the names of files and the words of servers.
    let text = plain_lines(&text);
    match settings().color_err {
        true => tell!("\x1b[31merror:\x1b[0m {text}"),
        false => tell!("error: {text}"),
    }
}

/// Returns each cause once: some messages repeat their source, some sources repeat what failed, and some are empty.
fn causes(chain: impl Iterator<Item = String>) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in chain {
        let known = causes.iter().any(|before| before.contains(cause.trim()));
        if !cause.trim().is_empty() && !known {
            causes.retain(|before| !cause.contains(before.trim()));
            causes.push(cause);
        }
    }
    causes
}

/// Prints a line to standard output.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::cli::terminal::line(&mut std::io::stdout(), format_args!($($arg)*))
    };
}

/// Prints a line to standard error, in the service to its log.
macro_rules! tell {
    ($($arg:tt)*) => {
        $crate::cli::terminal::tell_line(format_args!($($arg)*))
    };
}

/// Prints a question to standard error, without the end of its line.
macro_rules! ask {
    ($($arg:tt)*) => {
        $crate::cli::terminal::prompt(format_args!($($arg)*))
    };
}

/// Prints a remark to standard error, unless --quiet asks for none.
macro_rules! remark {
    ($($arg:tt)*) => {
        if !$crate::cli::terminal::settings().quiet {
            $crate::cli::terminal::tell!($($arg)*)
        }
    };
}

pub(super) use {ask, remark, say, tell};

/// Writes a line. Nobody hears an error of a closed pipe or terminal, and `println!` would panic at it: `vggt export | head -1` and
/// a lost SSH connection are no reason to fail.
pub(super) fn line(to: &mut impl Write, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(to, "{text}").and_then(|()| to.flush());
}

/// Prints a text to standard output as it is.
pub(super) fn print_text(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to standard error.
pub(super) fn tell_line(text: std::fmt::Arguments<'_>) {
    if events::are_wanted() {
        let text = text.to_string();
        return events::write("log", json!({ "level": "info", "text": text }));
    }
    if !log::service_line(text) {
        clear_bars();
        line(&mut io::stderr(), text);
    }
}

/// Writes a question.
pub(super) fn prompt(text: std::fmt::Arguments<'_>) {
    let mut to = io::stderr();
    let _ = write!(to, "{text}").and_then(|()| to.flush());
}

/// A bar in bytes, on a terminal only.
pub(super) fn byte_bar(name: &'static str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(0).with_prefix(name));
    let color = match settings().color_err {
        true => ".cyan/dim",
        false => "",
    };
    // 75 columns at most, with numbers as long as they get.
    let template = format!(
        "{{prefix:<10}} {{bar:16{color}}} {{decimal_bytes}}/{{decimal_total_bytes}} {{decimal_bytes_per_sec}} {{eta}} left"
    );
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::causes;

    #[test]
    fn every_cause_is_told_once() {
        let of = |chain: &[&str]| causes(chain.iter().map(ToString::to_string)).join(": ");
        assert_eq!(
            of(&["cannot open: refused", "refused", ""]),
            "cannot open: refused"
        );
        let repeated = ["cannot write \"x\"", "cannot write \"x\": full"];
        assert_eq!(of(&repeated), "cannot write \"x\": full");
        assert_eq!(of(&["cannot load", "no file"]), "cannot load: no file");
    }
}
