//! The text of a `CREATE TABLE`, as SQLite keeps it, with `AUTOINCREMENT` put in. Only the tokens are read: names, types,
//! constraints and comments of other programs stay as they are.

/// A token: a name, a number or a keyword, or else one byte of punctuation.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    /// Position behind the token.
    end: usize,
    /// Number of parentheses around it; those of a pair have the same.
    depth: usize,
    /// In quotes, so never a keyword.
    quoted: bool,
}

impl Token<'_> {
    fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(keyword)
    }
}

/// Returns true when the statement has an `AUTOINCREMENT`.
pub(super) fn has_autoincrement(sql: &str) -> bool {
    // SQLite takes the bare word for nothing else.
    tokens(sql).iter().any(|token| token.is("AUTOINCREMENT"))
}

/// Returns the statement with `AUTOINCREMENT` after its primary key; `None` when it has none. Whether SQLite takes it is
/// for the caller to try: it does for an `INTEGER PRIMARY KEY` of a table with rowids.
pub(super) fn with_autoincrement(sql: &str) -> Option<String> {
    let tokens = tokens(sql);
    let key = tokens
        .windows(2)
        .position(|pair| pair[0].is("PRIMARY") && pair[1].is("KEY") && pair[0].depth == 1)?
        + 1;
    let rest = &tokens[key + 1..];
    let at = match rest.first() {
        // A constraint of the table: PRIMARY KEY (id AUTOINCREMENT).
        Some(token) if token.is("(") => {
            let close = rest
                .iter()
                .position(|token| token.is(")") && token.depth == 1)?;
            rest[close - 1].end
        }
        // One of a column: PRIMARY KEY [ASC] [ON CONFLICT what] AUTOINCREMENT.
        _ => {
            let mut last = tokens[key].end;
            let mut rest = rest;
            if let [order, after @ ..] = rest
                && (order.is("ASC") || order.is("DESC"))
            {
                (last, rest) = (order.end, after);
            }
            if let [on, conflict, what, ..] = rest
                && on.is("ON")
                && conflict.is("CONFLICT")
            {
                last = what.end;
            }
            last
        }
    };
    Some(format!("{} AUTOINCREMENT{}", &sql[..at], &sql[at..]))
}

/// Splits a statement into tokens, without white space and comments.
fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let (mut found, mut depth, mut at) = (Vec::new(), 0usize, 0);
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        let rest = &sql[start..];
        let quoted = matches!(byte, b'"' | b'\'' | b'`' | b'[');
        at += match byte {
            _ if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if rest.starts_with("--") => {
                at += rest.find('\n').map_or(rest.len(), |end| end + 1);
                continue;
            }
            b'/' if rest.starts_with("/*") => {
                at += rest[2..].find("*/").map_or(rest.len(), |end| end + 4);
                continue;
            }
            b'[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            _ if quoted => end_of_quotes(&bytes[start..]),
            _ if is_word(byte) => bytes[start..]
                .iter()
                .position(|b| !is_word(*b))
                .unwrap_or(rest.len()),
            _ => 1,
        };
        if byte == b')' {
            depth = depth.saturating_sub(1);
        }
        found.push(Token {
            text: &sql[start..at],
            end: at,
            depth,
            quoted,
        });
        if byte == b'(' {
            depth += 1;
        }
    }
    found
}

/// Returns the length of what begins with a quotation mark; a doubled one stands for itself.
fn end_of_quotes(bytes: &[u8]) -> usize {
    let mark = bytes[0];
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] != mark {
            at += 1;
        } else if bytes.get(at + 1) == Some(&mark) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_goes_behind_the_key_in_every_spelling() {
        for (sql, expected) in [
            (
                "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY, name TEXT)",
                "CREATE TABLE users (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, name TEXT)",
            ),
            (
                "create table users(id integer primary key asc on conflict abort not null)",
                "create table users(id integer primary key asc on conflict abort AUTOINCREMENT not null)",
            ),
            (
                "CREATE TABLE users (\n\tid INTEGER NOT NULL, \n\tPRIMARY KEY (id), \n\tUNIQUE (username)\n)",
                "CREATE TABLE users (\n\tid INTEGER NOT NULL, \n\tPRIMARY KEY (id AUTOINCREMENT), \n\tUNIQUE (username)\n)",
            ),
            (
                "CREATE TABLE \"a (PRIMARY KEY\" (x TEXT DEFAULT 'it''s PRIMARY KEY (', -- PRIMARY KEY (x)\n\
                 y INT CHECK (y > (1)), /* PRIMARY KEY */ [id)] INTEGER, constraint pk PRIMARY /**/ KEY (\"id)\" ))",
                "CREATE TABLE \"a (PRIMARY KEY\" (x TEXT DEFAULT 'it''s PRIMARY KEY (', -- PRIMARY KEY (x)\n\
                 y INT CHECK (y > (1)), /* PRIMARY KEY */ [id)] INTEGER, constraint pk PRIMARY /**/ KEY (\"id)\" AUTOINCREMENT ))",
            ),
        ] {
            assert!(!has_autoincrement(sql), "{sql}");
            let edited = with_autoincrement(sql).unwrap();
            assert_eq!(edited, expected);
            assert!(has_autoincrement(&edited));
        }
    }

    #[test]
    fn a_text_without_a_key_or_cut_off_is_left() {
        for sql in [
            "",
            "CREATE TABLE t (id INTEGER)",
            "CREATE TABLE t (\"PRIMARY\" \"KEY\")",
            "CREATE TABLE t (id INTEGER, PRIMARY KEY (id",
            "CREATE TABLE t (x DEFAULT 'PRIMARY KEY",
            "CREATE TABLE t (x DEFAULT (PRIMARY KEY))",
            "CREATE TABLE t AS SELECT 1 /* PRIMARY KEY",
        ] {
            assert_eq!(with_autoincrement(sql), None, "{sql}");
        }
        assert!(!has_autoincrement(
            "CREATE TABLE t (\"autoincrement\" INT, x DEFAULT 'AUTOINCREMENT')"
        ));
    }
}
