//! `vggt serve`: the service.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use super::{
    image_flags::{ImageFlags, parse_seconds},
    model_args::ModelArgs,
    save_to_db::StoreArgs,
};
use crate::cli::terminal::say;
use crate::{
    atomic_file,
    frames::VideoLimits,
    jobs::{JobSettings, Jobs},
    protocol::DEFAULT_PORT,
    server::{self, Limits, LoginSettings, ServerSettings},
};

/// Exit code after a second request to stop, by the convention of shells: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Users are added with `vggt user add`. Commands, replies and error codes are documented in src/protocol/README.md.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    #[command(flatten)]
    store: StoreArgs,
    /// Serve a file to everyone who knows its hash, as the older service did
    #[arg(long)]
    open_get: bool,
    /// How long a new connection inherits the last login from its address [default: off]
    ///
    /// For a phone client that opens a connection for every request. Everybody behind the same address is trusted.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..))]
    session_by_address: Option<u32>,
    /// How long a running job may continue after SIGTERM or Ctrl-C; jobs of command 8 run again after the next start
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    #[command(flatten)]
    jobs: JobArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// The queue and its jobs.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Jobs")]
struct JobArgs {
    /// Load the network before the first job arrives
    #[arg(long)]
    preload: bool,
    /// Reconstruct again even if the same user sent the same before
    #[arg(long)]
    no_cache: bool,
    /// Maximum number of waiting jobs
    #[arg(long, value_name = "N", default_value_t = 16)]
    queue: u16,
    /// Maximum number of waiting jobs of one user
    #[arg(long, value_name = "N", default_value_t = 4)]
    queue_per_user: u16,
    /// Take at most this many frames of a job, evenly [default: as many as fit into memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_frames: Option<u32>,
    /// Refuse videos longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = VideoLimits::default().max_duration_s,
        value_parser = parse_seconds, allow_negative_numbers = true)]
    max_video_seconds: f64,
    #[command(flatten)]
    images: ImageFlags,
    /// The sky network, an ONNX file, for jobs with the option mask_sky [default: such jobs are refused]
    #[arg(long, value_name = "FILE")]
    sky_network: Option<PathBuf>,
}

/// Limits per peer.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Maximum size of an upload in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=4095))]
    max_upload: u64,
    /// Maximum number of images in a request
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    max_images: u32,
    /// Maximum number of connections
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_connections: u16,
    /// Maximum number of connections from one address
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_connections_per_address: u16,
    /// How long to keep a connection without a request
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    idle_timeout: u64,
    /// How long to keep a connection that stalls during a request
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    stall_timeout: u64,
    /// Minimum average rate of an upload in KiB per second
    #[arg(long, value_name = "KIB", default_value_t = 8)]
    min_upload_rate: u64,
    /// Maximum size in MiB of a rejected upload that is skipped to keep the connection
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    max_skip: u64,
    /// Failed logins of an account that start a pause; an address has four times as many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    login_attempts: u32,
    /// Length of the pause, in which the account cannot log in
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    login_pause: u64,
    /// Delay in milliseconds after the third failed login in a row; it doubles with each further one, up to 8 s
    #[arg(long, value_name = "MS", default_value_t = 250)]
    login_delay: u64,
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits {
            upload_bytes: self.max_upload << 20,
            images: self.max_images,
            connections: self.max_connections.into(),
            connections_per_address: self.max_connections_per_address.into(),
            idle: Duration::from_secs(self.idle_timeout),
            stall: Duration::from_secs(self.stall_timeout),
            min_rate: self.min_upload_rate << 10,
            drain_bytes: self.max_skip << 20,
        }
    }

    fn login(&self) -> LoginSettings {
        LoginSettings {
            until_pause: self.login_attempts,
            pause: Duration::from_secs(self.login_pause),
            delay: Duration::from_millis(self.login_delay),
            ..LoginSettings::default()
        }
    }
}

/// Serves until SIGTERM or Ctrl-C.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    args.model.set_threads()?;
    let resolver = super::resolver()?;
    let source = args.model.source()?;
    let store = args.store.open_or_create()?;
    let _lock = lock(store.out_root())?;
    if store.users()?.is_empty() {
        tracing::warn!("nobody can log in yet: add users with `vggt user add NAME`");
    }
    let settings = ServerSettings {
        limits: args.limits.limits(),
        login: args.limits.login(),
        session_by_address: args
            .session_by_address
            .map(|minutes| Duration::from_secs(u64::from(minutes) * 60)),
        open_get: args.open_get,
        grace: Duration::from_secs(args.grace),
    };
    let job_settings = JobSettings {
        queue: args.jobs.queue.into(),
        queue_per_user: args.jobs.queue_per_user.into(),
        cache: !args.jobs.no_cache,
        preload: args.jobs.preload,
        dtype: args.model.dtype,
        precision: args.model.precision,
        max_frames: args.jobs.max_frames.map(|n| n as usize),
        image_limits: args.jobs.images.limits(),
        video_limits: VideoLimits {
            max_duration_s: args.jobs.max_video_seconds,
            ..VideoLimits::default()
        },
        sky_network: args.jobs.sky_network.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    let done = runtime.block_on(async {
        // Installed first: a signal from now on shuts down cleanly.
        let stop = stop_signal()?;
        let listener = async {
            let addresses = resolver.addresses(&args.host, args.port).await?;
            TcpListener::bind(&addresses[..]).await
        };
        let listener = listener.await.with_context(|| {
            format!(
                "cannot listen on {}:{}; --port takes another",
                args.host, args.port
            )
        })?;
        let port = listener.local_addr()?.port();
        let started = store.clone();
        let device = args.model.device;
        let jobs =
            tokio::task::spawn_blocking(move || Jobs::start(job_settings, started, source, device))
                .await??;
        // Scripts of the older service wait for this line and read the port from it.
        say!("Manager TCP Server running on port {port}");
        std::io::stdout().flush()?;
        server::serve(listener, settings, store, jobs, stop).await;
        anyhow::Ok(())
    });
    // A job that did not stop in time must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    atomic_file::remove_unfinished();
    done
}

/// Locks the folder for this process: two servers would remove each other's uploads.
fn lock(out_root: &Path) -> anyhow::Result<File> {
    let path = out_root.join(".lock");
    let failed = || format!("cannot use the folder \"{}\"", out_root.display());
    fs::create_dir_all(out_root).with_context(failed)?;
    let file = File::create(&path).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another vggt serve uses the folder \"{}\"; give this one its own --db and --out_root",
            out_root.display()
        ),
        Err(TryLockError::Error(e)) => Err(e).with_context(failed),
    }
}

/// Completes when the process is asked to stop.
#[cfg(unix)]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // A second signal does not wait for the grace period. Jobs with a row run again in any case.
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            atomic_file::remove_unfinished();
            std::process::exit(INTERRUPTED);
        });
    })
}

#[cfg(not(unix))]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        if let Err(e) = tokio::signal::ctrl_c().await {
            tracing::warn!("cannot install the Ctrl-C handler: {e}");
            std::future::pending::<()>().await;
        }
    })
}
