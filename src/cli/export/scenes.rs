//! The scenes of one call: paths and patterns -> what is exported, under which name, with which arguments.

use std::{
    collections::HashSet,
    path::{Component, Path, PathBuf},
};

use glob::MatchOptions;

use super::{Args, args::TRAJECTORY_ENDINGS};
use crate::{
    cli::{UsageError, output_error},
    frames::{is_image_file, is_video_file, natural},
    output::{Place, place},
    pipeline::Format,
    trajectory::TrajectoryFormat,
};

/// What stands for the name of a scene in the paths of outputs.
const NAME: &str = "{name}";

/// What makes a path a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// One of several scenes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SceneInput {
    /// A folder of images, a video or an image.
    pub(super) path: PathBuf,
    /// Its name in the paths of outputs; no two scenes have the same.
    pub(super) name: String,
}

/// Finds the scenes that the paths and patterns of `--each` stand for, those of a pattern in natural order.
///
/// # Errors
/// A usage error when a pattern is malformed or stands for nothing.
pub(super) fn find(args: &Args) -> anyhow::Result<Vec<SceneInput>> {
    let roots: Vec<PathBuf> = outputs(args).filter_map(root).collect();
    let mut paths = Vec::new();
    for path in &args.batch.each {
        match path.to_str() {
            // A path that does not exist is an error of its scene.
            Some(text) if text.contains(WILD) && !path.exists() => {
                paths.extend(matching(text, &roots)?);
            }
            // A shell's pattern stands for it too.
            _ if args.batch.each.len() > 1 && is_one_of(path, &roots) => {
                tracing::warn!("skipping \"{}\": the results go there", path.display());
            }
            _ => paths.push(path.clone()),
        }
    }
    Ok(named(paths))
}

/// Gives each scene a name of its own.
fn named(paths: Vec<PathBuf>) -> Vec<SceneInput> {
    let mut taken = HashSet::new();
    let distinct = |path: PathBuf| {
        let name = free_name(&name_of(&path), |name| taken.contains(name));
        taken.insert(name.clone());
        SceneInput { path, name }
    };
    paths.into_iter().map(distinct).collect()
}

/// Returns the part of an output's path that is the same for all scenes, if it exists.
fn root(output: &Path) -> Option<PathBuf> {
    let same = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(NAME);
    let root: PathBuf = output.components().take_while(same).collect();
    root.canonicalize().ok()
}

fn is_one_of(path: &Path, roots: &[PathBuf]) -> bool {
    path.canonicalize().is_ok_and(|path| roots.contains(&path))
}

/// Returns the folders, videos and images that a pattern stands for. What earlier calls wrote into the folders of the outputs is not
/// among them, unless the pattern asks for these folders.
fn matching(pattern: &str, roots: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    // As shells expand it.
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(pattern, options)
        .map_err(|e| UsageError(format!("invalid pattern \"{pattern}\": {}", e.msg)))?;
    let literal = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(WILD);
    let base: PathBuf = Path::new(pattern)
        .components()
        .take_while(literal)
        .collect();
    let base = Path::new(".").join(base).canonicalize().unwrap_or_default();
    let roots: Vec<&PathBuf> = roots
        .iter()
        .filter(|root| !base.starts_with(root))
        .collect();
    let is_output = |path: &Path| {
        let whole = path.canonicalize();
        whole.is_ok_and(|whole| roots.iter().any(|root| whole.starts_with(root)))
    };
    let found = found.filter_map(Result::ok).filter(|path| !is_output(path));
    let is_scene = |path: &PathBuf| path.is_dir() || is_image_file(path) || is_video_file(path);
    let (mut scenes, others): (Vec<_>, Vec<_>) = found.partition(is_scene);
    if scenes.is_empty() {
        let why = match others.len() {
            0 => "nothing is called so",
            _ => "none of the files is an image or a video",
        };
        let why = format!("\"{pattern}\" stands for no scene: {why}");
        return Err(UsageError(why).into());
    }
    if !others.is_empty() {
        let names: Vec<_> = others.iter().map(|path| path.to_string_lossy()).collect();
        tracing::warn!(
            "skipping what is neither folder, video nor image: {}",
            names.join(", ")
        );
    }
    scenes.sort_by(|a, b| natural(a.as_os_str(), b.as_os_str()));
    Ok(scenes)
}

