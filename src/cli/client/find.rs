//! The first digits of a hash, in place of all of them.

use std::str::FromStr;

use anyhow::bail;

use super::session::Session;
use crate::protocol::Hash;

/// Fewest digits: more would have to be compared by eye, fewer fit another file too easily.
const DIGITS: usize = 8;

/// A hash, or its first digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashPrefix(String);

impl HashPrefix {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HashPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        match is_hex && (DIGITS..=64).contains(&text.len()) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(format!("expected {DIGITS} to 64 hex digits")),
        }
    }
}

impl Session {
    /// Returns the hash that begins so, among those of the user's files.
    ///
    /// # Errors
    /// When none begins so, or more than one.
    pub(super) fn find(&mut self, prefix: &HashPrefix) -> anyhow::Result<Hash> {
        if let Ok(hash) = prefix.0.parse() {
            // Also one of somebody else's.
            return Ok(hash);
        }
        let (mut found, mut before) = (None, None);
        loop {
            let page = self.runtime.block_on(self.client.page(before))?;
            for file in page.files {
                if !file.hash.as_str().starts_with(&prefix.0) {
                    continue;
                }
                if found.replace(file.hash).is_some() {
                    bail!(
                        "more than one of your files begins with {}: give more digits",
                        prefix.0
                    );
                }
            }
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        match found {
            Some(hash) => Ok(hash),
            None => bail!("none of your files begins with {}", prefix.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_8_to_64_hex_digits_of_either_case() {
        let good = ["01234567", "ABCDEF0123", &"a".repeat(64)];
        assert!(good.iter().all(|text| text.parse::<HashPrefix>().is_ok()));
        for bad in ["", "0123456", "0123456g", &"a".repeat(65), "../../etc"] {
            bad.parse::<HashPrefix>().unwrap_err();
        }
    }
}
