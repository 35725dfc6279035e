//! The terminal: progress bars, warnings, errors, and Ctrl-C.

use std::{
    io::{self, IsTerminal, Write},
    sync::{LazyLock, Mutex, PoisonError},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use vggt_model::progress::Stage as NetworkStage;

use super::{Interrupted, cure, log, plain::plain_lines};
use crate::{
    atomic_file,
    pipeline::{SkippedImages, Stage, Warning, Watcher},
};

/// All bars of this process, so that a log line does not tear one.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// What the next Ctrl-C does instead of ending the process.
static ON_INTERRUPT: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Cleans up before Ctrl-C ends the process, and returns what there is to say.
type LastWords = fn() -> Option<String>;

/// What is called before Ctrl-C ends the process.
static LAST_WORDS: Mutex<Option<LastWords>> = Mutex::new(None);

/// Sets up the log and Ctrl-C. The service, whose lines have a format, handles Ctrl-C itself and must not wait for its log.
pub(super) fn set_up(service: Option<log::LogFormat>) {
    if let Some(format) = service {
        return log::set_up_service(format);
    }
    log::set_up_direct();
    let handler = ctrlc::set_handler(|| {
        if let Some(instead) = take_on_interrupt() {
            return instead();
        }
        // A signal runs no `Drop`, so half-written files are removed here. Nothing else needs a cleanup.
        atomic_file::remove_unfinished();
        let _ = BARS.clear();
        let last_words = *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        match last_words.and_then(|words| words()) {
            Some(more) => tell!("{Interrupted}; {more}"),
            None => tell!("{Interrupted}"),
        }
        std::process::exit(Interrupted::CODE.into());
    });
    if let Err(e) = handler {
        tracing::warn!("Ctrl-C may leave temporary files behind: {e}");
    }
}

/// Makes the next Ctrl-C call this instead of ending the process; the one after it ends the process.
pub(super) fn on_interrupt(instead: impl FnOnce() + Send + 'static) {
    *ON_INTERRUPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(instead));
}

/// Has this called before Ctrl-C ends the process.
pub(super) fn before_exit(words: LastWords) {
    *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
}

fn take_on_interrupt() -> Option<Box<dyn FnOnce() + Send>> {
    ON_INTERRUPT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

/// Prints an error with its causes and what to do about it, in one line.
pub(super) fn print_error(e: &anyhow::Error) {
    let _ = BARS.clear();
    let causes = causes(e.chain().map(ToString::to_string));
    let cure = cure::cure(e).map(|cure| format!("; {cure}"));
    let text = causes.join(": ") + &cure.unwrap_or_default();
    // Causes quote the names of files and the words of servers.
    tell!("error: {}", plain_lines(&text));
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

pub(super) use {say, tell};

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
    if !log::service_line(text) {
        line(&mut io::stderr(), text);
    }
}

/// One bar for each stage of a reconstruction, on a terminal only.
#[derive(Debug, Default)]
pub(super) struct StageBars {
    current: Option<(&'static str, ProgressBar)>,
    /// For the summary: what was skipped at the start is forgotten at the end of a long run.
    skipped: Option<SkippedImages>,
}

impl Watcher for StageBars {
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool {
        if !io::stderr().is_terminal() {
            return true;
        }
        let (name, done, total) = on_bar(stage, done, total);
        if self.current.as_ref().is_none_or(|(n, _)| *n != name) {
            self.finish();
            self.current = Some((name, BARS.add(bar(name))));
        }
        if let Some((_, bar)) = &self.current {
            bar.set_length(total.max(done) as u64);
            bar.set_position(done as u64);
        }
        true
    }

    fn warn(&mut self, warning: &Warning) {
        if let Warning::ImagesSkipped(images) = warning {
            self.skipped = Some(images.clone());
        }
        let cure = cure::of_warning(warning).map(|cure| format!(" ({cure})"));
        tracing::warn!("{warning}{}", cure.unwrap_or_default());
    }
}

impl StageBars {
    /// Returns the files of the folder that were not used, if any.
    pub(super) fn skipped(&self) -> Option<&SkippedImages> {
        self.skipped.as_ref()
    }

    /// Leaves the last bar on the screen, with the time it took.
    pub(super) fn finish(&mut self) {
        if let Some((_, bar)) = self.current.take() {
            set_style(&bar, "took {elapsed}");
            bar.abandon();
        }
    }
}

impl Drop for StageBars {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar(name: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_prefix(name);
    set_style(&bar, "{eta} left");
    bar
}

fn set_style(bar: &ProgressBar, time: &str) {
    let template = format!("{{prefix:>11}} {{bar:32.cyan/dim}} {{pos:>4}}/{{len:<4}} {time}");
    // With an invalid template indicatif's own style stays, which is good enough.
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("━━─"));
    }
}

/// A bar in bytes, on a terminal only.
pub(super) fn byte_bar(name: &'static str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::new(0).with_prefix(name));
    let template =
        "{prefix:>11} {bar:32.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar
}

/// Returns name, position and length of a step's bar: frame and global blocks alternate on one.
fn on_bar(stage: Stage, done: usize, total: usize) -> (&'static str, usize, usize) {
    match stage {
        Stage::Decode => ("decode", done, total),
        Stage::Network(NetworkStage::PatchEmbed) => ("patch embed", done, total),
        Stage::Network(NetworkStage::FrameBlocks) => ("aggregator", 2 * done - 1, 2 * total),
        Stage::Network(NetworkStage::GlobalBlocks) => ("aggregator", 2 * done, 2 * total),
        Stage::Network(NetworkStage::Camera) => ("camera", done, total),
        Stage::Network(NetworkStage::Depth) => ("depth", done, total),
        Stage::Network(NetworkStage::Point) => ("points", done, total),
        Stage::Network(NetworkStage::Track) => ("tracks", done, total),
        Stage::Describe => ("describe", done, total),
        Stage::Frames => ("frames", done, total),
        Stage::Sky => ("sky", done, total),
        Stage::Write => ("write", done, total),
    }
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
