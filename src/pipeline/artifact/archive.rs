//! A folder as one ZIP file. Nothing is compressed: what takes space in it are images.

use std::{
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::pipeline::PipelineError;

/// Writes the files of `folder` to the file `to` in the order of their names, each with its path below the folder. The same files
/// give the same bytes.
pub(super) fn write(folder: &Path, to: &Path) -> Result<(), PipelineError> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    let mut zip = ZipWriter::new(BufWriter::new(File::create(to)?));
    for path in files {
        let name = path.strip_prefix(folder).unwrap_or(&path);
        let mut file = File::open(&path)?;
        let is_large = file.metadata()?.len() > u64::from(u32::MAX);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(is_large)
            .unix_permissions(0o644);
        zip.start_file(name.to_string_lossy().replace('\\', "/"), options)?;
        io::copy(&mut file, &mut zip)?;
    }
    zip.finish()?.into_inner().map_err(io::Error::from)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}
