//! What the headers of tus say.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{CHECKSUMS, VERSION};
use crate::http::problem::{Code, Problem};

/// The type of a part of a file.
pub(super) const OCTETS: &str = "application/offset+octet-stream";

/// Longest metadata, in bytes: a name of 255 characters of 4 bytes in base64, and as much again for what else clients tell.
const METADATA_MAX: usize = 4 << 10;

fn bad(detail: impl ToString) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

/// Fails unless the client speaks this version.
pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get("tus-resumable");
    if given.is_some_and(|given| given == VERSION) {
        return Ok(());
    }
    let detail = format!("expected a header `Tus-Resumable: {VERSION}`");
    Err(Problem::new(Code::TusVersion, detail))
}

/// Returns a number that a header has to have.
fn number(headers: &HeaderMap, name: &str) -> Result<u64, Problem> {
    let text = headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let text = text.ok_or_else(|| bad(format!("expected a header {name}")))?;
    let is_plain = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_plain);
    number.ok_or_else(|| bad(format!("cannot use {text:?} as {name}: expected a number")))
}

/// Returns where a part begins.
pub(super) fn offset(headers: &HeaderMap) -> Result<u64, Problem> {
    number(headers, "Upload-Offset")
}

/// Returns the length of a file that is announced.
pub(super) fn length(headers: &HeaderMap) -> Result<u64, Problem> {
    if headers.contains_key("upload-defer-length") {
        return Err(bad(
            "the length has to be known when an upload is made: send Upload-Length, not Upload-Defer-Length",
        ));
    }
    number(headers, "Upload-Length")
}

/// Fails unless the body is a part of a file.
pub(super) fn check_octets(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("");
    if kind.trim().eq_ignore_ascii_case(OCTETS) {
        return Ok(());
    }
    let detail = format!("expected a body of type {OCTETS}");
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// What a client tells of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// As it was sent.
    pub(super) text: String,
    /// `filename`, or `name` as some clients call it.
    pub(super) name: Option<String>,
}

/// Reads the pairs of keys and values in base64.
pub(super) fn metadata(headers: &HeaderMap) -> Result<Metadata, Problem> {
    let Some(value) = headers.get("upload-metadata") else {
        return Ok(Metadata::default());
    };
    let text = value
        .to_str()
        .ok()
        .filter(|text| text.len() <= METADATA_MAX);
    let text = text.ok_or_else(|| {
        bad(format!(
            "cannot use the Upload-Metadata: expected at most {METADATA_MAX} bytes of ASCII"
        ))
    })?;
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for pair in text.split(',').filter(|_| !text.trim().is_empty()) {
        let (key, value) = pair.trim().split_once(' ').unwrap_or((pair.trim(), ""));
        let why = |why: &str| bad(format!("cannot use {key:?} of the Upload-Metadata: {why}"));
        if key.is_empty() || pairs.iter().any(|(other, _)| *other == key) {
            return Err(why("expected keys that are not empty and differ"));
        }
        let value = BASE64_STANDARD.decode(value.trim());
        let value = value.map_err(|_| why("its value is not base64"))?;
        // Others than names are nobody's here.
        let value = match (key, String::from_utf8(value)) {
            (_, Ok(value)) => value,
            ("filename" | "name", Err(_)) => return Err(why("its value is not UTF-8")),
            (_, Err(_)) => String::new(),
        };
        pairs.push((key, value));
    }
    let of = |key: &str| pairs.iter().find(|(other, _)| *other == key);
    let name = of("filename").or_else(|| of("name"));
    Ok(Metadata {
        text: text.to_owned(),
        name: name.map(|(_, name)| name.clone()),
    })
}

/// A checksum that a part has to have, and what has been hashed of it.
#[derive(Debug)]
pub(super) struct Checksum {
    expected: Vec<u8>,
    hash: Hash,
}

#[derive(Debug)]
enum Hash {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Checksum {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.hash {
            Hash::Sha1(hash) => hash.update(bytes),
            Hash::Sha256(hash) => hash.update(bytes),
        }
    }

