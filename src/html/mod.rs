//! A GLB in a page that draws it: one HTML file for any browser, also from a disk and without a network.
//!
//! What lives here: the page and the text that carries the GLB inside it. What does not: the contents of the GLB. The
//! entry point is [`write()`].
//!
//! | file | what it is |
//! |---|---|
//! | `page.html` | everything before the GLB |
//! | `page.css` | how it looks |
//! | `glb.js` | base64 -> GLB -> which bytes are which points |
//! | `view.js` | where the eye stands: arithmetic only |
//! | `page.js` | WebGL, the panel, the hand on the mouse or the glass |
//!
//! The page loads nothing from anywhere: its Content-Security-Policy forbids every request, and every script and style but
//! its own, which it names by their hashes. The GLB comes last, in pieces, so that no string is longer than a browser
//! allows.

mod pieces;

use std::io::{self, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

pub use pieces::Pieces;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(
    include_str!("glb.js"),
    "\n",
    include_str!("view.js"),
    "\n",
    include_str!("page.js")
);
/// Program and version.
const GENERATOR: &str = concat!("vggt ", env!("CARGO_PKG_VERSION"));
/// What follows the GLB.
const END: &str = "</body>\n</html>\n";

/// Writes a page with this title to `out`; `glb` writes the GLB into it.
///
/// The GLB passes through in pieces: beside its own writer this needs some 2 MiB. Browsers draw some ten million points
/// and may run out of memory above.
///
/// # Errors
/// When `glb` or `out` fails.
pub fn write<W: Write, E: From<io::Error>>(
    title: &str,
    out: &mut W,
    glb: impl FnOnce(&mut Pieces<'_, W>) -> Result<(), E>,
) -> Result<(), E> {
    out.write_all(head(title).as_bytes())?;
    let mut pieces = Pieces::new(out);
    glb(&mut pieces)?;
    pieces.finish()?;
    out.write_all(END.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// The page up to the GLB.
fn head(title: &str) -> String {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
        source_hash(SCRIPT),
        source_hash(STYLE),
    );
    PAGE.replace("{{policy}}", &policy)
        .replace("{{generator}}", GENERATOR)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        // The last, so that nothing in a title is taken for a place to fill.
        .replace("{{title}}", &escaped(title))
}

/// How a Content-Security-Policy names a script or style in the page.
fn source_hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}

/// `text` as it may stand between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_in_the_page_is_filled() {
        let head = head("a title");
        assert!(!head.contains("{{") && !head.contains("}}"), "{head}");
        assert_eq!(head.matches("a title").count(), 2);
    }

    #[test]
    fn a_title_fills_no_place_and_opens_no_tag() {
        let head = head("{{script}}</title><script>'\"&");
        let shown = "{{script}}&lt;/title&gt;&lt;script&gt;&#39;&quot;&amp;";
        assert_eq!(head.matches(shown).count(), 2);
        assert_eq!(head.matches("<script").count(), 1);
    }

    #[test]
    fn nothing_in_the_scripts_or_the_style_ends_or_hides_them() {
        for part in [SCRIPT, STYLE] {
            for end in ["</script", "</style", "<!--", "\r"] {
                assert!(!part.contains(end), "{end:?}");
            }
        }
    }
}
