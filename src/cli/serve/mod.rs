//! `vggt serve`: the service.

mod decode;
mod ending;
mod fleet;
mod folder;
mod http;
mod jobs;
mod keep;
mod limits;
mod login;
mod queue;
mod quota;
mod signals;
pub(super) mod worker;

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context;
use tokio::{net::TcpListener, sync::watch};

use self::{
    decode::DecodeArgs, fleet::FleetArgs, http::HttpArgs, jobs::JobArgs, keep::KeepArgs,
    limits::LimitArgs, login::LoginArgs, queue::QueueArgs,
};
use super::{
    UsageError, log::LogFormat, model_args::ModelArgs, save_to_db::StoreArgs, terminal::say,
};
use crate::{
    jobs::{JobSettings, Jobs},
    metrics::Metrics,
    peers::{PeerSettings, Peers},
    pipeline::Warning,
    protocol::DEFAULT_PORT,
    server::{self, ServerSettings},
    store::{Bell, Store},
};

/// How long the line with the port may take before the service goes on without it.
const PORT_LINE: Duration = Duration::from_secs(1);

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt user add ann          asks for a password
  vggt serve --preload       loads the network before the first job
  vggt serve --host 127.0.0.1 --port 9000 --db /srv/vggt.db --out-root /srv/out

`vggt serve --help` lists all options. Each can also be set by a variable, VGGT_MAX_UPLOAD=100 for --max-upload 100, or in \
vggt.toml beside the database; options count before variables, and these before the file:
  [serve]
  port = 9000
  preload = true";

/// Users are added with `vggt user add`. Commands, replies and error codes are documented in src/protocol/README.md.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Serve a file to everyone who knows its hash, as the older service did
    #[arg(long, hide_short_help = true)]
    open_get: bool,
    /// How long a new connection inherits the last login from its address [default: off]
    ///
    /// For a phone client that opens a connection for every request. Everybody behind the same address is trusted.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..), hide_short_help = true)]
    session_by_address: Option<u32>,
    /// How long a running job may continue after SIGTERM or Ctrl-C; jobs of command 8 run again after the next start
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        hide_short_help = true
    )]
    grace: u64,
    /// How the lines of the log are written; VGGT_LOG=vggt=debug has more of them
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log: LogFormat,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    jobs: JobArgs,
    /// Jobs that this process runs at the same time; 0, with PostgreSQL, takes requests alone and leaves jobs to `vggt worker`
    #[arg(long, value_name = "N", default_value_t = 1, hide_short_help = true,
        help_heading = "Several processes, with PostgreSQL", value_parser = clap::value_parser!(u16).range(0..=64))]
    workers: u16,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    decode: DecodeArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    model: ModelArgs,
}

impl Args {
    pub(super) fn log_format(&self) -> LogFormat {
        self.log
    }

    /// The limits of all peers.
    fn peers(&self, store: &Store, metrics: Arc<Metrics>) -> Peers {
        let settings = PeerSettings {
            limits: self.limits.limits(),
            login: self.login.settings(),
            trusted_proxies: self.login.trusted_proxies(),
            metrics_from: self.http.metrics_from(),
            metrics,
            ledger: server::login_ledger(store),
        };
        let known = store.known_addresses().unwrap_or_else(|e| {
            tracing::warn!("cannot read from where users have logged in: {e}");
            Vec::new()
        });
        Peers::new(settings, &known)
    }

    /// What is served, from where, and to whom.
    fn what(
        &self,
        model: &str,
        http: Option<SocketAddr>,
        store: &Store,
        settings: &JobSettings,
    ) -> String {
        let quotas = &settings.quotas;
        let frames = settings
            .max_frames
            .map_or("all".to_owned(), |n| n.to_string());
        let http = http.map_or("off".to_owned(), |address| format!("on {address}"));
        format!(
            "address {}, HTTP {http}, model {model} on {}, database \"{}\", files in \"{}\", {frames} frames a job, {} jobs waiting, \
             {} MiB a user",
            self.host,
            self.model.device,
            store.database(),
            store.location().display(),
            settings.queue,
            quotas.user_bytes >> 20,
        )
    }
}

