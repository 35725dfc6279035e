//! `vggt view`: a scene in the browser, for as long as its tab is open.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Seek, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tokio::net::TcpListener;
use vggt_model::demo;

use super::{UsageError, inputs::quoted, terminal::remark};
use crate::{
    frames::open_regular,
    html::{self, Page},
    http,
    output::extension,
    pipeline::{ReconstructOptions, Reconstruction, Silent, load_predictions, rebuild, write_view},
    scene::SceneOptions,
    web,
};

/// Bytes of a GLB's magic number.
const GLB: &[u8; 4] = b"glTF";

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt view scene.glb
  vggt view scene.safetensors     what --save-predictions wrote
  vggt export photos/ --open      reconstruct, then show";

/// Shows a GLB or a page of vggt, or saved predictions, in the browser. Ends when the tab is closed, or with Ctrl-C.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A .glb or .html that vggt wrote, or saved predictions (.safetensors)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    browser: BrowserArgs,
}

/// How the browser finds the page.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct BrowserArgs {
    /// Port of the local server [default: any that is free]
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        hide_default_value = true,
        hide_short_help = true
    )]
    view_port: u16,
    /// Only print the address, for a browser that is opened by hand
    #[arg(long, hide_short_help = true)]
    no_browser: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    check_available()?;
    let page = page_of(&args.file)?;
    show(page, &args.browser)
}

/// Returns an error when this program has no viewer, which is part of the web app.
pub(super) fn check_available() -> anyhow::Result<()> {
    match web::is_built() {
        true => Ok(()),
        false => Err(UsageError(web::MISSING.to_owned()).into()),
    }
}

/// Shows what was made.
pub(super) fn show_made(
    made: &Reconstruction,
    title: &str,
    browser: &BrowserArgs,
) -> anyhow::Result<()> {
    let page = temporary(|out| Ok(write_view(live(title), made, out)?))?;
    show(page, browser)
}

fn live(title: &str) -> Page<'_> {
    Page {
        title,
        alive: Some(http::ALIVE),
    }
}

/// Returns the page of a file.
fn page_of(path: &Path) -> anyhow::Result<File> {
    let shown = quoted(&path.display().to_string());
    let title = path.file_stem().unwrap_or_default().to_string_lossy();
    let open = || open_regular(path).with_context(|| format!("cannot open {shown}"));
    let unknown = || {
        let why = format!(
            "cannot show {shown}: expected a .glb or .html that vggt wrote, or saved predictions (.safetensors)"
        );
        anyhow::Error::from(UsageError(why))
    };
    match extension(path).as_deref() {
        Some("glb") => {
            let mut glb = open()?;
            let mut magic = [0; GLB.len()];
            let is_glb = io::Read::read_exact(&mut glb, &mut magic).is_ok() && magic == *GLB;
            if !is_glb {
                return Err(unknown());
            }
            glb.rewind()?;
            temporary(|out| {
                Ok(html::write(live(&title), out, |contents| {
                    contents.glb(|out| io::copy(&mut glb, out)).map(drop)
                })?)
            })
        }
        Some("html" | "htm") => {
            let mut old = BufReader::new(open()?);
            let mut ours = true;
            let page = temporary(|out| {
                ours = html::rewrite(live(&title), &mut old, out)?;
                Ok(())
            })?;
            match ours {
                true => Ok(page),
                false => Err(unknown()),
            }
        }
        Some("safetensors") => {
            let (predictions, frames) = load_predictions(path)?;
            let scene = match frames.weights == demo::WEIGHTS_NAME {
                true => SceneOptions::of_demo(),
                false => SceneOptions::default(),
            };
            let options = ReconstructOptions {
                scene,
                ..ReconstructOptions::default()
            };
            let made = rebuild(Box::new(predictions), frames, &options, &mut Silent)?;
            temporary(|out| Ok(write_view(live(&title), &made, out)?))
        }
        _ => Err(unknown()),
    }
}

/// Returns a file without a name that `write` has written.
fn temporary(
    write: impl FnOnce(&mut BufWriter<&File>) -> anyhow::Result<()>,
) -> anyhow::Result<File> {
    let file = tempfile::tempfile().context("cannot create a temporary file")?;
    let mut out = BufWriter::new(&file);
    write(&mut out)?;
    out.flush().context("cannot write a temporary file")?;
    drop(out);
    Ok(file)
}

/// Serves `page` until its tab is closed.
fn show(page: File, browser: &BrowserArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let address = (Ipv4Addr::LOCALHOST, browser.view_port);
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on port {}", browser.view_port))?;
        // Other users of this machine reach the port too, but do not know this.
        let secret = secret()?;
        let address = format!("http://{}/{secret}/", listener.local_addr()?);
        let opened = !browser.no_browser && webbrowser::open(&address).is_ok();
        match opened {
            true => remark!("showing {address} until its tab is closed (or Ctrl-C)"),
            false => remark!("open {address} in a browser; ends with its tab (or Ctrl-C)"),
        }
        http::view(listener, &secret, page).await?;
        Ok(())
    })
}

/// Returns 128 random bits as hex digits.
fn secret() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("cannot get random numbers: {e}"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
