//! Which entries of a watched folder are complete.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, Metadata},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use crate::frames::{is_image_file, is_video_file};

/// Endings of files that a browser or a copying program has not finished.
const UNFINISHED: [&str; 7] = [
    "part",
    "partial",
    "crdownload",
    "download",
    "filepart",
    "tmp",
    "opdownload",
];

/// Files of a folder that are looked at; more are taken to be complete when these are.
const MAX_FILES: usize = 100_000;

/// What an entry holds, to see changes: relative names, sizes and times.
pub(super) type State = Vec<(OsString, u64, Option<SystemTime>)>;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder with files, or a video.
    Scene(State),
    /// An empty folder, or one with a file that somebody still writes.
    Incomplete,
    /// A single image.
    Image,
    /// Something else.
    Other,
}

/// Looks at an entry of the watched folder.
pub(super) fn look_at(path: &Path) -> Kind {
    let Ok(metadata) = fs::metadata(path) else {
        // It went away, or a link leads nowhere.
        return Kind::Incomplete;
    };
    let name = path.file_name().unwrap_or_default();
    if metadata.is_dir() {
        let mut state = State::new();
        return match add_files(path, OsStr::new(""), &mut state) {
            Some(()) if !state.is_empty() => Kind::Scene(state),
            _ => Kind::Incomplete,
        };
    }
    if is_unfinished(name) || metadata.len() == 0 {
        return Kind::Incomplete;
    }
    match path {
        path if is_image_file(path) => Kind::Image,
        path if is_video_file(path) => Kind::Scene(vec![state_of(name, &metadata)]),
        _ => Kind::Other,
    }
}

/// Adds the files of a folder and those below it; `None` when one is not finished or the folder cannot be read.
fn add_files(folder: &Path, prefix: &OsStr, state: &mut State) -> Option<()> {
    let mut entries: Vec<_> = fs::read_dir(folder).ok()?.collect::<Result<_, _>>().ok()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if state.len() >= MAX_FILES {
            return Some(());
        }
        let name = entry.file_name();
        if is_unfinished(&name) {
            return None;
        }
        let relative = Path::new(prefix).join(&name).into_os_string();
        // Not of what a link leads to, which might be a folder above.
        let metadata = entry.metadata().ok()?;
        match metadata.is_dir() {
            true => add_files(&entry.path(), &relative, state)?,
            false => state.push(state_of(&relative, &metadata)),
        }
    }
    Some(())
}

fn state_of(name: &OsStr, metadata: &Metadata) -> (OsString, u64, Option<SystemTime>) {
    (name.to_owned(), metadata.len(), metadata.modified().ok())
}

fn is_unfinished(name: &OsStr) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| {
        UNFINISHED
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}

/// The entries of the folder, and since when they have been as they are.
#[derive(Debug)]
pub(super) struct Arrivals {
    settle: Duration,
    seen: HashMap<OsString, Seen>,
}

#[derive(Debug)]
struct Seen {
    state: State,
    since: Instant,
    /// Exported already; waits for a change.
    ignored: bool,
}

impl Arrivals {
    pub(super) fn new(settle: Duration) -> Self {
        Self {
            settle,
            seen: HashMap::new(),
        }
    }

    /// Takes the entries as they are now and returns the first that has not changed for long enough.
    pub(super) fn next(
        &mut self,
        entries: Vec<(OsString, State)>,
        now: Instant,
    ) -> Option<OsString> {
        let mut before = std::mem::take(&mut self.seen);
        let mut complete = None;
        for (name, state) in entries {
            let seen = match before.remove(&name) {
                Some(seen) if seen.state == state => seen,
                _ => Seen {
                    state,
                    since: now,
                    ignored: false,
                },
            };
            let is_settled = now.duration_since(seen.since) >= self.settle && !seen.ignored;
            if is_settled && complete.is_none() {
                complete = Some(name.clone());
            }
            self.seen.insert(name, seen);
        }
        complete
    }

    /// Does not return an entry again before it changes.
    pub(super) fn ignore_until_changed(&mut self, name: &OsStr) {
        if let Some(seen) = self.seen.get_mut(name) {
            seen.ignored = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, size: u64) -> (OsString, State) {
        (name.into(), vec![(name.into(), size, None)])
    }

    #[test]
    fn what_changes_is_not_complete() {
        let second = Duration::from_secs(1);
        let mut arrivals = Arrivals::new(2 * second);
        let start = Instant::now();
        let mut at = |seconds, entries| arrivals.next(entries, start + seconds * second);
        assert_eq!(at(0, vec![entry("a", 1)]), None);
        assert_eq!(at(1, vec![entry("a", 2), entry("b", 1)]), None);
        assert_eq!(at(2, vec![entry("a", 2), entry("b", 1)]), None);
        assert_eq!(at(3, vec![entry("a", 3), entry("b", 1)]), Some("b".into()));
        assert_eq!(at(4, vec![entry("a", 3)]), None);
        // What went away and came back begins anew.
        assert_eq!(at(5, vec![entry("a", 3), entry("b", 1)]), Some("a".into()));
    }

    #[test]
    fn what_could_not_be_moved_waits_for_a_change() {
        let mut arrivals = Arrivals::new(Duration::ZERO);
        let now = Instant::now();
        assert_eq!(arrivals.next(vec![entry("a", 1)], now), Some("a".into()));
        arrivals.ignore_until_changed(OsStr::new("a"));
        assert_eq!(arrivals.next(vec![entry("a", 1)], now), None);
        assert_eq!(arrivals.next(vec![entry("a", 2)], now), Some("a".into()));
    }
}
