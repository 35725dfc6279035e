//! `vggt client`: the commands of a server.

mod find;
mod follow;
mod session;

use std::{fmt::Display, io::IsTerminal, path::PathBuf};

use serde::Serialize;
use serde_json::json;

use self::{
    find::HashPrefix,
    session::{Input, Session},
};
use super::{
    UsageError,
    attention_flags::AttentionFlags,
    inputs::{self, Inputs},
    output_error,
    plain::{plain, plain_json, plain_lines},
    scene_flags::{SceneFlags, is_false},
};
use crate::cli::terminal::say;
use crate::{
    client::ClientSettings,
    frames::{Folder, list_folder},
    glb::GlbEncoding,
    output::{OutputError, OutputRules, Place, Target, place},
    pipeline::SkippedImages,
    protocol::{DEFAULT_PORT, JobStateReply, JobStatusReply},
};

/// Talks to a server (`vggt serve`): sends images or a video and fetches the GLB.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    /// Print the answer as JSON
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
}

/// The server and the login.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
struct ServerArgs {
    /// The server's name or address
    #[arg(long, global = true, default_value = "127.0.0.1")]
    host: String,
    /// The server's port
    #[arg(long, global = true, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// Log in as this user first; the password is asked for, or taken from the environment's VGGT_PASSWORD
    #[arg(long, global = true, value_name = "NAME")]
    user: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long, global = true)]
    password_stdin: bool,
    /// How long to wait for a reconstruction; a job goes on afterwards
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = ClientSettings::default().reconstruction.as_secs())]
    timeout: u64,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Only log in, to check name and password
    Login,
    /// Send images and write the GLB
    Images {
        /// Images, or one folder of them, in natural order of their names
        #[arg(required = true, value_name = "FILE")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        out: OutArgs,
        #[command(flatten)]
        options: Box<OptionArgs>,
    },
    /// Send a video and write the GLB
    Video {
        /// The video
        path: PathBuf,
        #[command(flatten)]
        out: OutArgs,
        #[command(flatten)]
        options: Box<OptionArgs>,
    },
    /// Fetch a stored GLB by its hash
    Get {
        /// 64 hex digits, as `images`, `video`, `list` and `status` print them; of your own files the first 8 will do
        hash: HashPrefix,
        /// Output file (.glb), folder, or - for standard output [default: HASH.glb]
        #[arg(long, short, value_name = "PATH")]
        out: Option<PathBuf>,
        /// Replace an existing file that vggt did not write
        #[arg(long)]
        overwrite: bool,
    },
    /// Submit images or a video as a job and print its id
    Submit {
        /// Images, or one folder of them
        #[arg(required_unless_present = "video", value_name = "FILE")]
        paths: Vec<PathBuf>,
        /// A video instead
        #[arg(long, value_name = "FILE", conflicts_with = "paths")]
        video: Option<PathBuf>,
        #[command(flatten)]
        options: Box<OptionArgs>,
    },
    /// Show the state of a job
    Status {
        /// Job id
        job: i64,
        /// Show it until the job has ended
        #[arg(long)]
        watch: bool,
    },
    /// Wait for a job and write its GLB
    Wait {
        /// Job id
        job: i64,
        #[command(flatten)]
        out: OutArgs,
    },
    /// List your jobs, newest first
    Jobs,
    /// Build the scene of a job that is done once more, with other options, and write the GLB
    ///
    /// Without the network, from the frames that the server keeps. Options that are left out stay as they were.
    Rerun {
        /// Job id
        job: i64,
        #[command(flatten)]
        out: OutArgs,
        #[command(flatten)]
        options: Box<OptionArgs>,
    },
    /// Stop a job
    Cancel {
        /// Job id
        job: i64,
    },
    /// List your files, newest first
    List,
    /// Delete one of your files
    Delete {
        /// Hash of the file, or its first digits
        hash: HashPrefix,
    },
    /// Let everyone who has the hash fetch one of your files
    Publish {
        /// Hash of the file, or its first digits
        hash: HashPrefix,
        /// Make it private again
        #[arg(long)]
        private: bool,
    },
    /// Show version, model, load and limits of the server
    Info,
}

#[derive(Debug, clap::Args)]
struct OutArgs {
    /// Output file (.glb), folder, or - for standard output
    #[arg(long, short, value_name = "PATH", default_value = "scene.glb")]
    out: PathBuf,
    /// Replace an existing file that vggt did not write; inputs are never replaced
    #[arg(long)]
    overwrite: bool,
}