/// Returns the name of a scene: that of its folder, or of its file without the ending.
pub(super) fn name_of(path: &Path) -> String {
    let whole = match path.file_name() {
        Some(_) => path.to_owned(),
        // "." and "..".
        None => path.canonicalize().unwrap_or_default(),
    };
    let name = match whole.is_dir() {
        true => whole.file_name(),
        false => whole.file_stem(),
    };
    name.map_or_else(
        || "scene".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Returns the first of `name`, `name-2`, `name-3`, ... that is not taken.
pub(super) fn free_name(name: &str, mut is_taken: impl FnMut(&str) -> bool) -> String {
    let mut free = name.to_owned();
    let mut number = 1_u64;
    while is_taken(&free) {
        number += 1;
        free = format!("{name}-{number}");
    }
    free
}

/// Returns the arguments that export one scene.
///
/// # Errors
/// A usage error when an output would be the same file for every scene.
pub(super) fn arguments(args: &Args, scene: &SceneInput) -> anyhow::Result<Args> {
    let name = &scene.name;
    let mut of_scene = args.clone();
    of_scene.inputs = vec![scene.path.clone()];
    of_scene.batch.each.clear();
    of_scene.batch.watch = None;
    if scene.path.is_dir() || is_image_file(&scene.path) {
        // It is for the videos among the scenes.
        of_scene.input.keyframes = None;
    }
    let output = &mut of_scene.output;
    if output.out.is_empty() {
        output.out.push(PathBuf::from("."));
    }
    for out in &mut output.out {
        let format = match extension_format(out) {
            Some(format) => format,
            None => args.output.format.unwrap_or_default(),
        };
        let file = match format.extension() {
            Some(extension) => format!("{name}.{extension}"),
            None => name.clone(),
        };
        *out = in_folder(out, "--out", (name, &file), &Format::extensions())?;
    }
    if let Some(path) = &mut output.save_predictions {
        let file = format!("{name}.safetensors");
        *path = in_folder(path, "--save-predictions", (name, &file), &["safetensors"])?;
    }
    if let Some(path) = &mut output.save_trajectory {
        let file = match output.trajectory_format {
            Some(TrajectoryFormat::Kitti) => format!("{name}.kitti"),
            _ => format!("{name}.txt"),
        };
        let scene = (name.as_str(), file.as_str());
        *path = in_folder(path, "--save-trajectory", scene, &TRAJECTORY_ENDINGS)?;
    }
    if let Some(folder) = &mut output.save_depth {
        *folder = in_folder(folder, "--save-depth", (name, name), &[])?;
    }
    if let Some(text) = of_scene
        .place
        .cameras
        .as_ref()
        .and_then(|path| path.to_str())
    {
        // Each scene has cameras of its own.
        of_scene.place.cameras = Some(PathBuf::from(text.replace(NAME, name)));
    }
    if let Some(path) = &mut of_scene.many.preview {
        let file = format!("{name}_preview.glb");
        *path = in_folder(path, "--preview", (name, &file), &["glb"])?;
    }
    Ok(of_scene)
}

/// The format of a path with `{name}` and a known ending.
fn extension_format(out: &Path) -> Option<Format> {
    let ending = crate::output::extension(out)?;
    Format::of_extension(&ending)
}

/// Puts the name of a scene into a path: in the place of `{name}`, or as a file in the folder.
fn in_folder(
    path: &Path,
    flag: &str,
    (name, file): (&str, &str),
    endings: &[&str],
) -> anyhow::Result<PathBuf> {
    if let Some(text) = path.to_str().filter(|text| text.contains(NAME)) {
        return Ok(PathBuf::from(text.replace(NAME, name)));
    }
    let is_folder = match endings {
        [] => true,
        _ => place(path, endings).map_err(output_error)? == Place::Folder,
    };
    if is_folder {
        return Ok(path.join(file));
    }
    let path = path.display();
    let why = format!(
        "cannot write every scene to {flag} \"{path}\": name a folder, which ends with /, or use {NAME}, as in \"out/{NAME}.glb\""
    );
    Err(UsageError(why).into())
}

/// Returns the files and folders that a scene with these arguments writes.
pub(super) fn outputs(args: &Args) -> impl Iterator<Item = &Path> {
    let output = &args.output;
    let others = [
        &output.save_predictions,
        &output.save_depth,
        &output.save_trajectory,
        &args.many.preview,
    ];
    let others = others.into_iter().flatten();
    output.out.iter().chain(others).map(PathBuf::as_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let taken = ["room", "room-2"];
        assert_eq!(free_name("room", |name| taken.contains(&name)), "room-3");
        assert_eq!(free_name("hall", |name| taken.contains(&name)), "hall");
    }

    #[test]
    fn scenes_of_the_same_name_are_told_apart() {
        let given = ["a/room.mp4", "b/room.mov", "room-2.avi"].map(PathBuf::from);
        let names: Vec<String> = named(given.to_vec()).into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["room", "room-2", "room-2-2"]);
    }

    #[test]
    fn the_name_goes_into_a_folder_or_in_its_place() {
        let put = |path: &str| in_folder(Path::new(path), "--out", ("a", "a.glb"), &["glb", "ply"]);
        assert_eq!(put("out/").unwrap(), Path::new("out/a.glb"));
        assert_eq!(put("x/{name}/{name}.ply").unwrap(), Path::new("x/a/a.ply"));
        let e = put("out/room.glb").unwrap_err().to_string();
        assert!(e.contains("{name}"), "{e}");
        assert!(put("-").is_err());
    }
}
