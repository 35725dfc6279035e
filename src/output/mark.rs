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
//! | safetensors | `vggt.generator` of the metadata; files of older versions have `vggt.frames` |
//! | JSON | `generator` |
//!
//! COLMAP's binary form has no place for a mark: `cameras.bin` is ours when `cameras.txt` beside it is.

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
    if path.extension().is_some_and(|ending| ending == "bin") {
        let text = path.with_extension("txt");
        return Ok(text.is_file() && is_ours(&text)?);
    }
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
    generator.is_some_and(|g| g.starts_with(NAME))
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
    Ok(metadata
        .is_some_and(|m| m.get("vggt.generator").is_some() || m.get("vggt.frames").is_some()))
}

/// Looks for the mark where PLY, COLMAP, HTML, SVG and PNG have it.
fn head_has_mark(head: &[u8]) -> bool {
    let has = |prefix: &str| {
        let mark = format!("{prefix}{NAME}");
        head.windows(mark.len()).any(|at| at == mark.as_bytes())
    };
    match head {
        [0x89, b'P', b'N', b'G', ..] => has("tEXtSoftware\0"),
        [b'p', b'l', b'y', b'\n' | b'\r', ..] => {
            let end = head.windows(10).position(|at| at == b"end_header");
            has_before(
                &head[..end.unwrap_or(head.len())],
                "comment {\"generator\":\"vggt ",
            )
        }
        [b'#', ..] => has("{\"generator\":\""),
        [b'<', ..] => has("<meta name=\"generator\" content=\"") || has("<!-- "),
        _ => false,
    }
}

fn has_before(header: &[u8], mark: &str) -> bool {
    header.windows(mark.len()).any(|at| at == mark.as_bytes())
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
    }

    #[test]
    fn a_binary_model_is_ours_when_its_text_form_is() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("cameras.bin");
        fs::write(&binary, [1, 2, 3]).unwrap();
        assert!(!is_ours(&binary).unwrap());
        let text = "# Camera list\n# {\"generator\":\"vggt 0.1.0\"}\n";
        fs::write(dir.path().join("cameras.txt"), text).unwrap();
        assert!(is_ours(&binary).unwrap());
    }
}
