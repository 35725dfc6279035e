//! Names that a client gives: to a result, and to the images that it sends, which are stored under numbers.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::options::{BadOption, JobOptions};
use crate::store::{JobKind, check_original_name};

/// Longest name of an image, in characters: what file systems allow.
const NAME_MAX: usize = 255;

/// Most names of one request: more than images of a request.
const NAMES_MAX: usize = 5000;

/// How the file of an image is called before its number, which has at least so many digits.
const STORED: &str = "image_";
const DIGITS: usize = 5;

/// Names of one request. As JSON they are the fields of command 11 that are not options of the reconstruction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobNames {
    /// Name of the result; `None` for one that tells the kind and the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names of the images in the order in which they are sent; empty if they have none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

impl JobNames {
    /// Takes the names out of the fields of a request.
    ///
    /// # Errors
    /// When a name is not text, is too long or has control characters, or there are too many.
    pub fn take(fields: &mut Map<String, Value>) -> Result<Self, BadOption> {
        let mut own = Map::new();
        for name in ["name", "names"] {
            if let Some(value) = fields.remove(name).filter(|value| !value.is_null()) {
                own.insert(name.to_owned(), value);
            }
        }
        let names: Self = serde_json::from_value(Value::Object(own))
            .map_err(|e| BadOption::new(format!("cannot use the given name or names: {e}")))?;
        if let Some(name) = &names.name {
            check_original_name(name)
                .and_then(|()| check_original_name(&with_extension(name)))
                .map_err(|e| BadOption::new(e.to_string()))?;
        }
        if names.names.len() > NAMES_MAX {
            let given = names.names.len();
            let why = format!("cannot use {given} names of images: at most {NAMES_MAX}");
            return Err(BadOption::new(why));
        }
        let is_bad = |name: &&String| {
            name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control)
        };
        if let Some(position) = names.names.iter().position(|name| is_bad(&name)) {
            return Err(BadOption::new(format!(
                "cannot use the name of image {position}: expected 1 to {NAME_MAX} characters, none of them a control character"
            )));
        }
        Ok(names)
    }

    /// Reads the names that [`JobNames::add_to`] wrote into a row. A row of an older version has none.
    pub(super) fn from_row(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Returns options and names as a row has them.
    pub(super) fn options_json(&self, options: &JobOptions) -> io::Result<String> {
        let mut options = serde_json::to_value(options).map_err(io::Error::other)?;
        self.add_to(&mut options);
        Ok(options.to_string())
    }

    /// Adds the names to the JSON of options.
    fn add_to(&self, options: &mut Value) {
        if let (Value::Object(all), Ok(Value::Object(own))) = (options, serde_json::to_value(self))
        {
            all.extend(own);
        }
    }

    /// Returns the original name of the result of a job that is submitted at `now`.
    pub fn original_name(&self, kind: JobKind, now: std::time::SystemTime) -> String {
        match &self.name {
            Some(name) => with_extension(name),
            None => kind.original_name(now),
        }
    }

    /// Returns a text with the client's names of images in place of those of their files.
    pub(super) fn in_text(&self, text: &str) -> String {
        if self.names.is_empty() {
            return text.to_owned();
        }
        let mut named = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(STORED) {
            let (before, found) = rest.split_at(at);
            let digits = &found[STORED.len()..];
            let end = digits.bytes().take_while(u8::is_ascii_digit).count();
            let index = digits[..end].parse::<usize>().ok();
            let name = index.and_then(|index| self.names.get(index));
            named.push_str(before);
            match name.filter(|_| end >= DIGITS) {
                Some(name) => named.push_str(name),
                None => named.push_str(&found[..STORED.len() + end]),
            }
            rest = &digits[end..];
        }
        named + rest
    }

    /// As [`JobNames::in_text`] for every text in a value.
    pub(super) fn in_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.in_text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.in_json(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.in_json(value)),
            _ => {}
        }
    }
}

/// A result is a GLB, whatever it is called.
fn with_extension(name: &str) -> String {
    match name.to_ascii_lowercase().ends_with(".glb") {
        true => name.to_owned(),
        false => format!("{name}.glb"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(fields: Value) -> Result<JobNames, BadOption> {
        let Value::Object(mut fields) = fields else {
            panic!("{fields}")
        };
        JobNames::take(&mut fields)
    }

    #[test]
    fn images_are_called_as_the_client_calls_them() {
        let names = take(json!({"names": ["a b.jpg", "image_00000", "ü.heic"]})).unwrap();
        let text =
            "cannot decode \"image_00001\"; image_00002: cropped, image_00007, image_2, image_";
        assert_eq!(
            names.in_text(text),
            "cannot decode \"image_00000\"; ü.heic: cropped, image_00007, image_2, image_"
        );
        assert_eq!(JobNames::default().in_text(text), text);
        let mut value = json!({"names": ["image_00000"], "n": 1, "deep": {"x": "image_00002"}});
        names.in_json(&mut value);
        assert_eq!(
            value,
            json!({"names": ["a b.jpg"], "n": 1, "deep": {"x": "ü.heic"}})
        );
    }

    #[test]
    fn names_survive_a_row_and_are_no_options() {
        let mut fields = json!({"name": "Kitchen", "names": ["x"], "fps": 2});
        let Value::Object(fields) = &mut fields else {
            unreachable!()
        };
        let names = JobNames::take(fields).unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["fps"]);
        let mut row = json!({"fps": 2});
        names.add_to(&mut row);
        assert_eq!(JobNames::from_row(&row.to_string()), names);
        assert_eq!(JobNames::from_row("{\"fps\": 2}"), JobNames::default());
        let now = std::time::SystemTime::now();
        assert_eq!(names.original_name(JobKind::Images, now), "Kitchen.glb");
    }

    #[test]
    fn names_that_cannot_be_shown_are_refused() {
        for bad in [
            json!({"name": ""}),
            json!({"name": "a\nb"}),
            json!({"name": 3}),
            json!({"name": "x".repeat(300)}),
            json!({"names": "a"}),
            json!({"names": [1]}),
            json!({"names": ["a", ""]}),
            json!({"names": ["\u{1b}[2J"]}),
            json!({"names": vec!["a"; NAMES_MAX + 1]}),
            json!({"names": ["x".repeat(256)]}),
        ] {
            take(bad.clone()).expect_err(&bad.to_string());
        }
        let good = take(json!({"name": "Küche.GLB", "names": null})).unwrap();
        assert_eq!(good.name.as_deref(), Some("Küche.GLB"));
    }
}
