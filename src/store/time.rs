//! Dates as the tables hold them: UTC, `YYYY-MM-DD HH:MM:SS.ffffff`, what SQLAlchemy's DateTime writes into SQLite.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Now, in the whole microseconds that a column can hold.
pub(super) fn now() -> Timestamp {
    whole_microseconds(Timestamp::now())
}

/// The text of a column.
pub(super) fn column(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// ISO 8601 without a zone, what Python's `isoformat` gives: the form that goes into a hashed name.
pub(super) fn iso(time: Timestamp) -> String {
    let fraction = if time.subsec_microsecond() == 0 && time.subsec_millisecond() == 0 {
        ""
    } else {
        "%.6f"
    };
    time.strftime(&format!("%Y-%m-%dT%H:%M:%S{fraction}"))
        .to_string()
}

/// A date as people and older programs write it: with a blank or a `T`, with or without fraction or time, UTC unless it
/// names its offset.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse::<Timestamp>().ok().or_else(|| {
        let date: DateTime = text.parse().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

fn whole_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_date_is_the_same_moment() {
        let expected = parse_time("2026-11-22T10:20:30Z").unwrap();
        for text in [
            "2026-11-22 10:20:30",
            "2026-11-22 10:20:30.000000",
            "2026-11-22T10:20:30",
            "2026-11-22T10:20:30.000",
            "2026-11-22 11:20:30+01:00",
            " 2026-11-22 10:20:30\n",
        ] {
            assert_eq!(parse_time(text), Some(expected), "{text}");
        }
        let midnight = parse_time("2026-11-22 00:00:00");
        assert_eq!(parse_time("2026-11-22"), midnight);
        for text in ["", "soon", "2026-13-01", "2026-11-22 25:00:00"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn columns_and_hashed_names_are_written_as_python_wrote_them() {
        let time = parse_time("2026-01-02 03:04:05.000600").unwrap();
        assert_eq!(column(time), "2026-01-02 03:04:05.000600");
        assert_eq!(iso(time), "2026-01-02T03:04:05.000600");
        let whole = parse_time("2026-01-02 03:04:05").unwrap();
        assert_eq!(column(whole), "2026-01-02 03:04:05.000000");
        assert_eq!(iso(whole), "2026-01-02T03:04:05");
        let now = now();
        assert_eq!(parse_time(&column(now)), Some(now));
    }
}
