//! `--resume`: the arguments of the export that was interrupted, and what is added to them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};

use super::{
    super::{Cli, Command, UsageError, with_dashes, with_json_detail},
    Args,
    spool::os_string,
};
use crate::pipeline::note_of;

/// The arguments that this process works with, where they are not the ones that it was called with.
static ARGUMENTS: std::sync::OnceLock<Vec<OsString>> = std::sync::OnceLock::new();

/// Returns the arguments of the export that left `folder`, followed by those of this call, and goes to the folder where it ran.
///
/// # Errors
/// When the folder holds nothing to go on with, or the arguments contradict each other.
pub(super) fn arguments(folder: &Path) -> anyhow::Result<Args> {
    let folder = std::path::absolute(folder)?;
    let note = note_of(&folder)?;
    let nothing = || {
        UsageError(format!(
            "cannot go on with \"{}\": it was not left by `vggt export`",
            folder.display()
        ))
    };
    let saved = note["arguments"].as_array().ok_or_else(nothing)?;
    let saved = saved.iter().map(os_string).collect::<Option<Vec<_>>>();
    let mut all = saved.ok_or_else(nothing)?;
    let here = os_string(&note["folder"])
        .map(PathBuf::from)
        .ok_or_else(nothing)?;
    // Arguments without their flag would end up behind a lone `--`.
    let added = without_resume(given().into_iter());
    let end = all.iter().position(|arg| arg == "--").unwrap_or(all.len());
    all.splice(end..end, added);
    let _ = ARGUMENTS.set(all.clone());
    let call = ["vggt", "export"]
        .map(OsString::from)
        .into_iter()
        .chain(all);
    let call = with_json_detail(with_dashes(call));
    let cli = Cli::command().mut_subcommand("export", |export| export.args_override_self(true));
    let parsed = cli
        .try_get_matches_from(call)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let mut args = match parsed.map(|cli| cli.command) {
        Ok(Command::Export(args)) => *args,
        Ok(_) => return Err(nothing().into()),
        Err(e) => {
            let text = e.to_string();
            let line = text.lines().next().unwrap_or_default();
            return Err(UsageError(line.trim_start_matches("error: ").to_owned()).into());
        }
    };
    if !args.batch.each.is_empty() || args.batch.watch.is_some() {
        let why = format!(
            "cannot go on with \"{}\" alone: it is one of several scenes; the command that was interrupted goes on with it",
            folder.display()
        );
        return Err(UsageError(why).into());
    }
    std::env::set_current_dir(&here)
        .with_context(|| format!("cannot go to \"{}\", where the export ran", here.display()))?;
    args.spool.spool = None;
    args.spool.resume = Some(folder);
    Ok(args)
}

/// The arguments that this export works with.
pub(super) fn own() -> Vec<OsString> {
    ARGUMENTS.get().cloned().unwrap_or_else(given)
}

/// The arguments of this process, without the name of the command: options of the terminal may come before it.
fn given() -> Vec<OsString> {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(command) = args.iter().position(|arg| arg == "export") {
        args.remove(command);
    }
    args
}

/// Leaves `--resume FOLDER` out.
fn without_resume(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args;
    let mut rest = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--resume" {
            args.next();
        } else if !arg.as_encoded_bytes().starts_with(b"--resume=") {
            rest.push(arg);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_no_argument_of_the_export() {
        let given = ["--resume", "a", "--json", "--resume=b", "--out", "c"];
        let rest = without_resume(given.map(OsString::from).into_iter());
        assert_eq!(rest, ["--json", "--out", "c"].map(OsString::from));
    }
}
