//! The mark that tells a file of this program from a user's.
//!
//! Every format has a place for it, and it is always the generator's name and version:
//!
//! | format | place |
//! |---|---|
//! | GLB | `asset.generator` of the document |
//! | HTML | `<meta name="generator">` |
//! | PLY, COLMAP's text, SVG | a comment |
//! | PNG | a `tEXt` chunk `Software` |
//! | saved predictions | `vggt.frames` of the metadata |
//! | JSON | `generator` |
//!
//! COLMAP's binary form and the images of a dataset have no place for a mark: the dataset keeps their hashes. Converted weights are
//! never replaced unasked: they take minutes, and predictions of the same name would destroy them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use serde_json::Value;

/// Program and version: what every written file carries.
pub const MARK: &str = concat!("vggt ", env!("CARGO_PKG_VERSION"));

/// What the mark of every version begins with.
const NAME: &str = "vggt ";

/// Bytes at the beginning of a file in which a comment or a chunk with the mark must lie. The page's generator is within the
/// first KiB, and so are the comments of PLY and COLMAP unless the options in them are long.
const HEAD: u64 = 64 << 10;

/// Longest JSON that is read for its generator: a GLB with ten thousand cameras has some 10 MiB of it.
const MAX_JSON: u64 = 64 << 20;

/// Returns true when the regular file `path` carries the mark of this program, of any version.
///
/// # Errors
/// When the file cannot be read.
pub fn is_ours(path: &Path) -> io::Result<bool> {
    let mut file = BufReader::new(File::open(path)?);
    let start = file.fill_buf()?;
    if start.starts_with(b"glTF") {
        return Ok(json_has_mark(glb_document(&mut file)?, "/asset/generator"));
    }
    if start.first() == Some(&b'{') {
        let mut json = Vec::new();
        file.take(MAX_JSON).read_to_end(&mut json)?;
        return Ok(json_has_mark(json, "/generator"));
    }
    // A safetensors file begins with the length of its header, which begins with a brace.
    if start.get(8) == Some(&b'{') {
        return safetensors_has_mark(&mut file);
    }
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(head_has_mark(&head))
}

/// Reads the JSON chunk of a GLB.
fn glb_document(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = [0; 20];
    let mut json = Vec::new();
    if file.read_exact(&mut head).is_ok() && &head[16..] == b"JSON" {
        let length = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        file.take(u64::from(length).min(MAX_JSON))
            .read_to_end(&mut json)?;
    }
    Ok(json)
}

fn json_has_mark(json: Vec<u8>, pointer: &str) -> bool {
    let value: Option<Value> = serde_json::from_slice(&json).ok();
    let generator = value.as_ref().and_then(|v| v.pointer(pointer)?.as_str());
    generator.is_some_and(is_mark)
}

fn safetensors_has_mark(file: &mut impl Read) -> io::Result<bool> {
    let mut length = [0; 8];
    if file.read_exact(&mut length).is_err() {
        return Ok(false);
    }
    let mut json = Vec::new();
    let length = u64::from_le_bytes(length).min(MAX_JSON);
    file.take(length).read_to_end(&mut json)?;
    let header: Option<Value> = serde_json::from_slice(&json).ok();
    let metadata = header.as_ref().and_then(|h| h.get("__metadata__"));
    Ok(metadata.is_some_and(|m| m.get("vggt.frames").is_some()))
}

/// Returns true for the name and a version.
fn is_mark(text: &str) -> bool {
    let version = text.strip_prefix(NAME);
    version.is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit()))
}

/// Looks for the mark where PLY, COLMAP, HTML, SVG and PNG have it.
fn head_has_mark(head: &[u8]) -> bool {
    match head {
        [0x89, b'P', b'N', b'G', ..] => has(head, "tEXtSoftware\0"),
        [b'p', b'l', b'y', b'\n' | b'\r', ..] => {
            let end = head.windows(10).position(|at| at == b"end_header");
            has(
                &head[..end.unwrap_or(head.len())],
                "comment {\"generator\":\"",
            )
        }
        [b'#', ..] => has(head, "{\"generator\":\""),
        // A page; its own text may hold anything. A plot has the mark as its first line.
        [b'<', b'!', b'D', ..] => has(head, "\n<meta name=\"generator\" content=\""),
        [b'<', b'!', b'-', ..] => {
            let text = String::from_utf8_lossy(&head[..head.len().min(64)]).into_owned();
            text.strip_prefix("<!-- ").is_some_and(is_mark) && text.contains("-->\n<svg")
        }
        _ => false,
    }
}

/// Returns true when the mark stands behind `prefix` somewhere in `head`.
fn has(head: &[u8], prefix: &str) -> bool {
    let start = format!("{prefix}{NAME}");
    head.windows(start.len() + 1)
        .any(|at| at.starts_with(start.as_bytes()) && at.last().is_some_and(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn ours(name: &str, bytes: &[u8]) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        is_ours(&path).unwrap()
    }

    fn glb(json: &str) -> Vec<u8> {
        let mut bytes = b"glTF\x02\0\0\0".to_vec();
        bytes.extend((20 + json.len() as u32).to_le_bytes());
        bytes.extend((json.len() as u32).to_le_bytes());
        bytes.extend(b"JSON");
        bytes.extend(json.as_bytes());
        bytes
    }

    #[test]
    fn the_generator_decides_and_not_the_format() {
        assert!(ours(
            "a.glb",
            &glb(r#"{"asset":{"generator":"vggt 0.1.0"}}"#)
        ));
        assert!(!ours(
            "a.glb",
            &glb(r#"{"asset":{"generator":"https://github.com/mikedh/trimesh"}}"#)
        ));
        assert!(!ours("a.glb", &glb(r#"{"asset":{"generator":"vggtish"}}"#)));
        assert!(!ours("a.glb", b"glTF"));
        assert!(ours(
            "a.ply",
            b"ply\ncomment {\"generator\":\"vggt 0.1.0\"}\nend_header\n"
        ));
        assert!(!ours(
            "a.ply",
            b"ply\nend_header\ncomment {\"generator\":\"vggt 0.1.0\"}\n"
        ));
        assert!(!ours("a.txt", b"we used vggt 0.1.0 for this\n"));
        assert!(ours("a.json", br#"{"generator": "vggt 9.9"}"#));
        assert!(!ours("a.json", br#"{"frames": ["vggt "]}"#));
        assert!(!ours(
            "a.html",
            b"<!DOCTYPE html>\n<!-- vggt 0.1.0 goes here -->"
        ));
        assert!(!ours("a.svg", b"<!-- vggt logo -->\n<svg/>"));
        assert!(ours("a.svg", b"<!-- vggt 0.1.0 -->\n<svg width=\"1\"/>"));
    }
}