impl OutArgs {
    /// Returns where the GLB goes; in a folder it is called `name`.
    ///
    /// # Errors
    /// When it cannot be written there, or is one of `inputs`.
    fn target(&self, name: &str, inputs: &[PathBuf]) -> anyhow::Result<Target> {
        let path = match place(&self.out, &["glb"]).map_err(output_error)? {
            Place::Folder => self.out.join(name),
            Place::File(_) | Place::Stream => self.out.clone(),
        };
        let target = OutputRules::new(inputs, self.overwrite).file(&path);
        let target = target.map_err(output_error)?;
        if target.is_standard_output() && std::io::stdout().is_terminal() {
            return Err(output_error(OutputError::Terminal));
        }
        Ok(target)
    }
}

/// Options of the reconstruction; what is left out takes the server's default. Serializes to the fields of command 11.
#[derive(Debug, clap::Args, Serialize)]
struct OptionArgs {
    #[command(flatten)]
    #[serde(flatten)]
    scene: SceneFlags,
    #[command(flatten)]
    #[serde(flatten)]
    attention: AttentionFlags,
    /// Drop points that are sky
    #[arg(long, help_heading = "Scene")]
    #[serde(skip_serializing_if = "is_false")]
    mask_sky: bool,
    /// Frames to take from each second of a video
    #[arg(long, help_heading = "Scene")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fps: Option<f64>,
    /// Name of the result in your list
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// GLB positions as F32 (plain) or as 16-bit integers (quantized)
    #[arg(long, help_heading = "Scene", value_name = "KIND", value_enum)]
    #[serde(rename = "format", skip_serializing_if = "Option::is_none")]
    glb: Option<GlbEncoding>,
}

/// The files of a command on this machine.
#[derive(Default)]
struct Local {
    /// Images to send.
    images: Vec<PathBuf>,
    /// Where the GLB goes.
    target: Option<Target>,
}

impl Local {
    fn of(action: &Action) -> anyhow::Result<Self> {
        Ok(match action {
            Action::Images { paths, out, .. } => {
                let images = images(paths)?;
                let target = Some(out.target("scene.glb", &images)?);
                Self { images, target }
            }
            Action::Video { path, out, .. } => Self {
                target: Some(out.target("scene.glb", std::slice::from_ref(path))?),
                ..Self::default()
            },
            Action::Get {
                hash,
                out,
                overwrite,
            } => {
                let out = OutArgs {
                    // An empty path is the current folder.
                    out: out.clone().unwrap_or_default(),
                    overwrite: *overwrite,
                };
                let name = format!("{}.glb", hash.as_str());
                Self {
                    target: Some(out.target(&name, &[])?),
                    ..Self::default()
                }
            }
            Action::Wait { out, .. } | Action::Rerun { out, .. } => Self {
                target: Some(out.target("scene.glb", &[])?),
                ..Self::default()
            },
            Action::Submit {
                paths, video: None, ..
            } => Self {
                images: images(paths)?,
                ..Self::default()
            },
            _ => Self::default(),
        })
    }
}

