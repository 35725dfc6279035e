//! Text of others, made safe to print: a server's, a hub's, a file's.
//!
//! Control characters move the cursor, change the window's title or hide what came before them; the marks of the writing
//! direction show a line in another order than its characters have. Both are printed as escapes.

use std::{borrow::Cow, fmt::Write};

/// Returns `text` with every character escaped that does more to a terminal than show itself.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |c, out| out.extend(c.escape_default()), acts)
}

/// As [`plain`]; line breaks and tabs stay.
pub(super) fn plain_lines(text: &str) -> Cow<'_, str> {
    let acts = |c: char| !matches!(c, '\n' | '\t') && acts(c);
    escaped(text, |c, out| out.extend(c.escape_default()), acts)
}

/// As [`plain`] for a JSON text, which stays one of the same value: there such characters can only be inside of strings, and
/// control characters below U+0020 are escaped already.
pub(super) fn plain_json(text: &str) -> Cow<'_, str> {
    let escape = |c: char, out: &mut String| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    escaped(text, escape, |c| c != '\n' && acts(c))
}

fn escaped(
    text: &str,
    escape: impl Fn(char, &mut String),
    acts: impl Fn(char) -> bool,
) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match acts(c) {
            true => escape(c, &mut out),
            false => out.push(c),
        }
    }
    out.into()
}

/// Whether a terminal does something else than show this character.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks, embeddings, overrides and isolates of the writing direction (Unicode, UAX 9).
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators, and the byte order mark.
            | '\u{2028}' | '\u{2029}' | '\u{feff}'
            // Characters of no width, which make two names look like one, and tags, which nothing shows.
            | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped_and_the_rest_stays() {
        for kept in ["", "Zürich 北京 🙂 a\u{200d}b", "it's \"quoted\" \\ fine"] {
            assert!(matches!(plain(kept), Cow::Borrowed(text) if text == kept));
        }
        assert_eq!(plain("a\x1b]0;x\x07b"), r"a\u{1b}]0;x\u{7}b");
        assert_eq!(plain("a\nb\r\t\u{9b}2J"), r"a\nb\r\t\u{9b}2J");
        assert_eq!(plain("glb.\u{202e}fdp"), r"glb.\u{202e}fdp");
        assert_eq!(plain_lines("a\n\tb\x1b[2J"), "a\n\tb\\u{1b}[2J");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"name": "a\u{9b}2J\u{202e}b\u{e0041}\n\x1b"});
        let text = value.to_string();
        let safe = plain_json(&text);
        assert!(!safe.contains(acts), "{safe}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&safe).unwrap(),
            value
        );
    }
}
