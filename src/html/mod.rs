//! A GLB in a page that draws it: one HTML file for any browser, also from a disk and without a network.
//!
//! What lives here: the page and the text that carries the scene inside it. What does not: the viewer, which is part of the web app
//! ([`crate::web`]), and the contents of the GLB. The entry point is [`write()`].
//!
//! The page is the app's `page.html` with the viewer's script and style inside. It loads nothing from anywhere: its
//! Content-Security-Policy forbids every request, and every script and style but its own, which it names by their hashes. The scene
//! comes last, as elements of a type that no browser runs:
//!
//! | class | contents |
//! |---|---|
//! | `glb` | the GLB in base64 |
//! | `confidence` | one byte for each point of the GLB, in its order, in base64: its rank among all, in 256ths; may be missing |
//! | `about` | JSON: the points of each frame, cameras, small photos and depth maps, the unit; may be missing |
//!
//! Base64 comes in pieces, so that no string is longer than a browser allows.

mod pieces;

use std::io::{self, Read, Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::web;

pub use pieces::Pieces;

/// Program and version.
const GENERATOR: &str = concat!("vggt ", env!("CARGO_PKG_VERSION"));
/// What follows the scene.
const END: &str = "</body>\n</html>\n";

/// Longest page up to its scene, several times that of this version.
const HEAD_MAX: u64 = 4 << 20;

/// A page before its scene.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// What it is called.
    pub title: &'a str,
    /// Where a local server of its own listens that ends once no page asks for this any more, relative to the page.
    pub alive: Option<&'a str>,
}

/// Takes the scene of a page.
#[derive(Debug)]
pub struct Contents<'a, W: Write> {
    out: &'a mut W,
}

