//! `vggt user`: the users of the service.

use std::{
    fmt::Write as _,
    io::{self, BufRead},
};

use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::Timestamp;

use super::{UsageError, save_to_db::StoreArgs};
use crate::cli::terminal::say;
use crate::store::{Store, User, parse_time};

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt user add ann                              asks for a password
  vggt user list --db /srv/vggt_app.db           all users, and which passwords are hashed
  echo secret | vggt user passwd ann --password-stdin";

/// Adds, lists and changes the users of the service.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a user; without PASSWORD it is asked for
    Add {
        /// The name to log in with, at most 64 characters
        name: String,
        /// The password. Other users of this machine can see it on the command line: better leave it out
        #[arg(conflicts_with = "password_stdin")]
        password: Option<String>,
        /// true, 1 or yes: the user's jobs go first
        #[arg(value_name = "VIP", value_parser = parse_vip)]
        vip: Option<bool>,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        /// The user's jobs go first
        #[arg(long = "vip", id = "vip_flag", conflicts_with = "vip")]
        vip_flag: bool,
    },
    /// Show all users
    List,
    /// Change a password; without PASSWORD it is asked for
    Passwd {
        /// User name
        name: String,
        /// The password. Other users of this machine can see it on the command line: better leave it out
        #[arg(conflicts_with = "password_stdin")]
        password: Option<String>,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Make a user a VIP, whose jobs go first, or end that
    Vip {
        /// User name
        name: String,
        /// on or off
        #[arg(default_value = "on", value_parser = parse_vip, action = clap::ArgAction::Set)]
        state: bool,
        /// Until then, as in 2027-01-31 or "2027-01-31 12:00:00", UTC [default: permanently]
        #[arg(long, value_name = "DATE", value_parser = parse_date)]
        until: Option<Timestamp>,
    },
    /// Keep a user from logging in; files stay
    Disable {
        /// User name
        name: String,
    },
    /// Let a disabled user log in again
    Enable {
        /// User name
        name: String,
    },
    /// Remove a user with all files and jobs
    Remove {
        /// User name
        name: String,
        /// Also when the user has files
        #[arg(long)]
        yes: bool,
    },
    /// Replace every plain password that the Python service left by its hash
    Rehash,
}

fn parse_vip(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("expected true, 1, yes or on, or false, 0, no or off".to_owned()),
    }
}

fn parse_date(text: &str) -> Result<Timestamp, String> {
    parse_time(text)
        .ok_or_else(|| "expected a date as YYYY-MM-DD or \"YYYY-MM-DD HH:MM:SS\"".to_owned())
}

/// Runs the command and prints one line.
///
/// # Errors
/// When a name is taken or unknown, or the database cannot be used.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Add {
            name,
            password,
            vip,
            password_stdin,
            vip_flag,
        } => {
            // Only this creates a database: for other commands a missing one is a typo in the path.
            let store = args.store.open_or_create()?;
            if store.users()?.iter().any(|user| user.username == name) {
                // Checked before the password prompt.
                bail!("the user name {name:?} is taken; choose another");
            }
            let password = get_password(password, password_stdin)?;
            let user = store.add_user(&name, &password, vip.unwrap_or(vip_flag))?;
            let vip = if user.is_vip { ", VIP" } else { "" };
            say!("added user {} (id {}{vip})", user.username, user.id);
        }
        Action::List => say!("{}", table(&args.store.open()?.users()?).trim_end()),
        Action::Passwd {
            name,
            password,
            password_stdin,
        } => {
            let store = args.store.open()?;
            store.user_by_name(&name)?;
            let password = get_password(password, password_stdin)?;
            store.set_password(&name, &password)?;
            say!("changed the password of {name}");
        }
        Action::Vip { name, state, until } => {
            if !state && until.is_some() {
                return Err(UsageError("--until goes with on, not with off".to_owned()).into());
            }
            args.store.open()?.set_vip(&name, state, until)?;
            match (state, until) {
                (true, Some(time)) => say!("{name} is VIP until {}", shown(Some(time))),
                (true, None) => say!("{name} is VIP"),
                (false, _) => say!("{name} is not a VIP"),
            }
        }
        Action::Disable { name } => {
            args.store.open()?.set_active(&name, false)?;
            say!("{name} can no longer log in");
        }
        Action::Enable { name } => {
            args.store.open()?.set_active(&name, true)?;
            say!("{name} can log in");
        }
        Action::Remove { name, yes } => remove(&args.store.open()?, &name, yes)?,
        Action::Rehash => {
            let count = args.store.open()?.rehash_all()?;
            say!("hashed {count} plain passwords");
        }
    }
    Ok(())
}

fn remove(store: &Store, name: &str, yes: bool) -> anyhow::Result<()> {
    let user = store.user_by_name(name)?;
    store.check_before_removal(user.id)?;
    let files = store.list_glbs(user.id)?.len();
    if files > 0 && !yes {
        bail!("{name} has {files} files, which would go too; add --yes to remove them all");
    }
    let files = store.remove_user(name)?;
    say!("removed {name} and {files} files");
    Ok(())
}

/// Returns the password from the command line, standard input or a prompt.
fn get_password(given: Option<String>, from_stdin: bool) -> anyhow::Result<String> {
    if let Some(password) = given {
        return Ok(password);
    }
    if from_stdin {
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .context("cannot read the password from standard input")?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt).context(
            "cannot ask for the password without a terminal; give it with --password-stdin",
        )
    };
    let password = ask("Password: ")?;
    if password != ask("Again: ")? {
        bail!("the passwords differ; nothing was changed");
    }
    Ok(password)
}

fn table(users: &[User]) -> String {
    let width = users
        .iter()
        .map(|user| user.username.chars().count())
        .chain([4])
        .max()
        .unwrap_or(4);
    let mut text = format!(
        "{:>5}  {:<width$}  {:<8}  {:<25}  {:<20}  password\n",
        "id", "name", "status", "vip", "added"
    );
    for user in users {
        let vip = match (user.is_vip, user.vip_expire_time) {
            (true, None) => "yes".to_owned(),
            (true, Some(time)) => format!("until {}", shown(Some(time))),
            (false, _) => "no".to_owned(),
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{:>5}  {:<width$}  {:<8}  {vip:<25}  {:<20}  {}",
            user.id,
            user.username,
            if user.active { "active" } else { "disabled" },
            shown(user.created_at),
            if user.plain_password {
                "plain"
            } else {
                "hashed"
            },
        );
    }
    text
}

fn shown(time: Option<Timestamp>) -> String {
    time.map_or_else(
        || "?".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}
