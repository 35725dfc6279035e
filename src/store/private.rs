//! Files and folders that only the service's user may read, whatever the umask, and that are never reached through a link.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::system;

/// Folders that could not be removed when it was their time, as without a free file handle.
///
/// A start of the server removes what is beyond [`MAX_LEFT`].
static LEFT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// How many of them are remembered.
const MAX_LEFT: usize = 1000;

/// How many earlier folders one removal takes along.
const MAX_AT_ONCE: usize = 16;

/// Creates a file for its owner alone. Never writes into what is there already.
///
/// # Errors
/// When it exists or cannot be created.
pub fn create_private(path: &Path) -> io::Result<File> {
    private_options().create_new(true).open(path)
}

/// Opens a file for its owner alone to go on writing it, and creates it where it is not there. What it holds stays as it is.
///
/// # Errors
/// When it is a link or another kind of thing than a file, or cannot be opened.
pub fn open_private(path: &Path) -> io::Result<File> {
    open_lock(path)
}

/// Opens or creates a file that is only locked: what it holds stays as it is.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = private_options();
    options.create(true).truncate(false);
    let opened = system::open_no_link(&mut options, path);
    let file = opened.map_err(|e| match path.is_symlink() {
        true => io::Error::other("it is a link"),
        false => e,
    })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a file"))
    }
}

/// Opens a file for reading, unless it is a link.
pub(super) fn open_no_link(path: &Path) -> io::Result<File> {
    system::open_no_link(OpenOptions::new().read(true), path)
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    system::set_mode(&mut options, 0o600);
    options
}

/// Creates a folder for its owner alone below one that exists, or checks that the one that is there is a folder of ours.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    system::for_owner_alone(&mut builder);
    match builder.create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => check_folder(path),
        done => done,
    }
}

/// Fails for a link, a file, and a folder of somebody who could exchange what is in it.
pub(super) fn check_folder(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Err(io::Error::other(
            "it is a link to somewhere else; mount or move the folder itself instead",
        ));
    }
    if !meta.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    // Who owns a folder is not known on every system.
    let Some(owner) = system::owner(&meta) else {
        return Ok(());
    };
    let parent = path.parent().and_then(|parent| fs::metadata(parent).ok());
    let of_parent = parent.is_some_and(|parent| system::owner(&parent) == Some(owner));
    if system::own_user() != Some(owner) && !of_parent {
        return Err(io::Error::other(format!(
            "it belongs to user {owner}, neither to this one nor to the owner of the folder above"
        )));
    }
    Ok(())
}

/// Returns those of the paths that exist and that others may read or write.
pub(super) fn open_to_others(paths: &[PathBuf]) -> Vec<&Path> {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|meta| system::is_open_to_others(&meta));
    let paths = paths.iter().map(PathBuf::as_path);
    paths.filter(|path| open(path)).collect()
}

/// Removes a folder with all that is in it. What cannot be removed now is tried again after later ones, and by the upkeep.
pub fn remove_folder(path: &Path) {
    match try_remove(path) {
        Ok(()) => remove_some_left(),
        Err(e) => {
            tracing::warn!("cannot remove \"{}\" now: {e}", path.display());
            let mut left = left();
            if left.len() < MAX_LEFT {
                left.push(path.to_owned());
            }
        }
    }
}

/// Removes earlier ones, since what hindered them may be over: until one fails, and few, so that nobody waits for many.
fn remove_some_left() {
    for _ in 0..MAX_AT_ONCE {
        let Some(earlier) = left().pop() else {
            return;
        };
        if try_remove(&earlier).is_err() {
            left().insert(0, earlier);
            return;
        }
    }
}

/// Tries again to remove what could not be removed.
pub(super) fn remove_left() {
    let pending = std::mem::take(&mut *left());
    let failed = pending.into_iter().filter(|path| try_remove(path).is_err());
    let failed: Vec<PathBuf> = failed.collect();
    left().extend(failed);
}

fn try_remove(path: &Path) -> io::Result<()> {
    // An empty one first: this needs no file handle. A link is not followed.
    let done = fs::remove_dir(path).or_else(|_| fs::remove_dir_all(path));
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        done => done,
    }
}

fn left() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    // Every operation on the list is one call: it is whole after a panic elsewhere.
    LEFT.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn links_are_neither_followed_nor_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("victim"), "precious").unwrap();
        symlink(at("victim"), at("lock")).unwrap();
        open_lock(&at("lock")).unwrap_err();
        create_private(&at("lock")).unwrap_err();
        open_lock(&at("victim")).unwrap();
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious");
        fs::create_dir(at("folder")).unwrap();
        symlink(at("folder"), at("link")).unwrap();
        private_folder(&at("folder")).unwrap();
        let e = private_folder(&at("link")).unwrap_err();
        assert!(e.to_string().contains("link"), "{e}");
        private_folder(&at("victim")).unwrap_err();
        open_lock(&at("folder")).unwrap_err();
    }

    #[test]
    fn what_is_created_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("f"), dir.path().join("d"));
        drop(create_private(&file).unwrap());
        private_folder(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));
        assert!(open_to_others(&[file.clone(), folder]).is_empty());
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(
            open_to_others(std::slice::from_ref(&file)),
            [file.as_path()]
        );
    }

    #[test]
    fn what_could_not_be_removed_goes_with_a_few_later_removals() {
        let dir = tempfile::tempdir().unwrap();
        let block = dir.path().join("block");
        let folders: Vec<PathBuf> = (0..20).map(|i| block.join(i.to_string())).collect();
        // Where a file lies in place of the folder above, nothing below can be removed, not even by root.
        fs::write(&block, "").unwrap();
        folders.iter().for_each(|folder| remove_folder(folder));
        fs::remove_file(&block).unwrap();
        folders.iter().for_each(|f| fs::create_dir_all(f).unwrap());
        for later in 0..4 {
            let later = dir.path().join(format!("later{later}"));
            fs::create_dir(&later).unwrap();
            remove_folder(&later);
        }
        assert!(folders.iter().all(|folder| !folder.exists()));
    }
}
