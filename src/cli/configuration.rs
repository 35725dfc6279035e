//! Options from a file and from the environment: flags count before variables, and these before the file.
//!
//! `vggt.toml` has a table for each of the commands in [`COMMANDS`], whose keys are their flags without the dashes in front. A variable
//! is called `VGGT_` and the flag: `VGGT_MAX_UPLOAD`. Both become defaults of the flags, so that they are read and checked as the
//! flags are. Passwords are not among them.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Command, builder::BoolishValueParser, error::ErrorKind};
use toml::{Table, Value};

use crate::store::Server;

/// Name of the file beside the database.
const FILE_NAME: &str = "vggt.toml";

/// The flag and the variable that name another file.
const FLAG: &str = "config-file";
const VARIABLE: &str = "VGGT_CONFIG_FILE";

/// Commands that a file has tables for.
const COMMANDS: [&str; 3] = ["serve", "worker", "client"];

/// Commands that work on the database of the service, and take where that is from its table.
const OF_SERVICE: [&str; 4] = ["user", "job", "check", "status"];
const STORE_KEYS: [&str; 2] = ["db", "out-root"];

/// Flags that are not settings: they ask for something once.
const ONCE: [&str; 6] = [
    "help",
    "version",
    "json",
    "password-stdin",
    "quiet",
    "verbose",
];

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigurationError {
    /// It cannot be read.
    #[error("cannot read the configuration file \"{}\": {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not TOML.
    #[error("cannot read the configuration file \"{}\": {why}", path.display())]
    Syntax { path: PathBuf, why: String },
    /// A key that no flag has.
    #[error("unknown key {key:?} in the configuration file \"{}\": {expected}", path.display())]
    Key {
        path: PathBuf,
        key: String,
        expected: String,
    },
    /// A password in a file that others may read.
    #[error("the key {key:?} is not read from the configuration file \"{}\": passwords come from VGGT_PASSWORD, --password-stdin or \
             the terminal", path.display())]
    Password { path: PathBuf, key: String },
    /// A value that its flag does not take.
    #[error("invalid value of {key:?} in the configuration file \"{}\": {why}", path.display())]
    Value {
        path: PathBuf,
        key: String,
        why: String,
    },
}

/// Adds to `command`, the whole command line, what the file and the environment say about the command that `args` call.
///
/// # Errors
/// When the file cannot be read, or has a key or a value that no flag takes.
pub(super) fn apply(command: Command, args: &[OsString]) -> Result<Command, ConfigurationError> {
    let Some(name) = called(&command, args) else {
        return Ok(command);
    };
    let in_service = OF_SERVICE.contains(&name.as_str());
    if !in_service && !COMMANDS.contains(&name.as_str()) {
        return Ok(command);
    }
    let table = match file(&name, args) {
        Some((path, must_exist)) => read(&command, &path, must_exist)?,
        None => Table::new(),
    };
    let of = if in_service { "serve" } else { &name };
    let table = match table.get(of) {
        Some(Value::Table(table)) => table.clone(),
        _ => Table::new(),
    };
    let wanted = |key: &str| !in_service || STORE_KEYS.contains(&key);
    Ok(command.mut_subcommand(&name, |sub| {
        sub.mut_args(|arg| match key_of(&arg) {
            Some(key) if wanted(&key) => with_defaults(arg, &key, &table),
            _ => arg,
        })
    }))
}

/// Returns the name of the command that is called.
fn called(command: &Command, args: &[OsString]) -> Option<String> {
    let names = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let mut names = names.filter(|arg| command.find_subcommand(arg).is_some());
    names.next().map(str::to_owned)
}

/// Returns the file, and whether it must be there. The client reads none that just lies there: in a folder of somebody else it would
/// name the server that gets the password.
fn file(name: &str, args: &[OsString]) -> Option<(PathBuf, bool)> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = flag(args, FLAG).or_else(|| variable(VARIABLE)) {
        return Some((path.into(), true));
    }
    if name == "client" {
        return None;
    }
    let db = flag(args, "db").or_else(|| variable("VGGT_DB"));
    let db = PathBuf::from(db.unwrap_or_default());
    // A server's database is in no folder here.
    let folder = match Server::is_address(&db.to_string_lossy()) {
        true => Path::new(""),
        false => db.parent().unwrap_or(Path::new("")),
    };
    Some((folder.join(FILE_NAME), false))
}

/// Returns the value of a flag among arguments that were not read yet.
fn flag(args: &[OsString], name: &str) -> Option<OsString> {
    let args = args.iter().take_while(|arg| *arg != "--");
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        let bytes = arg.as_encoded_bytes();
        let rest = bytes
            .strip_prefix(b"--")
            .and_then(|b| b.strip_prefix(name.as_bytes()));
        match rest {
            Some([]) => return args.peek().map(|value| (*value).clone()),
            Some([b'=', ..]) => {
                // The flag is ASCII: what follows is a whole text of its own.
                let text = arg.to_str()?;
                return Some(text.split_once('=')?.1.into());
            }
            _ => {}
        }
    }
    None
}

/// Returns the key of a flag: its long name.
fn key_of(arg: &Arg) -> Option<String> {
    let long = arg.get_long()?;
    (!ONCE.contains(&long) && !arg.is_hide_set()).then(|| long.to_owned())
}

