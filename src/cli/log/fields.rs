//! Message and fields of an event, as a line has them.

use std::{
    fmt::{Debug, Write as _},
    net::{IpAddr, SocketAddr},
};

use serde_json::{Map, Value};
use tracing::{
    Level,
    field::{Field, Visit},
};

use super::{Bounded, fold::Cause, now, plain_json};

/// What stands for a value that there is none of.
const NONE: &str = "-";

/// Message and fields of an event.
#[derive(Debug, Default)]
pub(super) struct Fields {
    message: Bounded,
    /// Names and values of the others; the names are in the code.
    rest: Vec<(&'static str, Bounded)>,
    is_unbounded: bool,
    address: Option<IpAddr>,
    user: Option<String>,
}

impl Fields {
    /// Takes texts of any length.
    pub(super) fn do_not_shorten(&mut self) {
        self.is_unbounded = true;
        self.message.1 = usize::MAX;
    }

    pub(super) fn set_message(&mut self, text: &str) {
        let _ = self.message.write_str(text);
    }

    pub(super) fn message(&self) -> &str {
        &self.message.0
    }

    /// Returns ` name=value` for each field whose value the message does not have.
    pub(super) fn rest(&self) -> String {
        let ends = |c: char| !c.is_alphanumeric() && !"._-".contains(c);
        let is_said = |name: &str, value: &str| {
            // The number of a user could be that of a job.
            let is_number = name == "user" && value.parse::<u64>().is_ok();
            value == NONE || !is_number && self.message.0.split(ends).any(|word| word == value)
        };
        let mut text = String::new();
        for (name, value) in &self.rest {
            if !is_said(name, &value.0) {
                let _ = write!(text, " {name}={}", value.0);
            }
        }
        text
    }

    /// Returns the line as a JSON object: `time`, `level`, `message`, and all fields.
    pub(super) fn to_json(&self, level: Level) -> String {
        let mut line = Map::new();
        line.insert("time".to_owned(), now().into());
        line.insert("level".to_owned(), level.as_str().into());
        line.insert("message".to_owned(), self.message.0.as_str().into());
        for (name, value) in self.rest.iter().filter(|(_, value)| value.0 != NONE) {
            let number = value.0.parse::<i64>().map(Value::from);
            let value = number.unwrap_or_else(|_| value.0.as_str().into());
            line.insert((*name).to_owned(), value);
        }
        plain_json(&Value::Object(line).to_string()).into_owned() + "\n"
    }

    pub(super) fn cause(&self) -> Cause {
        match (&self.user, self.address) {
            (Some(user), Some(_)) => {
                // "images by ann: ok": the request, whatever came of it.
                let request = self.message.0.split(':').next().unwrap_or_default();
                Cause::User(format!("{user} {request}"))
            }
            (Some(user), None) => Cause::User(user.clone()),
            (None, Some(address)) => Cause::Stranger(address),
            (None, None) => Cause::Service,
        }
    }

    fn field(&mut self, name: &'static str, value: Bounded) {
        match name {
            "address" => {
                let socket = || Some(value.0.parse::<SocketAddr>().ok()?.ip());
                self.address = value.0.parse().ok().or_else(socket);
            }
            "user" => self.user = Some(value.0.clone()).filter(|user| user != NONE),
            _ => {}
        }
        self.rest.push((name, value));
    }

    fn empty(&self) -> Bounded {
        let mut text = Bounded::default();
        if self.is_unbounded {
            text.1 = usize::MAX;
        }
        text
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            let _ = self.message.write_str(value);
        } else {
            let mut text = self.empty();
            let _ = text.write_str(value);
            self.field(field.name(), text);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let mut text = self.empty();
            let _ = write!(text, "{value:?}");
            self.field(field.name(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &str, rest: &[(&'static str, &str)]) -> Fields {
        let mut fields = Fields::default();
        fields.set_message(message);
        for (name, value) in rest {
            let mut text = Bounded::default();
            let _ = text.write_str(value);
            fields.field(name, text);
        }
        fields
    }

    #[test]
    fn a_line_says_each_value_once() {
        let said = fields(
            "job 7 is done in 120 ms: abc",
            &[("job.id", "7"), ("user", "7"), ("duration_ms", "120")],
        );
        assert_eq!(said.rest(), " user=7");
        let request = [
            ("job.id", "-"),
            ("user", "ann"),
            ("received", "30"),
            ("duration_ms", "4"),
        ];
        let said = fields("login by ann: ok", &request);
        assert_eq!(said.rest(), " received=30 duration_ms=4");
    }

    #[test]
    fn as_json_a_line_is_one_object_whatever_is_in_it() {
        let said = fields(
            "a \"b\"\u{1b}[2J\nc",
            &[("job.id", "7"), ("user", "-"), ("text", "x\u{202e}y")],
        );
        let line = said.to_json(Level::WARN);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains(['\u{1b}', '\u{202e}']));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["level"], "WARN");
        assert_eq!(read["message"], "a \"b\"\u{1b}[2J\nc");
        assert_eq!(read["job.id"], 7);
        assert_eq!(read["text"], "x\u{202e}y");
        assert_eq!(read.get("user"), None);
    }
}