/// Connects, logs in and runs the command.
///
/// # Errors
/// When the server cannot be reached, refuses, or a file cannot be read or written.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let json = args.json;
    // What is wrong here shows before a password is asked for and before anything is sent.
    let local = Local::of(&args.action)?;
    let mut session = Session::open(&args.server, matches!(args.action, Action::Login))?;
    match args.action {
        Action::Login => {
            let vip = session.is_vip.unwrap_or_default();
            print(json, &json!({"ok": true, "is_vip": vip}), || {
                format!("logged in{}", if vip { " as a VIP" } else { "" })
            })
        }
        Action::Images { options, .. } => {
            let input = Input::Images(&local.images);
            session.reconstruct(&input, &options, local.target.as_ref(), json)
        }
        Action::Video { path, options, .. } => {
            let input = Input::Video(&path);
            session.reconstruct(&input, &options, local.target.as_ref(), json)
        }
        Action::Get { hash, .. } => {
            let hash = session.find(&hash)?;
            session.write_glb(local.target.as_ref(), json, None, |s, file| {
                let bytes = s.runtime.block_on(s.client.get(&hash, file))?;
                Ok((hash, bytes))
            })
        }
        Action::Submit { video, options, .. } => {
            let input = match &video {
                Some(path) => Input::Video(path),
                None => Input::Images(&local.images),
            };
            session.check_login()?;
            let job = session.submit(&input, &options)?;
            print(json, &job, || describe(&job))
        }
        Action::Status { job, watch } => {
            let job = match watch {
                true => session.follow(job)?,
                false => session.runtime.block_on(session.client.status(job))?,
            };
            print(json, &job, || describe(&job))
        }
        Action::Wait { job, .. } => session.fetch_result(job, local.target.as_ref(), json),
        Action::Jobs => session.jobs(json),
        Action::Rerun { job, options, .. } => {
            let job = session.rerun(job, &options)?;
            session.fetch_result(job, local.target.as_ref(), json)
        }
        Action::Cancel { job } => {
            let job = session.runtime.block_on(session.client.cancel(job))?;
            print(json, &job, || describe(&job))
        }
        Action::List => session.list(json),
        Action::Delete { hash } => {
            let hash = session.find(&hash)?;
            session.runtime.block_on(session.client.delete(&hash))?;
            print(json, &json!({"hash": hash, "deleted": true}), || {
                format!("deleted {hash}")
            })
        }
        Action::Publish { hash, private } => {
            let hash = session.find(&hash)?;
            let set = session.client.set_public(&hash, !private);
            session.runtime.block_on(set)?;
            print(json, &json!({"hash": hash, "public": !private}), || {
                format!("{hash} is {}", if private { "private" } else { "public" })
            })
        }
        Action::Info => {
            let info = session.runtime.block_on(session.client.info())?;
            print(json, &info, || {
                format!(
                    "vggt {} (protocol {})\nmodel   {} on {}\njobs    {} queued, {} running\n\
                     limits  {} bytes an upload, {} images, {} jobs queued, {} of one user",
                    plain(&info.version),
                    info.protocol,
                    plain(&info.model),
                    plain(&info.device),
                    info.queued,
                    info.running,
                    info.limits.upload_bytes,
                    info.limits.images,
                    info.limits.queue,
                    info.limits.queue_per_user
                )
            })
        }
    }
}

/// Returns the images, or those of one folder, as `vggt export` would take them.
fn images(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    match inputs::sort(paths)? {
        Inputs::Images(paths) => Ok(paths),
        Inputs::Folder(dir) => {
            let Folder { images, skipped } = list_folder(&dir)?;
            if !skipped.0.is_empty() {
                let sent = SkippedImages {
                    used: images.len(),
                    left_out: 0,
                    skipped,
                };
                tracing::warn!("{sent}");
            }
            Ok(images)
        }
        Inputs::Video(path) => Err(UsageError(format!(
            "cannot send \"{}\" as an image: it is not of a known image format; videos are sent with `vggt client video`, \
             or `vggt client submit --video`",
            path.display()
        ))
        .into()),
    }
}

fn describe(job: &JobStatusReply) -> String {
    let mut text = format!("job {} {}", job.job, describe_state(&job.state));
    for warning in &job.warnings {
        text += &format!("\nwarning  {}", plain(&warning.text));
    }
    text
}

fn describe_state(state: &JobStateReply) -> String {
    match state {
        JobStateReply::Queued { ahead } => format!("queued, {ahead} ahead"),
        JobStateReply::Running {
            stage,
            fraction,
            seconds_left,
            preview,
        } => {
            let left = seconds_left
                .map(|s| format!(", {s:.0} s left"))
                .unwrap_or_default();
            let preview = preview
                .as_ref()
                .map(|hash| format!("\npreview  {hash}"))
                .unwrap_or_default();
            let percent = fraction * 100.0;
            format!("running: {}, {percent:.0} %{left}{preview}", plain(stage))
        }
        JobStateReply::Done { hash } => format!("done\nhash  {hash}"),
        JobStateReply::Failed { reason } => format!("failed: {}", plain(reason)),
        JobStateReply::Cancelled => "cancelled".to_owned(),
    }
}

fn print<T: Display>(
    json: bool,
    value: &impl Serialize,
    text: impl FnOnce() -> T,
) -> anyhow::Result<()> {
    if json {
        say!("{}", plain_json(&serde_json::to_string(value)?));
    } else {
        // Most of it are words of the server.
        say!("{}", plain_lines(&text().to_string()));
    }
    Ok(())
}
