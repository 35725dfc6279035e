//! How much is said, how, and in which colors: the flags that all commands have.

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    sync::OnceLock,
};

use clap::{ColorChoice, ValueEnum};

/// Flags of the terminal.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Terminal")]
pub(in crate::cli) struct TerminalArgs {
    /// Say only what is wrong: no progress and no remarks. Results are printed all the same
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more; twice for all that there is. VGGT_LOG chooses by module
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// When to use colors; NO_COLOR in the environment turns them off where this says auto
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_short_help = true
    )]
    color: Color,
    /// How progress is shown, on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "HOW",
        default_value_t,
        hide_short_help = true
    )]
    progress: ProgressKind,
}

/// When to use colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Color {
    /// On a terminal
    #[default]
    Auto,
    /// Also in files and pipes
    Always,
    /// Nowhere
    Never,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum ProgressKind {
    /// A bar on a terminal, lines elsewhere
    #[default]
    Auto,
    /// A bar with the stage and the time left; on a terminal only
    Bar,
    /// A line for each stage
    Lines,
    /// A JSON object a line for each step, warning, remark and error
    Json,
    /// Not at all
    None,
}

/// What the flags and the environment come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cli) struct Settings {
    pub(in crate::cli) quiet: bool,
    /// Bars and questions have colors.
    pub(in crate::cli) color_err: bool,
    /// What goes to standard output has colors.
    pub(in crate::cli) color_out: bool,
    /// Never `Auto`.
    pub(in crate::cli) progress: ProgressKind,
    /// The filter of the log that -q and -v stand for.
    pub(in crate::cli) log: Option<&'static str>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Returns the settings of this process; before they are known, those of a pipe.
pub(in crate::cli) fn settings() -> Settings {
    SETTINGS.get().copied().unwrap_or_default()
}

impl TerminalArgs {
    /// Makes these the settings of this process.
    pub(in crate::cli) fn apply(&self) {
        let _ = SETTINGS.set(self.settings());
    }

    fn settings(&self) -> Settings {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let color = |terminal: bool| match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && set("NO_COLOR").is_none(),
        };
        let bars = io::stderr().is_terminal();
        Settings {
            quiet: self.quiet,
            color_err: color(io::stderr().is_terminal()),
            color_out: color(io::stdout().is_terminal()),
            progress: match self.progress {
                // Scripts that ask for JSON get it all the same.
                ProgressKind::Auto | ProgressKind::Bar | ProgressKind::Lines if self.quiet => {
                    ProgressKind::None
                }
                ProgressKind::Auto if bars => ProgressKind::Bar,
                ProgressKind::Auto => ProgressKind::Lines,
                ProgressKind::Bar if !bars => ProgressKind::Lines,
                given => given,
            },
            log: match (self.quiet, self.verbose) {
                (true, _) => Some("vggt=warn,vggt_model=warn"),
                (_, 0) => None,
                (_, 1) => Some("vggt=debug,vggt_model=debug"),
                _ => Some("vggt=trace,vggt_model=trace"),
            },
        }
    }
}

/// Returns what `--color` says, for help and usage errors, which are printed before the arguments are known.
pub(in crate::cli) fn color_of_help(args: &[OsString]) -> ColorChoice {
    let mut args = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(arg) = args.next() {
        let value = match arg.strip_prefix("--color") {
            Some("") => args.next().unwrap_or_default().into_owned(),
            Some(value) => value.trim_start_matches('=').to_owned(),
            None => continue,
        };
        return match Color::from_str(&value, false) {
            Ok(Color::Always) => ColorChoice::Always,
            Ok(Color::Never) => ColorChoice::Never,
            _ => ColorChoice::Auto,
        };
    }
    ColorChoice::Auto
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_shows_no_progress_but_json() {
        let of = |quiet, progress| {
            let args = TerminalArgs {
                quiet,
                progress,
                ..TerminalArgs::default()
            };
            args.settings().progress
        };
        for kind in [ProgressKind::Auto, ProgressKind::Bar, ProgressKind::Lines] {
            assert_eq!(of(true, kind), ProgressKind::None);
        }
        assert_eq!(of(true, ProgressKind::Json), ProgressKind::Json);
        assert_eq!(of(false, ProgressKind::Lines), ProgressKind::Lines);
    }

    #[test]
    fn the_color_of_help_is_found_in_both_spellings() {
        let of = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            color_of_help(&args)
        };
        assert_eq!(of(&["vggt", "--color=never", "-h"]), ColorChoice::Never);
        assert_eq!(of(&["vggt", "--color", "always"]), ColorChoice::Always);
        assert_eq!(of(&["vggt", "--color-space", "srgb"]), ColorChoice::Auto);
        assert_eq!(of(&["vggt", "--color"]), ColorChoice::Auto);
    }
}
