//! `--server`: a running `vggt serve` reconstructs, and the files are made here from its GLB.

use std::{
    fs::File,
    io::{self, Seek},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::{Value, json};

use super::{
    Args,
    args::JsonDetail,
    outputs::{Plan, To},
    summary::how_to_look,
};
use crate::{
    cli::{
        UsageError,
        client::{Fetched, Input, Login, Session, images_of},
        plain::plain_json,
        terminal::{say, tell},
    },
    client::ClientSettings,
    html,
    output::Target,
    pipeline::{Format, Source},
    protocol::{DEFAULT_PORT, ReconstructionOptions},
    scene::SceneOptions,
};

/// A server that reconstructs.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct RemoteArgs {
    /// Have a running `vggt serve` reconstruct, which has its weights loaded, and write its GLB, alone or in a page
    #[arg(long, value_name = "HOST[:PORT]", hide_short_help = true, conflicts_with_all = [
        "from_predictions", "max_frames", "preprocess", "max_image_pixels", "max_image_side", "max_image_bytes",
        "max_image_memory", "max_video_seconds", "max_video_pixels", "max_decode_seconds", "max_decode_memory", "isolate",
        "preview", "frame_filter", "masks", "sky_network", "color_space", "orient", "ply", "save_predictions",
        "save_depth", "save_trajectory", "query_points", "meters_per_unit", "cameras", "exif_focal", "scale", "gps",
        "level", "refine_lens", "refine_k1", "refine_tracks", "open", "resume", "spool", "no_cache", "cache_size",
        "save_to_db", "checkpoint", "config", "demo", "repo", "revision",
        "offline", "device", "dtype", "precision", "threads",
    ])]
    server: Option<String>,
    /// Log in at the server as this user [default: VGGT_USER]; the password is asked for, or taken from VGGT_PASSWORD
    #[arg(long, value_name = "NAME", requires = "server", hide_short_help = true)]
    user: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long, requires = "server", hide_short_help = true)]
    password_stdin: bool,
    /// How long to wait for a reconstruction; the server's job goes on afterwards
    #[arg(long, value_name = "SECONDS", requires = "server", hide_short_help = true,
        default_value_t = ClientSettings::default().reconstruction.as_secs())]
    timeout: u64,
}

/// The server of `--server`.
pub(super) struct Server<'a> {
    address: &'a str,
    args: &'a RemoteArgs,
}

impl RemoteArgs {
    /// Returns the server, if one is named.
    pub(super) fn server(&self) -> Option<Server<'_>> {
        let address = self.server.as_deref()?;
        Some(Server {
            address,
            args: self,
        })
    }
}

impl Server<'_> {
    /// Reads the address and the password; connects to nothing.
    pub(super) fn log_in(&self) -> anyhow::Result<Login> {
        let address = host_and_port(self.address)?;
        let variable = std::env::var("VGGT_USER").ok();
        let user = self.args.user.clone().or(variable);
        let user = user.as_deref().filter(|user| !user.is_empty());
        let timeout = Duration::from_secs(self.args.timeout);
        Login::new(address, user, self.args.password_stdin, timeout)
    }
}

/// Reads `host`, `host:port`, `[::1]:port` or `::1`.
fn host_and_port(text: &str) -> Result<(String, u16), UsageError> {
    let bad = || {
        UsageError(format!(
            "invalid --server \"{text}\": expected HOST or HOST:PORT, as in gpu-box or 192.168.0.7:{DEFAULT_PORT}"
        ))
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(bad)?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or_else(bad)?),
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            // An address of version 6.
            Some(_) => (text, None),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse);
    match port {
        Ok(port) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(bad()),
    }
}

/// Has one scene reconstructed and writes the files; `name` is what the summary calls it among several.
///
/// # Errors
/// When the input or an output cannot be used, or the server cannot be reached, refuses or fails.
pub(super) fn export(args: &Args, login: &Login, name: Option<&str>) -> anyhow::Result<()> {
    let start = Instant::now();
    let source = args.source()?;
    let plan = Plan::new(
        &args.output,
        &SceneOptions::default(),
        args.scene.mask_sky,
        (&source.files(), None),
    )?;
    check_outputs(args, &plan)?;
    let images = match &source {
        Source::Images(paths) => paths.clone(),
        Source::Folder(dir) => images_of(dir)?,
        Source::Video(_) | Source::Demo => Vec::new(),
    };
    let input = match &source {
        Source::Video(path) => Input::Video(path),
        _ => Input::Images(&images),
    };
    let options = options(args, &source)?;
    // The page has the GLB in its middle, so it cannot be written while the GLB comes.
    let mut file = tempfile::tempfile().context("cannot create a temporary file")?;
    let fetched = Session::open(login)?.reconstruct_into(&input, options, &mut file)?;
    let mut outputs = Vec::new();
    for scene in &plan.scenes {
        if let To::File(target) = &scene.to {
            let bytes = write(&mut file, scene.format, target)
                .with_context(|| format!("cannot write \"{}\"", target.path().display()))?;
            outputs.push((target.path(), scene.format, bytes));
        }
    }
    let summary = Summary {
        outputs: &outputs,
        fetched: &fetched,
        name,
        seconds: start.elapsed(),
    };
    summary.print(args.output.json.is_some(), plan.uses_standard_output());
    Ok(())
}

