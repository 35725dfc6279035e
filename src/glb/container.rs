//! The GLB container: a 12-byte header, then the JSON chunk and the binary chunk with 8 bytes of head each.
//! All integers are little-endian 32-bit; chunks are padded to 4 bytes, JSON with spaces.

use std::io::Write;

use super::GlbError;

const VERSION: u32 = 2;
const HEADER: u64 = 12;
const CHUNK_HEAD: u64 = 8;

/// Returns the size of a file with a document of this length, and a binary chunk whose length is a multiple of 4.
pub(crate) fn size(document: &[u8], binary: u64) -> u64 {
    let json = (document.len() as u64).next_multiple_of(4);
    HEADER + CHUNK_HEAD + json + CHUNK_HEAD + binary
}

/// Writes everything before the binary chunk's bytes; gives the size of the whole file.
///
/// `binary` is the length of the binary chunk, a multiple of 4.
pub(crate) fn write_head(
    document: &[u8],
    binary: u64,
    out: &mut impl Write,
) -> Result<u64, GlbError> {
    let json = (document.len() as u64).next_multiple_of(4);
    let bytes = size(document, binary);
    let Ok(total) = u32::try_from(bytes) else {
        return Err(GlbError::TooLarge { bytes });
    };
    out.write_all(b"glTF")?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&total.to_le_bytes())?;
    // Both are smaller than `total`.
    out.write_all(&(json as u32).to_le_bytes())?;
    out.write_all(b"JSON")?;
    out.write_all(document)?;
    out.write_all(&b"   "[..json as usize - document.len()])?;
    out.write_all(&(binary as u32).to_le_bytes())?;
    out.write_all(b"BIN\0")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_four_gibibytes_is_refused_before_anything_is_written() {
        let mut out = Vec::new();
        let e = write_head(b"{}", u64::from(u32::MAX) - 3, &mut out).unwrap_err();
        assert!(e.to_string().contains("4294967295"), "{e}");
        assert!(out.is_empty());
    }
}
