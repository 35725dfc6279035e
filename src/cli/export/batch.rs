//! `--each`: many scenes, one after the other, with the network loaded once. A scene that fails does not end the others.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use anyhow::{anyhow, bail};
use serde_json::json;

use super::{
    Args, Resident, one, remote,
    scenes::{self, SceneInput},
    spool,
};
use crate::{
    allocator::return_freed_memory,
    cli::{
        client::Login,
        plain::{plain, plain_json},
        terminal::{events, print_error, remark, say},
    },
};

/// So many scenes are named in the last line; the lines above have all.
const NAMED: usize = 10;

/// Several scenes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Several scenes")]
pub(super) struct BatchArgs {
    /// Export each of these on its own and load the network once: folders of images, videos, or patterns such as 'scenes/*/'.
    /// Files are named after the scenes: --out is a folder, or a path with {name} in it
    #[arg(long, value_name = "SCENE", num_args = 1..,
        conflicts_with_all = ["inputs", "images_dir", "video_path", "from_predictions", "resume", "spool", "masks", "open"])]
    pub(super) each: Vec<PathBuf>,
    /// Export each folder of images and each video that is put into this folder, until Ctrl-C. One that is complete is exported,
    /// then moved to FOLDER/done, or to FOLDER/failed with the reason beside it
    #[arg(long, value_name = "FOLDER",
        conflicts_with_all = ["inputs", "images_dir", "video_path", "from_predictions", "resume", "spool", "each", "masks", "open"])]
    pub(super) watch: Option<PathBuf>,
    /// With --watch: what has not changed for so long is complete
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=86_400),
        allow_negative_numbers = true, requires = "watch",
        conflicts_with_all = ["inputs", "images_dir", "video_path", "each"], hide_short_help = true)]
    pub(super) settle: u64,
}

/// What computes the scenes of one call.
pub(super) enum Engine {
    /// This process.
    Here(Box<Resident>),
    /// A server.
    Server(Login),
}

impl Engine {
    /// Loads the networks, or logs in.
    pub(super) fn start(args: &Args) -> anyhow::Result<Self> {
        spool::of_several_scenes();
        Ok(match args.remote.server() {
            Some(server) => Self::Server(server.log_in()?),
            None => Self::Here(Box::new(Resident::load(args)?)),
        })
    }

    /// Exports one scene. A panic is an error of this scene.
    pub(super) fn export(&self, args: &Args, scene: &SceneInput) -> anyhow::Result<()> {
        let name = scene.path.to_string_lossy();
        let run = || match self {
            Self::Here(resident) => one::export(args, Some(resident), Some(&name)),
            Self::Server(login) => remote::export(args, login, Some(&name)),
        };
        let done = catch_unwind(AssertUnwindSafe(run));
        return_freed_memory();
        let done = done.unwrap_or_else(|_| {
            Err(anyhow!(
                "the program failed at this scene: this is a fault of vggt, please report it"
            ))
        });
        done.inspect_err(|_| spool::failed(false))
    }
}

/// Exports all scenes of `--each`.
///
/// # Errors
/// When the arguments cannot be used, the network cannot be loaded, or at least one scene failed.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let scenes = scenes::find(args)?;
    let arguments = scenes.iter().map(|scene| scenes::arguments(args, scene));
    // What is wrong with the arguments shows before the network is loaded.
    let arguments = arguments.collect::<anyhow::Result<Vec<Args>>>()?;
    let engine = Engine::start(args)?;
    let mut failed = Vec::new();
    for (i, (scene, arguments)) in scenes.iter().zip(&arguments).enumerate() {
        announce(&scene.path, Some((i + 1, scenes.len())));
        if let Err(e) = engine.export(arguments, scene) {
            tell_failure(args, &scene.path, e);
            failed.push(scene.path.display().to_string());
        }
    }
    if failed.is_empty() {
        remark!("all {} scenes are exported", scenes.len());
        return Ok(());
    }
    let count = failed.len();
    let rest = count.saturating_sub(NAMED);
    failed.truncate(NAMED);
    let more = match rest {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    bail!(
        "{count} of {} scenes failed: {}{more}",
        scenes.len(),
        failed.join(", ")
    )
}

/// Says which scene begins, and with `--each` how many there are.
pub(super) fn announce(path: &Path, number: Option<(usize, usize)>) {
    if events::are_wanted() {
        let (number, of) = number.unzip();
        let scene = path.display().to_string();
        return events::write("scene", json!({"scene": scene, "number": number, "of": of}));
    }
    let path = path.display().to_string();
    match number {
        Some((number, of)) => remark!("scene {number} of {of}: {}", plain(&path)),
        None => remark!("scene: {}", plain(&path)),
    }
}

/// Prints why a scene failed, to people and, with `--json`, to programs.
pub(super) fn tell_failure(args: &Args, scene: &Path, e: anyhow::Error) {
    let scene = scene.display().to_string();
    let e = e.context(format!("cannot export \"{scene}\""));
    if args.output.json.is_some() {
        let object = json!({"scene": scene, "error": format!("{e:#}")});
        say!("{}", plain_json(&object.to_string()));
    }
    print_error(&e);
}