/// Refuses what cannot be made from a GLB.
fn check_outputs(args: &Args, plan: &Plan) -> Result<(), UsageError> {
    if let Some(scene) = plan.scenes.iter().find(|scene| !scene.format.holds_glb()) {
        return Err(UsageError(format!(
            "cannot write {} with --server: a server answers with a GLB, which --out writes as .glb or .html; without --server all \
             formats are there",
            scene.format.name()
        )));
    }
    if args.output.json == Some(JsonDetail::Full) {
        let why =
            "cannot print --json full with --server: a GLB does not hold the cameras; use --json";
        return Err(UsageError(why.to_owned()));
    }
    Ok(())
}

/// Returns the options that were given, as the server takes them; `--fps` with its default, so that a video has the frames that
/// an export without a server takes.
fn options(args: &Args, source: &Source) -> anyhow::Result<ReconstructionOptions> {
    let mut fields = args.scene.given()?;
    if let Value::Object(attention) = serde_json::to_value(&args.many.attention)? {
        fields.extend(attention);
    }
    if let Source::Video(_) = source {
        match args.input.keyframes {
            Some(n) => fields.insert("keyframes".to_owned(), json!(n)),
            None => fields.insert("fps".to_owned(), json!(args.input.fps)),
        };
    }
    if let Some(refine) = args.refine.given() {
        fields.insert("refine".to_owned(), json!(refine));
    }
    let encoding = args.output.glb;
    if encoding != Default::default() {
        fields.insert("format".to_owned(), serde_json::to_value(encoding)?);
    }
    Ok(ReconstructionOptions { fields })
}

/// Writes the GLB in `file`, alone or in a page; returns the size of what was written in bytes.
fn write(file: &mut File, format: Format, target: &Target) -> anyhow::Result<u64> {
    file.rewind()?;
    let mut out = target.create()?;
    if format == Format::Html {
        let title = target.path().file_stem().unwrap_or_default();
        let page = html::Page {
            title: &title.to_string_lossy(),
            alive: None,
        };
        html::write(page, &mut out, |contents| {
            contents.glb(|out| io::copy(file, out)).map(drop)
        })?;
    } else {
        io::copy(file, &mut out)?;
    }
    let bytes = out.written();
    out.commit()?;
    Ok(bytes)
}

/// What was fetched and written.
struct Summary<'a> {
    outputs: &'a [(&'a Path, Format, u64)],
    fetched: &'a Fetched,
    name: Option<&'a str>,
    seconds: Duration,
}

impl Summary<'_> {
    /// Prints to standard output, or to standard error where the former holds a result.
    fn print(&self, json: bool, to_stderr: bool) {
        let text = match json {
            true => plain_json(&self.json().to_string()).into_owned(),
            false => self.text(),
        };
        match to_stderr {
            true => tell!("{text}"),
            false => say!("{text}"),
        }
        if !json
            && !to_stderr
            && self.name.is_none()
            && let Some((path, format, _)) = self.outputs.first()
        {
            how_to_look(path, *format);
        }
    }

    fn json(&self) -> Value {
        let outputs = self.outputs.iter().map(|(path, format, bytes)| {
            json!({"out": path.display().to_string(), "format": format.name(), "bytes": bytes})
        });
        let outputs: Vec<Value> = outputs.collect();
        let mut summary = outputs.first().cloned().unwrap_or_else(|| json!({}));
        summary["outputs"] = outputs.into();
        summary["hash"] = json!(self.fetched.hash);
        summary["job"] = json!(self.fetched.job);
        summary["seconds"] = json!(self.seconds.as_secs_f64());
        if let Some(name) = self.name {
            summary["scene"] = json!(name);
        }
        summary
    }

    fn text(&self) -> String {
        let line = |(path, _, bytes): &(&Path, Format, u64)| {
            let (megabytes, seconds) = (*bytes as f64 / 1e6, self.seconds.as_secs_f64());
            format!("{}: {megabytes:.1} MB, {seconds:.1} s", path.display())
        };
        let mut lines: Vec<String> = self.outputs.iter().map(line).collect();
        lines.push(format!("hash: {}", self.fetched.hash));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_a_port_or_the_default() {
        let read = |text: &str| host_and_port(text).map_err(|e| e.to_string());
        let of = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(read("gpu-box"), of("gpu-box", DEFAULT_PORT));
        assert_eq!(read("10.0.0.1:99"), of("10.0.0.1", 99));
        assert_eq!(read("::1"), of("::1", DEFAULT_PORT));
        assert_eq!(read("[::1]"), of("::1", DEFAULT_PORT));
        assert_eq!(read("[::1]:7"), of("::1", 7));
        for bad in [
            "",
            ":7",
            "host:",
            "host:x",
            "host:70000",
            "[::1",
            "[::1]x",
            "[]:1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
