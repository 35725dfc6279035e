//! Results in progress: where they lie, what Ctrl-C and errors leave of them, and the cache.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use serde_json::{Value, json};

use super::{
    super::{inputs::quoted, signals::before_exit, terminal::tell, user_cache},
    outputs::{Plan, To},
};
use crate::{
    pipeline::{Cache, FolderRule, Place, Source, Spooled, discard, finished_frames, has_frames},
    system,
};

/// So few images are not worth a folder: decoding them takes less than a second.
const FEW: usize = 16;

/// Ending of the folder of an export in progress.
const ENDING: &str = "vggt-spool";

/// Bytes of the output's name in that of the folder: file systems allow 255 in all.
const MAX_NAME: usize = 200;

/// The folder of this process.
static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Whether this process exports several scenes: what is left of one is found again when it is exported again.
static SEVERAL: AtomicBool = AtomicBool::new(false);

/// Results in progress.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Results in progress")]
pub(super) struct SpoolArgs {
    /// Go on with an interrupted export, from this folder that it left, with the options that it had; others may be added
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["spool", "from_predictions"])]
    pub(super) resume: Option<PathBuf>,
    /// Where the results are while the export runs, until they move to the cache [default: .NAME.vggt-spool beside the output
    /// NAME]
    #[arg(
        long,
        value_name = "FOLDER",
        conflicts_with = "from_predictions",
        hide_short_help = true
    )]
    pub(super) spool: Option<PathBuf>,
    /// Neither take the network's results from the cache, nor keep them there
    #[arg(long, hide_short_help = true)]
    pub(super) no_cache: bool,
    /// Size of the cache in MiB [default: 20480, or a tenth of the free disk if that is less]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(0..=1 << 30),
        allow_negative_numbers = true, hide_short_help = true)]
    pub(super) cache_size: Option<u64>,
}

impl SpoolArgs {
    /// Returns the cache of this user, if it is to be used and there is a place for it.
    pub(super) fn cache(&self) -> Option<Cache> {
        if self.no_cache {
            return None;
        }
        let bytes = self.cache_size.map(|mib| mib << 20);
        Some(Cache::new(user_cache()?.join("results"), bytes))
    }

    /// Returns where the results are while the export runs.
    pub(super) fn place(&self, plan: &Plan, source: &Source) -> Place {
        let folder = |path: &Path, rule| Place::Folder {
            path: path.to_owned(),
            note: note(),
            rule,
        };
        match (&self.resume, &self.spool) {
            (Some(path), _) => folder(path, FolderRule::Resume),
            (_, Some(path)) => folder(path, FolderRule::Named),
            _ if is_small(source) => Place::Memory,
            _ => match beside(plan) {
                Some(path) => folder(&path, FolderRule::Default),
                None => Place::Nameless(std::env::temp_dir()),
            },
        }
    }
}

fn is_small(source: &Source) -> bool {
    match source {
        Source::Demo => true,
        Source::Images(_) | Source::Folder(_) => source.files().len() <= FEW,
        Source::Video(_) => false,
    }
}

/// Returns the folder beside the first output that is not a stream.
fn beside(plan: &Plan) -> Option<PathBuf> {
    let mut outputs = plan.scenes.iter().filter_map(|scene| match &scene.to {
        To::File(target) => target.file(),
        To::Folder(path) => Some(path),
    });
    let output = std::path::absolute(outputs.next()?).ok()?;
    let name = output.file_name()?.to_string_lossy().into_owned();
    let mut ends = (0..=name.len().min(MAX_NAME)).rev();
    let end = ends.find(|i| name.is_char_boundary(*i))?;
    // Folders of outputs are created at the end.
    let above = output.parent()?.ancestors().find(|above| above.is_dir());
    let above = above.unwrap_or(Path::new("."));
    Some(above.join(format!(".{}.{ENDING}", &name[..end])))
}

/// What the process that goes on has to know: the arguments after `export`, and the folder that paths are relative to.
fn note() -> Value {
    let args: Vec<Value> = super::resume::own().iter().map(|arg| text(arg)).collect();
    json!({"arguments": args, "folder": std::env::current_dir().ok().map(|dir| text(dir.as_os_str()))})
}

/// A string, or the bytes of what is none.
fn text(value: &OsStr) -> Value {
    match value.to_str() {
        Some(text) => json!(text),
        None => json!(value.as_encoded_bytes()),
    }
}

/// The reverse of [`text`].
pub(super) fn os_string(value: &Value) -> Option<OsString> {
    if let Some(text) = value.as_str() {
        return Some(text.into());
    }
    let bytes = value.as_array()?.iter();
    let bytes = bytes.map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()));
    let bytes = bytes.collect::<Option<Vec<u8>>>()?;
    system::os_string(bytes)
}

/// Remembers the folder of this process, for Ctrl-C and errors.
pub(super) fn claimed(folder: &Path) {
    *lock() = Some(folder.to_owned());
    before_exit(interrupted);
}

/// Has the last words speak of one of several scenes.
pub(super) fn of_several_scenes() {
    SEVERAL.store(true, Relaxed);
}

/// Says how to go on, if there is something to go on with; else removes it.
fn interrupted() -> Option<String> {
    let folder = lock().take()?;
    if has_frames(&folder) {
        return Some(how_to_go_on(&folder));
    }
    discard(&folder);
    None
}

/// After an error: says how to go on, if results are there; else removes what is there, unless it was there before.
pub(super) fn failed(resumed: bool) {
    let Some(folder) = lock().take() else {
        return;
    };
    if resumed || finished_frames(&folder) > 0 {
        tell!("the results so far are kept; {}", how_to_go_on(&folder));
    } else {
        discard(&folder);
    }
}

/// After the last output is written: keeps the results for the next run, or removes them.
pub(super) fn finished(spooled: Option<&Spooled>, cache: Option<&Cache>) {
    let folder = lock().take();
    if let (Some(spooled), Some(cache)) = (spooled, cache) {
        match spooled.keep_in(cache) {
            Ok(Some(kept)) => tracing::debug!("kept in the cache: \"{}\"", kept.display()),
            Ok(None) => {}
            // The export is complete without it.
            Err(e) => tracing::debug!("not kept in the cache: {e}"),
        }
    }
    if let Some(folder) = folder {
        discard(&folder);
    }
}

fn how_to_go_on(folder: &Path) -> String {
    if SEVERAL.load(Relaxed) {
        return "the same command goes on with this scene from there".to_owned();
    }
    let path = quoted(&folder.display().to_string());
    format!("to go on: vggt export --resume {path}")
}

fn lock() -> std::sync::MutexGuard<'static, Option<PathBuf>> {
    FOLDER.lock().unwrap_or_else(PoisonError::into_inner)
}
