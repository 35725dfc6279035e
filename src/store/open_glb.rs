//! Opening a stored GLB: a file that another program cut or wrote to is not taken for the one that was stored.

use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    path::Path,
};

use super::{
    GlbFile, Store, StoreError, StoredFile,
    remote::{Remote, key},
};

/// Bytes of a GLB's header: `glTF`, the version, and the length of the whole, both `u32` in little-endian order.
const HEADER: usize = 12;

impl Store {
    /// Opens the file of a row and returns it with its length in bytes.
    ///
    /// # Errors
    /// When it cannot be read, or is not as long as the row and its own header say.
    pub fn open_glb(&self, row: &GlbFile) -> Result<(StoredFile, u32), StoreError> {
        if let Some(remote) = &self.remote {
            return open_object(remote, row);
        }
        let path = self.glb_path(row);
        let failed = |source| StoreError::Files {
            what: "read",
            path: path.clone(),
            source,
        };
        let (file, len) = open(&path, row).map_err(failed)?;
        let file = StoredFile::on_disk(file).map_err(failed)?;
        Ok((file, len))
    }
}

/// An object has the digest of its bytes with it, which tells more than a header.
fn open_object(remote: &Remote, row: &GlbFile) -> Result<(StoredFile, u32), StoreError> {
    let object = remote.bucket.head(&key(&row.file_path))?;
    let len = object.length;
    let wrong = |what: String| StoreError::Files {
        what: "read",
        path: remote.named(&object.key),
        source: io::Error::new(io::ErrorKind::InvalidData, what),
    };
    if row.file_size != 0 && len != row.file_size {
        return Err(wrong(format!(
            "it has {len} bytes, {} were stored",
            row.file_size
        )));
    }
    let short = u32::try_from(len).map_err(|_| wrong(format!("it has {len} bytes")))?;
    Ok((StoredFile::in_bucket(&remote.bucket, object), short))
}

fn open(path: &Path, row: &GlbFile) -> io::Result<(File, u32)> {
    let bad = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    // Opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return bad("it is not a regular file".to_owned());
    }
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    // The Python service left no size in some rows.
    if row.file_size != 0 && len != row.file_size {
        return bad(format!("it has {len} bytes, {} were stored", row.file_size));
    }
    let mut header = [0; HEADER];
    match file.read_exact(&mut header) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return bad(format!("it has {len} bytes and no header of a GLB"));
        }
        read => read?,
    }
    let [.., a, b, c, d] = header;
    let announced = u32::from_le_bytes([a, b, c, d]);
    if !header.starts_with(b"glTF") || u64::from(announced) != len {
        return bad(format!(
            "it has {len} bytes, but does not begin as a GLB of that length"
        ));
    }
    file.rewind()?;
    Ok((file, announced))
}
