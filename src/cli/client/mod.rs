//! `vggt client`: the commands of a server.

mod args;
mod find;
mod follow;
mod session;

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use serde_json::json;

use self::args::{Action, OutArgs};
pub(super) use self::{
    args::Args,
    session::{Fetched, Input, Login, Session},
};
use super::{
    UsageError,
    inputs::{self, Inputs},
    plain::{plain, plain_json, plain_lines},
};
use crate::cli::terminal::say;
use crate::{
    frames::{Folder, list_folder},
    output::Target,
    pipeline::SkippedImages,
    protocol::{JobStateReply, JobStatusReply},
};

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
            Action::Images {
                paths,
                out,
                options,
            } => {
                options.check_images()?;
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
                paths,
                video: None,
                options,
            } => {
                options.check_images()?;
                Self {
                    images: images(paths)?,
                    ..Self::default()
                }
            }
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
    let server = args.server;
    if matches!(args.action, Action::Login) && server.user.is_none() {
        return Err(UsageError("a login needs --user NAME".to_owned()).into());
    }
    // Prompts before it connects: a server drops idle connections.
    let login = Login::new(
        (server.host, server.port),
        server.user.as_deref(),
        server.password_stdin,
        Duration::from_secs(server.timeout),
    )?;
    let mut session = Session::open(&login)?;
    match args.action {
        Action::Login => {
            let vip = session.is_vip.unwrap_or_default();
            print(json, &json!({"ok": true, "is_vip": vip}), || {
                format!("logged in{}", if vip { " as a VIP" } else { "" })
            })
        }
        Action::Images { options, .. } => {
            let input = Input::Images(&local.images);
            session.reconstruct(&input, options.request()?, local.target.as_ref(), json)
        }
        Action::Video { path, options, .. } => {
            let input = Input::Video(&path);
            session.reconstruct(&input, options.request()?, local.target.as_ref(), json)
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
            let job = session.submit(&input, options.request()?)?;
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
            let job = session.rerun(job, options.request()?)?;
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
        Inputs::Folder(dir) => images_of(&dir),
        Inputs::Video(path) => Err(UsageError(format!(
            "cannot send \"{}\" as an image: it is not of a known image format; videos are sent with `vggt client video`, \
             or `vggt client submit --video`",
            path.display()
        ))
        .into()),
    }
}

/// Returns the images of a folder; says which files are none.
pub(super) fn images_of(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Folder { images, skipped } = list_folder(dir)?;
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