/// Serves until SIGTERM, Ctrl-C or the end of its terminal.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    args.model.set_threads()?;
    let resolver = super::resolver()?;
    if args.store.settings()?.db.file().is_some() && args.workers != 1 {
        return Err(UsageError(format!(
            "--workers {} needs a PostgreSQL database (--db postgres://...): one with a file runs one job at a time, in the process \
             that serves",
            args.workers
        ))
        .into());
    }
    let source = match args.workers {
        0 => args.model.source_elsewhere(),
        _ => args.model.source()?,
    };
    let (lose, lost) = watch::channel(false);
    let settings = args.store.settings()?;
    let bell = Arc::<Bell>::default();
    let _database = settings.join_database(bell.clone(), move || {
        lose.send_replace(true);
    })?;
    let store = args.store.open_or_create()?;
    let metrics = Arc::<Metrics>::default();
    let peers = Arc::new(args.peers(&store, metrics.clone()));
    let settings = ServerSettings {
        session_by_address: args
            .session_by_address
            .map(|minutes| Duration::from_secs(u64::from(minutes) * 60)),
        open_get: args.open_get,
        grace: limits::seconds(args.grace),
    };
    let grace = settings.grace;
    let job_settings = args.queue.settings(args.jobs.settings(&args.model));
    let mut job_settings = args.decode.settings(args.fleet.settings(job_settings))?;
    job_settings.fleet.workers = args.workers.into();
    job_settings.metrics = metrics;
    job_settings.fleet.bell = bell;
    let tls = args.http.tls()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    let done = runtime.block_on(async {
        // Installed first: a signal from now on shuts down cleanly.
        let mut stop = Box::pin(signals::stop_signal(tls.clone())?);
        let Some(_folder) = folder::wait_and_lock(&store, stop.as_mut()).await? else {
            return Ok(());
        };
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
        let http = args.http.listen(&resolver).await?;
        let http_address = http.as_ref().and_then(|http| http.local_addr().ok());
        let what = args.what(&source.name(), http_address, &store, &job_settings);
        let started = store.clone();
        let device = args.model.device;
        let jobs =
            tokio::task::spawn_blocking(move || Jobs::start(job_settings, started, source, device))
                .await??;
        let _upkeep = store.start_upkeep(args.keep.retention())?;
        tracing::info!("vggt {}: {what}", env!("CARGO_PKG_VERSION"));
        tracing::info!("listening on port {port}");
        let first = store.users()?.is_empty();
        if first && http_address.is_none() {
            tracing::warn!("nobody can log in yet: add users with `vggt user add NAME`");
        }
        if let Some(address) = http_address {
            http::tell_app(address, tls.is_some());
        }
        let http_settings = args
            .http
            .settings(grace, tls, http_address.filter(|_| first))?;
        if args.model.demo {
            tracing::warn!("{}", Warning::DemoWeights);
        }
        tell_port(port);
        let (tell, stopped) = watch::channel(false);
        let lost_too = lost.clone();
        let until_stopped = async move {
            ending::stopped_or_lost(stop, lost_too).await;
            tell.send_replace(true);
        };
        let (store_too, jobs_too, peers_too) = (store.clone(), jobs.clone(), peers.clone());
        let http = async move {
            if let Some(listener) = http {
                crate::http::serve(
                    listener,
                    http_settings,
                    peers_too,
                    store_too,
                    jobs_too,
                    stopped,
                )
                .await;
            }
        };
        tokio::join!(
            server::serve(
                listener,
                settings,
                peers,
                store.clone(),
                jobs,
                until_stopped
            ),
            http
        );
        anyhow::Ok(())
    });
    ending::clean_up(runtime, &store, &lost)?;
    done
}

/// Prints the line that scripts of the older service wait for, to read the port from it. Nobody has to read it: a pipe that
/// is full or closed keeps the service from nothing.
fn tell_port(port: u16) {
    let (printed, wait) = mpsc::channel();
    let print = move || {
        say!("Manager TCP Server running on port {port}");
        let _ = printed.send(());
    };
    if thread::Builder::new().spawn(print).is_ok() {
        let _ = wait.recv_timeout(PORT_LINE);
    }
}
