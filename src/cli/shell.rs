//! `vggt completions` and `vggt man`: what shells and manuals know of the command line, from the same source as `--help`.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{CommandFactory, ValueEnum};

use super::{Cli, terminal::print_text};

/// Prints completions for a shell.
///
/// - bash: `vggt completions bash > ~/.local/share/bash-completion/completions/vggt`
/// - zsh: `vggt completions zsh > "${fpath[1]}/_vggt"`
/// - fish: `vggt completions fish > ~/.config/fish/completions/vggt.fish`
#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Writes the manual: a page for each command.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The folder to write vggt.1, vggt-export.1 and so on into
    dir: PathBuf,
}

/// Prints completions to standard output.
pub(super) fn completions(args: &CompletionArgs) -> anyhow::Result<()> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut for_people(), "vggt", &mut script);
    print_text(&String::from_utf8_lossy(&script));
    Ok(())
}

/// Returns the command line without what it hides, which completions would show.
fn for_people() -> clap::Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|sub| !sub.is_hide_set());
    let (args, subs) = (all.get_arguments().cloned(), shown.cloned());
    clap::Command::new("vggt")
        .version(env!("VGGT_VERSION"))
        .args(args.collect::<Vec<_>>())
        .subcommands(subs.collect::<Vec<_>>())
}

/// Writes the pages into a folder, which is made if it is not there.
///
/// # Errors
/// When they cannot be written.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let cannot = || format!("cannot write the manual into \"{}\"", args.dir.display());
    fs::create_dir_all(&args.dir).with_context(cannot)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).with_context(cannot)
}
