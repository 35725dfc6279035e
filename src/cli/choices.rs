//! Values that are listed in the help and in completions, and read as their types read them.

use std::ffi::OsStr;

use clap::{
    Arg, Command,
    builder::{PossibleValue, TypedValueParser},
};

/// Reads a value, or says what was expected.
type Parse<T> = fn(&str) -> Result<T, String>;

/// A value parser that lists its values, among others that it takes too.
#[derive(Clone)]
pub(super) struct Choices<T> {
    names: &'static [&'static str],
    parse: Parse<T>,
}

/// Returns a parser that lists `names`.
pub(super) fn choices<T>(names: &'static [&'static str], parse: Parse<T>) -> Choices<T> {
    Choices { names, parse }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Choices<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        self.parse.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.names.iter().map(PossibleValue::new)))
    }
}
