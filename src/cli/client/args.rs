//! The arguments of `vggt client`.

use std::{io::IsTerminal, path::PathBuf};

use serde::Serialize;

use super::find::HashPrefix;
use crate::{
    cli::{
        KEYFRAMES_OF_IMAGES, UsageError,
        attention_flags::AttentionFlags,
        output_error,
        scene_flags::{SceneFlags, is_false},
    },
    client::ClientSettings,
    glb::GlbEncoding,
    output::{OutputError, OutputRules, Place, Target, place},
    protocol::{DEFAULT_PORT, ReconstructionOptions},
};

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt client --user ann images photos/ --out room.glb
  vggt client --user ann submit --video clip.mp4           prints the number of the job
  vggt client --user ann wait 17 --out room.glb            fetches what a job made

Each option can also be set by a variable, VGGT_HOST, VGGT_PORT and VGGT_USER among them; the password by VGGT_PASSWORD.";

/// Talks to a server (`vggt serve`): sends images or a video and fetches the GLB.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    pub(super) action: Action,
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// Print the answer as JSON
    #[arg(long, global = true, help_heading = "Output")]
    pub(super) json: bool,
}

/// The server and the login.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerArgs {
    /// The server's name or address
    #[arg(long, global = true, default_value = "127.0.0.1")]
    pub(super) host: String,
    /// The server's port
    #[arg(long, global = true, default_value_t = DEFAULT_PORT)]
    pub(super) port: u16,
    /// Log in as this user first; the password is asked for, or taken from the environment's VGGT_PASSWORD
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long, global = true)]
    pub(super) password_stdin: bool,
    /// How long to wait for a reconstruction; a job goes on afterwards
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = ClientSettings::default().reconstruction.as_secs())]
    pub(super) timeout: u64,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
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
pub(super) struct OutArgs {
    /// Output file (.glb), folder, or - for standard output
    #[arg(long, short, value_name = "PATH", default_value = "scene.glb")]
    pub(super) out: PathBuf,
    /// Replace an existing file that vggt did not write; inputs are never replaced
    #[arg(long)]
    pub(super) overwrite: bool,
}

impl OutArgs {
    /// Returns where the GLB goes; in a folder it is called `name`.
    ///
    /// # Errors
    /// When it cannot be written there, or is one of `inputs`.
    pub(super) fn target(&self, name: &str, inputs: &[PathBuf]) -> anyhow::Result<Target> {
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
pub(super) struct OptionArgs {
    #[command(flatten)]
    #[serde(skip)]
    scene: SceneFlags,
    #[command(flatten)]
    #[serde(flatten)]
    attention: AttentionFlags,
    /// Drop points that are sky
    #[arg(long, help_heading = "Scene")]
    #[serde(skip_serializing_if = "is_false")]
    mask_sky: bool,
    /// Refine the cameras with corners that several photos show (bundle adjustment); the network's are kept where that is not better
    #[arg(long, help_heading = "Scene")]
    #[serde(skip_serializing_if = "is_false")]
    refine: bool,
    /// Frames to take from each second of a video
    #[arg(long, help_heading = "Scene")]
    #[serde(skip_serializing_if = "Option::is_none")]
    fps: Option<f64>,
    /// Take this many of the sharpest and most different frames of a video instead
    #[arg(long, help_heading = "Scene", value_name = "N", conflicts_with = "fps",
        value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    keyframes: Option<u32>,
    /// Name of the result in your list
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// GLB positions as F32 (plain) or as 16-bit integers (quantized)
    #[arg(long, help_heading = "Scene", value_name = "KIND", value_enum)]
    #[serde(rename = "format", skip_serializing_if = "Option::is_none")]
    glb: Option<GlbEncoding>,
}

impl OptionArgs {
    /// Refuses what only makes sense for a video.
    pub(super) fn check_images(&self) -> Result<(), UsageError> {
        if self.keyframes.is_some() {
            return Err(UsageError(KEYFRAMES_OF_IMAGES.to_owned()));
        }
        if self.fps.is_some() {
            let why = "cannot use --fps with images: it chooses frames of a video";
            return Err(UsageError(why.to_owned()));
        }
        Ok(())
    }

    /// Returns the options that were given, as a request has them.
    pub(super) fn request(&self) -> anyhow::Result<ReconstructionOptions> {
        let mut options = ReconstructionOptions::new(self)?;
        options.fields.extend(self.scene.given()?);
        Ok(options)
    }
}
