//! The options of command 11.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ProtocolError;

/// Options of the next reconstruction on a connection, by name. A field that is missing or null takes the server's default.
///
/// Only a JSON object is checked here: which options there are and what they accept is defined once, where they are used.
/// The README's table lists them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReconstructionOptions {
    /// The options that were set.
    pub fields: Map<String, Value>,
}

impl ReconstructionOptions {
    /// Returns the options that `options` serializes to.
    ///
    /// # Errors
    /// When that is not a JSON object.
    pub fn new(options: &impl Serialize) -> Result<Self, ProtocolError> {
        serde_json::to_value(options)
            .and_then(serde_json::from_value)
            .map_err(not_options)
    }

    /// Reads the payload of a request.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(payload: &[u8]) -> Result<Self, ProtocolError> {
        serde_json::from_slice(payload).map_err(not_options)
    }
}

fn not_options(e: serde_json::Error) -> ProtocolError {
    ProtocolError::Json {
        what: "options",
        detail: e.to_string(),
    }
}
