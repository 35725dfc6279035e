//! The `vggt` command: one file per subcommand, settings, and the terminal. Environment variables are read here, except the
//! conventions of the hub, which [`HubSettings::from_env`] reads for it.
//!
//! Exit codes: 0 done, 1 failed, 2 not called correctly, 130 interrupted.

mod attention_flags;
mod bench;
mod check;
mod choices;
mod client;
mod configuration;
mod convert;
mod cure;
mod decode_flags;
mod doctor;
mod export;
mod fetch;
mod image_flags;
mod inputs;
mod job;
mod log;
mod migrate;
mod model_args;
mod monitor;
mod plain;
mod save_to_db;
mod scene_flags;
mod serve;
mod shell;
mod signals;
mod status;
mod terminal;
mod user;
mod view;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::cli::terminal::{TerminalArgs, say, tell};
use crate::{decoder, hub::HubSettings, output::OutputError, resolver::Resolver};

/// What the help says below the commands.
const EXAMPLES: &str = "\
Examples:
  vggt export --demo --out demo.html     a scene inside the program, as a page
  vggt export photos/ --out room.html    a folder of photos, as a page
  vggt export clip.mp4 --out room.glb    a video

`vggt COMMAND -h` lists the usual options of a command, `vggt COMMAND --help` all. Options may be spelled with underscores too: \
--conf_thres.";

/// Images or a video in, a 3D point cloud out: VGGT, natively.
#[derive(Debug, Parser)]
#[command(
    name = "vggt",
    version = env!("VGGT_VERSION"),
    max_term_width = 110,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    terminal: TerminalArgs,
    /// The settings of serve and client [default: vggt.toml beside the database; for client none]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Settings",
        hide_short_help = true
    )]
    #[allow(
        dead_code,
        reason = "read before the arguments are, see configuration.rs; here it is known and documented"
    )]
    config_file: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reconstruct a scene from images or a video and write it as GLB, web page, PLY or COLMAP model
    Export(Box<export::Args>),
    /// Show a scene in the browser
    View(view::Args),
    /// Convert a PyTorch model.pt to safetensors, or change its number type
    Convert(convert::Args),
    /// Download weights ahead of time
    Fetch(fetch::Args),
    /// Measure the network's speed and memory
    Bench(bench::Args),
    /// Check that this machine computes correctly, and that the weights are intact
    Doctor(doctor::Args),
    /// Record CPU, GPU and memory of this machine or of one process
    Monitor(monitor::Args),
    /// Talk to a server: send images or a video, fetch the GLB
    Client(Box<client::Args>),
    /// Add, list and change the users of the service
    User(user::Args),
    /// Show, cancel and retry the jobs of the service
    Job(job::Args),
    /// Compare the service's rows and files, and repair them
    Check(check::Args),
    /// Copy the service's rows into another database, as from SQLite to PostgreSQL
    Migrate(migrate::Args),
    /// Print completions for bash, zsh or fish
    Completions(shell::CompletionArgs),
    /// Print the version
    Version,
    /// Write the manual
    #[command(hide = true)]
    Man(shell::ManArgs),
    /// Decode what another vggt hands over: not for people
    #[command(hide = true)]
    DecodeWorker,
    /// Run the jobs of a service with PostgreSQL, on this machine or another
    Worker(Box<serve::worker::Args>),
    /// Show the queue, the workers and their jobs, of a service with PostgreSQL
    Status(status::Args),
    /// Serve phones and scripts: log in, send images or a video, get a GLB
    Serve(Box<serve::Args>),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match parse(&with_json_detail(with_dashes(std::env::args_os()))) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    // Before anything is opened: the process closes what it did not open itself.
    if matches!(cli.command, Command::DecodeWorker) {
        return decoder::work();
    }
    let log_format = match &cli.command {
        Command::Serve(args) => Some(args.log_format()),
        Command::Worker(args) => Some(args.log_format()),
        _ => None,
    };
    terminal::set_up(log_format, &cli.terminal);
    let done = match cli.command {
        Command::Export(args) => export::run(*args),
        Command::View(args) => view::run(&args),
        Command::Convert(args) => convert::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Monitor(args) => monitor::run(args),
        Command::Client(args) => client::run(*args),
        Command::User(args) => user::run(args),
        Command::Job(args) => job::run(args),
        Command::Check(args) => check::run(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Serve(args) => serve::run(*args),
        Command::Worker(args) => serve::worker::run(*args),
        Command::Status(args) => status::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::Version => {
            say!("vggt {}", env!("VGGT_VERSION"));
            Ok(())
        }
        Command::DecodeWorker => Ok(()),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.is::<Interrupted>() => {
            tell!("{Interrupted}");
            ExitCode::from(Interrupted::CODE)
        }
        Err(e) => {
            terminal::print_error(&e);
            let code = if e.is::<UsageError>() { 2 } else { 1 };
            ExitCode::from(code)
        }
    };
    log::flush();
    code
}

