//! `--watch`: the folders and videos that are put into a folder are exported as they come.
//!
//! The folder is looked at once a second: notices of the file system do not cross network shares, which such folders often are.
//! What is complete is decided by [`Arrivals`]: it has not changed for `--settle` seconds. After its export it moves to `done/`,
//! or to `failed/` with the reason in a text file beside it, so that no scene is lost and none is exported twice.

mod arrivals;

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use self::arrivals::{Arrivals, Kind, State, look_at};
use super::{
    Args,
    batch::{Engine, announce, tell_failure},
    scenes::{self, SceneInput, arguments, free_name, name_of},
};
use crate::{
    cli::{UsageError, inputs::quoted, terminal::remark},
    frames::natural,
    output::OutputError,
    pipeline::PipelineError,
};

/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Folders in the watched one for what was exported, and for what could not be.
const DONE: &str = "done";
const FAILED: &str = "failed";

/// Exports what is put into `folder` until a signal ends the process.
///
/// # Errors
/// When the arguments cannot be used, the network cannot be loaded, another process watches the folder, or results cannot be
/// written. A scene that cannot be reconstructed is not an error.
pub(super) fn run(args: &Args, folder: &Path) -> anyhow::Result<()> {
    let mut watched = Watched::open(folder, args)?;
    let engine = Engine::start(args)?;
    remark!(
        "watching {}: folders of images and videos that are put there are exported; Ctrl-C ends it",
        quoted(&folder.display().to_string())
    );
    loop {
        match watched.next() {
            Some(name) => watched.export(&engine, args, &name)?,
            None => thread::sleep(PAUSE),
        }
    }
}

/// A folder that is watched.
struct Watched {
    folder: PathBuf,
    arrivals: Arrivals,
    /// Entries that are not scenes: those of this module, and the outputs.
    others: HashSet<OsString>,
    /// Files that were told to be of no use.
    told: HashSet<OsString>,
    /// The name that an entry has in the outputs, while it stays in the folder.
    named: Option<(OsString, String)>,
    /// Whether the folder could be read at the last look.
    readable: bool,
    /// Held as long as the folder is watched.
    _lock: Option<File>,
}

impl Watched {
    fn open(folder: &Path, args: &Args) -> anyhow::Result<Self> {
        let cannot = || format!("cannot watch \"{}\"", folder.display());
        if !fs::metadata(folder).with_context(cannot)?.is_dir() {
            let why = format!("{}: it is not a folder", cannot());
            return Err(UsageError(why).into());
        }
        let canonical = folder.canonicalize().with_context(cannot)?;
        // What is wrong with the outputs shows before the network is loaded.
        let example = SceneInput {
            path: folder.to_owned(),
            name: "name".to_owned(),
        };
        let example = arguments(args, &example)?;
        let mut others = HashSet::from([DONE, FAILED].map(OsString::from));
        others.extend(scenes::outputs(&example).filter_map(|output| entry_of(output, &canonical)));
        Ok(Self {
            folder: folder.to_owned(),
            arrivals: Arrivals::new(Duration::from_secs(args.batch.settle)),
            others,
            told: HashSet::new(),
            named: None,
            readable: true,
            _lock: lock(folder)?,
        })
    }

    /// Looks at the folder and returns the next entry that is complete.
    fn next(&mut self) -> Option<OsString> {
        let entries = self.entries();
        if let Err(e) = &entries
            && self.readable
        {
            // A network share comes back.
            let folder = self.folder.display();
            tracing::warn!("cannot read \"{folder}\": {e}; waiting for it to come back");
        }
        self.readable = entries.is_ok();
        self.arrivals.next(entries.ok()?, Instant::now())
    }