/// Writes a page to `out`; `contents` writes the scene into it.
///
/// The scene passes through in pieces: beside its own writer this needs some 2 MiB.
///
/// # Errors
/// When `contents` or `out` fails, or with [`io::ErrorKind::Unsupported`] when this program was built without its web app.
pub fn write<W: Write, E: From<io::Error>>(
    page: Page<'_>,
    out: &mut W,
    contents: impl FnOnce(&mut Contents<'_, W>) -> Result<(), E>,
) -> Result<(), E> {
    out.write_all(head(page)?.as_bytes())?;
    contents(&mut Contents { out })?;
    out.write_all(END.as_bytes())?;
    out.flush()?;
    Ok(())
}

impl<W: Write> Contents<'_, W> {
    /// Puts the GLB that `write` writes into the page.
    ///
    /// # Errors
    /// When `write` or the page's writer fails.
    pub fn glb<T, E: From<io::Error>>(
        &mut self,
        write: impl FnOnce(&mut Pieces<'_, W>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.bytes("glb", "model/gltf-binary", write)
    }

    /// Puts the confidence of the points into the page, one byte each in the order of the GLB.
    ///
    /// # Errors
    /// As [`Contents::glb`].
    pub fn confidence<T, E: From<io::Error>>(
        &mut self,
        write: impl FnOnce(&mut Pieces<'_, W>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.bytes("confidence", "application/octet-stream", write)
    }

    /// Puts what else is known of the scene into the page.
    ///
    /// # Errors
    /// When the page's writer fails.
    pub fn about(&mut self, about: &Value) -> io::Result<()> {
        // No string of it ends the element.
        let json = about.to_string().replace('<', "\\u003c");
        writeln!(
            self.out,
            "<script class=\"about\" type=\"application/json\">{json}</script>"
        )
    }

    fn bytes<T, E: From<io::Error>>(
        &mut self,
        class: &str,
        kind: &str,
        write: impl FnOnce(&mut Pieces<'_, W>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut pieces = Pieces::new(self.out, class, kind);
        let written = write(&mut pieces)?;
        pieces.finish()?;
        Ok(written)
    }
}

/// Writes the scene of a page that [`write()`] or an older version has written to `out`, in a page as this version writes it. Returns
/// false, and writes nothing, when `old` is not such a page.
///
/// # Errors
/// When `old` cannot be read, or as [`write()`].
pub fn rewrite(page: Page<'_>, old: &mut impl Read, out: &mut impl Write) -> io::Result<bool> {
    let mut begin = Vec::new();
    old.take(HEAD_MAX).read_to_end(&mut begin)?;
    let ours = find(&begin, b"<meta name=\"generator\" content=\"vggt ");
    let Some(scene) = find(&begin, b"<script class=\"glb\"").filter(|_| ours.is_some()) else {
        return Ok(false);
    };
    out.write_all(head(page)?.as_bytes())?;
    out.write_all(&begin[scene..])?;
    io::copy(old, out)?;
    out.flush()?;
    Ok(true)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Returns a part of the web app.
fn part(name: &str) -> io::Result<&'static str> {
    let missing = || io::Error::new(io::ErrorKind::Unsupported, web::MISSING);
    web::text(name).ok_or_else(missing)
}

/// Returns the page up to the scene.
fn head(page: Page<'_>) -> io::Result<String> {
    let template = part("page.html")?;
    let (script, style) = (
        in_element(part("viewer.js")?),
        in_element(part("viewer.css")?),
    );
    let connections = if page.alive.is_some() {
        " connect-src 'self';"
    } else {
        ""
    };
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data: blob:;{connections} base-uri 'none'; form-action 'none'",
        source_hash(&script),
        source_hash(&style),
    );
    let alive = page
        .alive
        .map(|place| format!(" data-alive=\"{}\"", escaped(place)));
    // The texts that a user names come last, so that nothing in them is taken for a place to fill.
    Ok(template
        .replace("{{policy}}", &policy)
        .replace("{{generator}}", GENERATOR)
        .replace("{{style}}", &style)
        .replace("{{script}}", &script)
        .replacen("<html", &format!("<html{}", alive.unwrap_or_default()), 1)
        .replace("{{title}}", &escaped(page.title)))
}

/// Returns a script or style as it may stand between tags: with one kind of line break, which is what a browser hashes, and without
/// what would end or hide the element. Strings of scripts mean the same with the backslash.
fn in_element(text: &str) -> String {
    text.replace("\r\n", "\n")
        .replace("</script", "<\\/script")
        .replace("</style", "<\\/style")
        .replace("<!--", "<\\!--")
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

    fn head_of(title: &str) -> String {
        let page = Page { title, alive: None };
        head(page).expect(web::MISSING)
    }

    #[test]
    fn every_place_in_the_page_is_filled() {
        let head = head_of("a title");
        for place in ["policy", "generator", "style", "script", "title"] {
            assert!(!head.contains(&format!("{{{{{place}}}}}")), "{place}");
        }
        assert_eq!(head.matches("a title").count(), 2);
        assert!(!head.contains("data-alive=\"") && !head.contains("connect-src 'self'"));
    }

    #[test]
    fn a_page_with_a_server_may_ask_it() {
        let page = Page {
            title: "",
            alive: Some("alive"),
        };
        let head = head(page).expect(web::MISSING);
        assert!(head.contains("<html data-alive=\"alive\""));
        assert!(head.contains("; connect-src 'self';"));
    }

    #[test]
    fn a_title_fills_no_place_and_opens_no_tag() {
        let head = head_of("{{script}}</title><script>'\"&");
        let shown = "{{script}}&lt;/title&gt;&lt;script&gt;&#39;&quot;&amp;";
        assert_eq!(head.matches(shown).count(), 2);
        assert_eq!(head.matches("<script").count(), 1);
    }

    #[test]
    fn nothing_in_a_script_ends_or_hides_it() {
        let script = in_element("a = '</script>' + \"<!--\";\r\n");
        assert_eq!(script, "a = '<\\/script>' + \"<\\!--\";\n");
    }
}