    /// Returns true when the hash is the one that was told.
    pub(super) fn matches(self) -> bool {
        let found = match self.hash {
            Hash::Sha1(hash) => hash.finalize().to_vec(),
            Hash::Sha256(hash) => hash.finalize().to_vec(),
        };
        found == self.expected
    }
}

/// Returns the checksum of a part; `None` when it has none.
pub(super) fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, Problem> {
    let Some(value) = headers.get("upload-checksum") else {
        return Ok(None);
    };
    let (name, value) = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().split_once(' '))
        .ok_or_else(|| bad("cannot read the Upload-Checksum: expected an algorithm and base64"))?;
    let (hash, len) = match name {
        "sha1" => (Hash::Sha1(Sha1::new()), 20),
        "sha256" => (Hash::Sha256(Sha256::new()), 32),
        _ => {
            return Err(bad(format!(
                "cannot use {name:?} as the algorithm of the Upload-Checksum: expected one of {CHECKSUMS}"
            )));
        }
    };
    let expected = BASE64_STANDARD.decode(value.trim()).ok();
    let expected = expected.filter(|bytes| bytes.len() == len);
    let expected = expected.ok_or_else(|| {
        bad(format!(
            "cannot read the Upload-Checksum: expected {len} bytes in base64"
        ))
    })?;
    Ok(Some(Checksum { expected, hash }))
}

/// Returns the header that tells when an upload ends, as HTTP writes times.
pub(super) fn expires(at: Option<Timestamp>) -> Option<(HeaderName, HeaderValue)> {
    let text = at?.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let value = HeaderValue::from_str(&text).ok()?;
    Some((HeaderName::from_static("upload-expires"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )])
    }

    #[test]
    fn metadata_are_pairs_of_keys_and_base64() {
        let name = |value: &str| metadata(&with("upload-metadata", value)).map(|m| m.name);
        assert_eq!(name("").unwrap(), None);
        assert_eq!(name("empty").unwrap(), None);
        assert_eq!(name("filename YS5wbmc=").unwrap().unwrap(), "a.png");
        assert_eq!(name("name YS5wbmc=,x").unwrap().unwrap(), "a.png");
        let both = "name eA==, filename w7wucG5n,filetype aW1hZ2UvcG5n, raw /w==";
        assert_eq!(name(both).unwrap().unwrap(), "\u{fc}.png");
        for bad in [
            "filename YS5wbmc",
            "filename a.png",
            "filename /w==",
            "filename YQ==,filename Yg==",
            ",",
            "filename YQ==,",
            "caf\u{e9} YQ==",
            &format!("x {}", "A".repeat(METADATA_MAX)),
        ] {
            let problem = name(bad);
            assert!(problem.is_err(), "{bad:?}: {problem:?}");
        }
    }

    #[test]
    fn a_checksum_is_that_of_its_algorithm() {
        let right = |value: &str| {
            let mut checksum = checksum(&with("upload-checksum", value)).ok()??;
            checksum.update(b"a");
            checksum.update(b"bc");
            Some(checksum.matches())
        };
        assert_eq!(right("sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0="), Some(true));
        assert_eq!(right("sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J8="), Some(false));
        let sha256 = "sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        assert_eq!(right(sha256), Some(true));
        for bad in [
            "",
            "sha1",
            "md5 kAFQmDzST7DWlj99KOF/cg==",
            "SHA1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
            "sha1 !!!!",
            "sha256 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=",
        ] {
            assert!(checksum(&with("upload-checksum", bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(offset(&with("upload-offset", "007")).unwrap(), 7);
        for bad in ["", "-1", "+1", "1.0", "0x1", "99999999999999999999", "1 2"] {
            assert!(offset(&with("upload-offset", bad)).is_err(), "{bad:?}");
        }
        assert!(length(&with("upload-defer-length", "1")).is_err());
        let epoch = expires(Some(Timestamp::UNIX_EPOCH)).unwrap().1;
        assert_eq!(epoch, "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