    /// Returns the scenes in the folder, in natural order, and how they stand.
    fn entries(&mut self) -> io::Result<Vec<(OsString, State)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if hidden || self.others.contains(&name) {
                continue;
            }
            let path = self.folder.join(&name);
            match look_at(&path) {
                Kind::Scene(state) => entries.push((name, state)),
                Kind::Incomplete => {}
                Kind::Image => self.tell_once(&name, "put the images of a scene into a folder"),
                Kind::Other => self.tell_once(&name, "neither a folder of images nor a video"),
            }
        }
        entries.sort_by(|(a, _), (b, _)| natural(a, b));
        Ok(entries)
    }

    fn tell_once(&mut self, name: &OsStr, why: &str) {
        if self.told.insert(name.to_owned()) {
            tracing::warn!("not exported: \"{}\": {why}", name.display());
        }
    }

    /// Exports an entry and moves it away.
    fn export(&mut self, engine: &Engine, args: &Args, entry: &OsStr) -> anyhow::Result<()> {
        let path = self.folder.join(entry);
        let before = look_at(&path);
        let scene = SceneInput {
            name: self.output_name(args, entry)?,
            path: path.clone(),
        };
        announce(&path, None);
        let done = engine.export(&arguments(args, &scene)?, &scene);
        if look_at(&path) != before {
            // Its files are not all in the result.
            tracing::warn!(
                "\"{}\" changed while it was exported: it is exported again",
                path.display()
            );
            return Ok(());
        }
        self.named = None;
        let moved = match done {
            Ok(()) => self.put_away(entry, DONE).map(drop),
            // Other scenes would fail too.
            Err(e) if is_of_output(&e) => return Err(e),
            Err(e) => {
                let reason = format!("{e:#}\n");
                tell_failure(args, &path, e);
                self.put_away(entry, FAILED)
                    .and_then(|at| write_reason(&at, &reason))
            }
        };
        if let Err(e) = moved {
            self.arrivals.ignore_until_changed(entry);
            tracing::warn!("\"{}\" stays where it is: {e:#}", path.display());
        }
        Ok(())
    }

    /// Returns the name of an entry in the outputs: one that replaces nothing, unless it is of the entry's own export before.
    fn output_name(&mut self, args: &Args, entry: &OsStr) -> anyhow::Result<String> {
        if let Some((_, name)) = self.named.as_ref().filter(|(of, _)| of == entry) {
            return Ok(name.clone());
        }
        let path = self.folder.join(entry);
        let mut failed = None;
        let name = free_name(&name_of(&path), |name| {
            let scene = SceneInput {
                path: path.clone(),
                name: name.to_owned(),
            };
            match arguments(args, &scene) {
                Ok(args) => scenes::outputs(&args).any(|out| out.symlink_metadata().is_ok()),
                Err(e) => {
                    failed = Some(e);
                    false
                }
            }
        });
        match failed {
            Some(e) => Err(e),
            None => {
                self.named = Some((entry.to_owned(), name.clone()));
                Ok(name)
            }
        }
    }

    /// Moves an entry into a folder beside it, under a name that is free there, and returns where it is.
    fn put_away(&self, entry: &OsStr, into: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(into);
        let cannot = || format!("cannot move it to \"{}\"", folder.display());
        fs::create_dir_all(&folder).with_context(cannot)?;
        let entry_path = Path::new(entry);
        let is_file = self.folder.join(entry).is_file();
        let (stem, ending) = match entry_path.extension().filter(|_| is_file) {
            Some(ending) => (entry_path.file_stem(), format!(".{}", ending.display())),
            None => (Some(entry), String::new()),
        };
        let stem = stem.unwrap_or(entry).to_string_lossy();
        let at = |stem: &str| folder.join(format!("{stem}{ending}"));
        let free = free_name(&stem, |stem| at(stem).symlink_metadata().is_ok());
        let to = match free == stem {
            // As it is, whatever bytes it has.
            true => folder.join(entry),
            false => at(&free),
        };
        fs::rename(self.folder.join(entry), &to).with_context(cannot)?;
        Ok(to)
    }
}

/// Writes why a scene failed beside it.
fn write_reason(scene: &Path, reason: &str) -> anyhow::Result<()> {
    let mut name = scene.file_name().unwrap_or_default().to_owned();
    name.push(".txt");
    let path = scene.with_file_name(name);
    fs::write(&path, reason).with_context(|| format!("cannot write \"{}\"", path.display()))
}

/// Returns the entry of `folder`, a canonical path, that an output is in.
fn entry_of(output: &Path, folder: &Path) -> Option<OsString> {
    let existing = output.ancestors().find_map(|above| {
        let above = match above.as_os_str().is_empty() {
            true => Path::new("."),
            false => above,
        };
        let rest = output.strip_prefix(above).unwrap_or(output);
        Some(above.canonicalize().ok()?.join(rest))
    })?;
    let inside = existing.strip_prefix(folder).ok()?;
    Some(inside.components().next()?.as_os_str().to_owned())
}

/// Keeps a second process from watching the same folder, where the file system has locks.
fn lock(folder: &Path) -> anyhow::Result<Option<File>> {
    let Ok(file) = File::open(folder) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            bail!("another vggt watches \"{}\" already", folder.display())
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Whether an error is of the results and not of the scene.
fn is_of_output(e: &anyhow::Error) -> bool {
    let is_output = |e: &(dyn std::error::Error + 'static)| {
        let of_pipeline = e.downcast_ref::<PipelineError>();
        e.is::<OutputError>() || matches!(of_pipeline, Some(PipelineError::Output(_)))
    };
    e.chain().any(is_output)
}