/// Reads and checks all of a file.
fn read(command: &Command, path: &Path, must_exist: bool) -> Result<Table, ConfigurationError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if !must_exist && e.kind() == io::ErrorKind::NotFound => return Ok(Table::new()),
        Err(source) => {
            let path = path.to_owned();
            return Err(ConfigurationError::Read { path, source });
        }
    };
    let table: Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e
            .span()
            .map(|span| 1 + text[..span.start].matches('\n').count());
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        ConfigurationError::Syntax {
            path: path.to_owned(),
            why: line + e.message(),
        }
    })?;
    let mut normal = Table::new();
    for (name, value) in &table {
        let unknown = || ConfigurationError::Key {
            path: path.to_owned(),
            key: name.clone(),
            expected: "expected the tables [serve], [worker] and [client]".to_owned(),
        };
        let Value::Table(keys) = value else {
            return Err(unknown());
        };
        let known = COMMANDS.contains(&name.as_str());
        let sub = command.find_subcommand(name).filter(|_| known);
        let keys = check(sub.ok_or_else(unknown)?, path, name, keys)?;
        normal.insert(name.clone(), Value::Table(keys));
    }
    Ok(normal)
}

/// Checks the table of a command; returns it with the keys as flags spell them.
fn check(
    command: &Command,
    path: &Path,
    table: &str,
    keys: &Table,
) -> Result<Table, ConfigurationError> {
    let mut normal = Table::new();
    for (key, value) in keys {
        let name = key.replace('_', "-");
        let path = || path.to_owned();
        if name.contains("password") && !name.starts_with("login") {
            let key = key.clone();
            return Err(ConfigurationError::Password { path: path(), key });
        }
        let mut args = command.get_arguments();
        let arg = args.find(|arg| key_of(arg).as_deref() == Some(name.as_str()));
        let arg = arg.ok_or_else(|| ConfigurationError::Key {
            path: path(),
            key: key.clone(),
            expected: format!("`vggt {table} --help` lists the options"),
        })?;
        let invalid = |why: String| ConfigurationError::Value {
            path: path(),
            key: key.clone(),
            why,
        };
        let values = texts(value).ok_or_else(|| {
            invalid("expected a text, a number, true or false, or an array of these".to_owned())
        })?;
        for value in values {
            try_value(command, arg, &value).map_err(invalid)?;
        }
        normal.insert(name, value.clone());
    }
    Ok(normal)
}

/// Has the command line read one value.
fn try_value(command: &Command, arg: &Arg, value: &str) -> Result<(), String> {
    if is_switch(arg) {
        return match value {
            "true" | "false" => Ok(()),
            _ => Err("expected true or false".to_owned()),
        };
    }
    let long = arg.get_long().unwrap_or_default();
    let call = ["vggt".to_owned(), format!("--{long}={value}")];
    match command.clone().try_get_matches_from(call) {
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::InvalidValue | ErrorKind::ValueValidation
            ) =>
        {
            let text = e.to_string();
            let line = text.lines().next().unwrap_or_default();
            Err(line.trim_start_matches("error: ").to_owned())
        }
        // What else is missing shows when the command is called.
        _ => Ok(()),
    }
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// Returns the values of a key as a command line has them.
fn texts(value: &Value) -> Option<Vec<String>> {
    Some(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Float(number) => vec![number.to_string()],
        Value::Boolean(on) => vec![on.to_string()],
        Value::Array(values) => {
            let values = values.iter().map(|value| match value {
                Value::Array(_) => None,
                value => texts(value),
            });
            values.collect::<Option<Vec<_>>>()?.concat()
        }
        Value::Datetime(_) | Value::Table(_) => return None,
    })
}

/// Returns the flag with its variable, and with what the file says as its default.
fn with_defaults(arg: Arg, key: &str, table: &Table) -> Arg {
    let variable = format!("VGGT_{}", key.replace('-', "_").to_uppercase());
    let mut arg = arg;
    if std::env::var_os(&variable).is_some_and(|value| !value.is_empty()) {
        if is_switch(&arg) {
            arg = arg.value_parser(BoolishValueParser::new());
        }
        arg = arg.env(leaked(variable));
    }
    match table.get(key).and_then(texts) {
        Some(values) => arg.default_values(values.into_iter().map(leaked).collect::<Vec<_>>()),
        None => arg,
    }
}

/// A text for the rest of the process, as clap wants them: once for each option that is set.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_flag_is_found_before_the_arguments_are_read() {
        let found = |args: &[&str]| flag(&strings(args), "db");
        assert_eq!(found(&["--db", "a"]), Some("a".into()));
        assert_eq!(found(&["--db=b", "--db", "a"]), Some("b".into()));
        assert_eq!(found(&["--dbs", "a", "--", "--db", "b"]), None);
        assert_eq!(found(&["--db"]), None);
    }

    #[test]
    fn values_are_spelled_as_on_a_command_line() {
        let of = |text: &str| {
            let table: Table = format!("a = {text}").parse().unwrap();
            texts(&table["a"])
        };
        assert_eq!(of("\"x\""), Some(vec!["x".to_owned()]));
        assert_eq!(
            of("[1, 2.5, true]"),
            Some(vec!["1".into(), "2.5".into(), "true".into()])
        );
        assert_eq!(of("[[1]]"), None);
        assert_eq!(of("1979-05-27"), None);
    }
}