/// Reads the arguments, and what the environment and a file say about options. Prints help, version and usage errors; returns
/// the exit code then.
fn parse(args: &[OsString]) -> Result<Cli, ExitCode> {
    let command = Cli::command().color(terminal::color_of_help(args));
    let mut command = match configuration::apply(command, args) {
        Ok(command) => command,
        Err(e) => {
            tell!("error: {}", plain::plain(&e.to_string()));
            return Err(ExitCode::from(2));
        }
    };
    let parsed = command
        .try_get_matches_from_mut(args)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|e| {
        let _ = e.print();
        if let Some(path) = path_for_command(&e) {
            tell!("\nto reconstruct it: vggt export {}", plain::plain(&path));
        }
        // Help and version succeed; anything else is a usage error.
        ExitCode::from(if e.use_stderr() { 2 } else { 0 })
    })
}

/// Returns the path that was given where a command was expected.
fn path_for_command(e: &clap::Error) -> Option<String> {
    let given = match e.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(given)) if e.kind() == ErrorKind::InvalidSubcommand => given,
        _ => return None,
    };
    std::path::Path::new(given)
        .exists()
        .then(|| inputs::quoted(given))
}

/// Returns this program's folder in the cache of the user; `None` where there is no home.
fn user_cache() -> Option<PathBuf> {
    // The specification has relative paths ignored.
    let folder = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let root = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(root.join("vggt"))
}

/// Returns the resolver of host names: the name server of `VGGT_NAME_SERVER`, else the system's.
fn resolver() -> anyhow::Result<Resolver> {
    match std::env::var("VGGT_NAME_SERVER") {
        Ok(server) if !server.is_empty() => server
            .parse()
            .map_err(|e| UsageError(format!("VGGT_NAME_SERVER: {e}")).into()),
        _ => Ok(Resolver::default()),
    }
}

/// Returns the settings of the hub from the environment.
fn hub_settings() -> anyhow::Result<HubSettings> {
    Ok(HubSettings {
        resolver: resolver()?,
        ..HubSettings::from_env()
    })
}

/// A usage error that only shows when arguments are compared with each other.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Why `--keyframes` is refused for images.
const KEYFRAMES_OF_IMAGES: &str = "--keyframes chooses among the frames of a video, and these are images: leave it out, or give a \
                                   video";

/// Marks errors of outputs that other arguments fix.
fn output_error(e: OutputError) -> anyhow::Error {
    match e.is_usage() {
        true => UsageError(e.to_string()).into(),
        false => e.into(),
    }
}

/// Ctrl-C stopped a command that has written the results that it had.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

impl Interrupted {
    /// Exit code by the convention of shells: 128 + SIGINT.
    const CODE: u8 = 130;
}

/// Replaces underscores in flags, as the older script spelled them, by dashes. Arguments after a lone `--` are not flags.
fn with_dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut flags = true;
    let spell = |arg: OsString| {
        flags &= arg != "--";
        let flag = arg
            .to_str()
            .filter(|_| flags)
            .and_then(|text| text.strip_prefix("--"));
        match flag.map(|flag| flag.split_once('=').ok_or(flag)) {
            Some(Ok((name, value))) => format!("--{}={value}", name.replace('_', "-")).into(),
            Some(Err(name)) => format!("--{}", name.replace('_', "-")).into(),
            None => arg,
        }
    };
    args.map(spell).collect()
}

/// Joins `--json full` to `--json=full`: the detail is optional, so clap would take it for an input file.
fn with_json_detail(args: Vec<OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::with_capacity(args.len());
    for arg in args {
        match joined.last_mut() {
            Some(last) if last == "--json" && (arg == "full" || arg == "summary") => {
                last.push("=");
                last.push(arg);
            }
            _ => joined.push(arg),
        }
    }
    joined
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
        let given = [
            "--conf_thres",
            "--out=my_file.glb",
            "my_file.png",
            "-o",
            "a_b",
            "--",
            "--my_file.png",
        ];
        let expected = [
            "--conf-thres",
            "--out=my_file.glb",
            "my_file.png",
            "-o",
            "a_b",
            "--",
            "--my_file.png",
        ];
        assert_eq!(
            with_dashes(given.map(OsString::from).into_iter()),
            expected.map(OsString::from)
        );
    }
}
