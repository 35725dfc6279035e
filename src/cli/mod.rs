//! The `vggt` command: settings, one file per subcommand, the terminal. The only room that reads the environment and
//! that may name every other.
//!
//! Exit codes: 0 done, 1 failed, 2 not called correctly, 130 interrupted.

mod bench;
mod check;
mod client;
mod convert;
mod export;
mod fetch;
mod model_args;
mod save_to_db;
mod serve;
mod terminal;
mod user;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

/// Photos or a video in, a 3D point cloud out: VGGT, natively.
#[derive(Debug, Parser)]
#[command(
    name = "vggt",
    version,
    max_term_width = 110,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reconstruct a scene from pictures or a video and write it as GLB, PLY or COLMAP model
    Export(Box<export::Args>),
    /// Convert a PyTorch model.pt to safetensors, or change its number type
    Convert(convert::Args),
    /// Download weights ahead of time
    Fetch(fetch::Args),
    /// Measure the network's speed and memory
    Bench(bench::Args),
    /// Serve phones and scripts: log in, send pictures or a video, get a GLB
    Serve(Box<serve::Args>),
    /// Add, list and change the users of the service
    User(user::Args),
    /// Compare the service's rows and files, and repair them
    Check(check::Args),
    /// Talk to a server: send pictures or a video, fetch the GLB
    Client(Box<client::Args>),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(std::env::args_os().map(with_dashes)) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are answers, not failures; everything else is a call to mend.
            let code = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    // The service ends in good order, and has its own way to be told.
    terminal::set_up(!matches!(cli.command, Command::Serve(_)));
    let done = match cli.command {
        Command::Export(args) => export::run(*args),
        Command::Convert(args) => convert::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Serve(args) => serve::run(*args),
        Command::User(args) => user::run(args),
        Command::Check(args) => check::run(args),
        Command::Client(args) => client::run(*args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            terminal::print_error(&e);
            let code = if e.is::<UsageError>() { 2 } else { 1 };
            ExitCode::from(code)
        }
    }
}

/// A mistake in how the command was called that only shows when arguments are held against each other.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Flags of the older script are spelled with underscores: both spellings are one.
fn with_dashes(arg: OsString) -> OsString {
    let Some(text) = arg.to_str() else { return arg };
    let Some(flag) = text.strip_prefix("--") else {
        return arg;
    };
    match flag.split_once('=') {
        Some((name, value)) => format!("--{}={value}", name.replace('_', "-")).into(),
        None => format!("--{}", flag.replace('_', "-")).into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn both_spellings_of_a_flag_are_one_and_values_stay() {
        for (given, expected) in [
            ("--conf_thres", "--conf-thres"),
            ("--out=my_file.glb", "--out=my_file.glb"),
            ("--save_depth=a_b", "--save-depth=a_b"),
            ("my_file.png", "my_file.png"),
            ("-o", "-o"),
        ] {
            assert_eq!(with_dashes(given.into()), OsString::from(expected));
        }
    }
}
