//! Parts of a file: the header `Range`, and whether a browser has the file already (RFC 9110, sections 13 and 14).

use std::ops::RangeInclusive;

use axum::http::{HeaderMap, header};

/// Which part of a file is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// These bytes.
    Bytes(RangeInclusive<u64>),
    /// Bytes beyond its end.
    None,
}

/// Returns the part of a file of `len` bytes that is asked for. More than one part, and what cannot be read, is answered with the
/// whole, as the standard allows.
pub(super) fn part_of(headers: &HeaderMap, etag: &str, len: u64) -> Part {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or(""));
    // The part of another version would not fit to what the client has.
    if text(header::IF_RANGE).is_some_and(|known| known != etag) {
        return Part::Whole;
    }
    let asked = text(header::RANGE).and_then(|range| range.trim().strip_prefix("bytes="));
    asked
        .and_then(|range| parse(range.trim(), len))
        .unwrap_or(Part::Whole)
}

fn parse(range: &str, len: u64) -> Option<Part> {
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // One that is too large is beyond every end.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let end = len.checked_sub(1);
    if first.is_empty() {
        let count = number(last)?;
        return Some(match end {
            Some(end) if count > 0 => Part::Bytes(len.saturating_sub(count)..=end),
            _ => Part::None,
        });
    }
    let first = number(first)?;
    let last = match last {
        "" => u64::MAX,
        last => number(last)?,
    };
    if last < first {
        return None;
    }
    Some(match end {
        Some(end) if first <= end => Part::Bytes(first..=last.min(end)),
        _ => Part::None,
    })
}

/// Returns true when the client has this version already.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert("range", range.parse().unwrap());
        part_of(&headers, "\"a\"", 100)
    }

    #[test]
    fn a_range_is_one_part_of_the_file_or_all_of_it() {
        for (range, expected) in [
            ("bytes=0-0", Part::Bytes(0..=0)),
            ("bytes=10-19", Part::Bytes(10..=19)),
            ("bytes=90-", Part::Bytes(90..=99)),
            ("bytes=90-99999999999999999999999", Part::Bytes(90..=99)),
            ("bytes=-10", Part::Bytes(90..=99)),
            ("bytes=-1000", Part::Bytes(0..=99)),
            ("bytes=100-", Part::None),
            ("bytes=99999999999999999999999-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=0-1", Part::Whole),
        ] {
            assert_eq!(part(range), expected, "{range}");
        }
    }

    #[test]
    fn a_part_of_another_version_is_not_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("range", "bytes=1-2".parse().unwrap());
        headers.insert("if-range", "\"b\"".parse().unwrap());
        assert_eq!(part_of(&headers, "\"a\"", 100), Part::Whole);
        headers.insert("if-range", "\"a\"".parse().unwrap());
        assert_eq!(part_of(&headers, "\"a\"", 100), Part::Bytes(1..=2));
    }

    #[test]
    fn a_version_is_known_by_one_of_its_tags() {
        let known = |tags: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("if-none-match", tags.parse().unwrap());
            is_known(&headers, "\"a\"")
        };
        assert!(known("\"a\"") && known("\"b\", W/\"a\"") && known("*"));
        assert!(!known("\"b\"") && !known("a") && !known(""));
    }
}
