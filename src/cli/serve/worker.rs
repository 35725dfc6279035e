//! `vggt worker`: runs the jobs of a PostgreSQL database, and takes no requests.

use std::sync::Arc;

use anyhow::Context;
use tokio::{net::TcpListener, sync::watch};

use super::{
    decode::DecodeArgs,
    ending,
    fleet::{FleetArgs, Label},
    folder,
    http::{MetricsAddress, listen_for_metrics},
    jobs::JobArgs,
    limits, signals,
};
use crate::{
    cli::{UsageError, log::LogFormat, model_args::ModelArgs, save_to_db::StoreArgs},
    jobs::Jobs,
    metrics::Metrics,
    peers::{PeerSettings, Peers, TrustedProxy},
    pipeline::Warning,
    store::Bell,
};

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt worker --db postgres://vggt@db/vggt --out-root /srv/out
  vggt worker --db postgres://vggt@db/vggt --out-root s3://scenes/vggt --device cuda:1 --only vip,small

Every process needs the same database, the same folder or bucket of files, and the same weights. `vggt status` shows what they do. \
Options can also be set by variables, VGGT_DB for --db, or in the table [worker] of vggt.toml.";

/// Takes jobs from the database that `vggt serve` queues there, runs them, and stores the results. Any number of them may run, on any
/// number of machines: a job whose worker is gone is given to another.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// Jobs at the same time: each has the network in memory once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    max_jobs: u16,
    /// Only these jobs: those of VIPs (vip), or by their input: at most 20 images (small), at most 100 (medium), more or a video (large)
    /// [default: all]
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    only: Vec<Label>,
    /// How long a running job may continue after SIGTERM or Ctrl-C; after that another worker goes on with it
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    /// Where to serve GET /metrics, /health and /ready, as in 0.0.0.0:9464 [default: off]
    #[arg(long, value_name = "ADDRESS", hide_short_help = true)]
    http: Option<MetricsAddress>,
    /// An address or network from which GET /metrics may be read, beside this machine; may be repeated
    #[arg(long, value_name = "ADDRESS[/LEN]", hide_short_help = true)]
    metrics_from: Vec<TrustedProxy>,
    /// How the lines of the log are written; VGGT_LOG=vggt=debug has more of them
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log: LogFormat,
    #[command(flatten)]
    jobs: JobArgs,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    decode: DecodeArgs,
    #[command(flatten)]
    model: ModelArgs,
}

impl Args {
    pub(in crate::cli) fn log_format(&self) -> LogFormat {
        self.log
    }
}

/// Runs jobs until SIGTERM, Ctrl-C or the end of its terminal.
pub(in crate::cli) fn run(args: Args) -> anyhow::Result<()> {
    args.model.set_threads()?;
    let settings = args.store.settings()?;
    if settings.db.file().is_some() {
        return Err(UsageError(
            "vggt worker needs a PostgreSQL database (--db postgres://...): with a file, vggt serve runs the jobs itself".to_owned(),
        )
        .into());
    }
    let source = args.model.source()?;
    let bell = Arc::<Bell>::default();
    let (lose, lost) = watch::channel(false);
    let _database = settings.join_database(bell.clone(), move || {
        lose.send_replace(true);
    })?;
    let store = args.store.open_or_create()?;
    let metrics = Arc::<Metrics>::default();
    let grace = limits::seconds(args.grace);
    let job_settings = args.fleet.settings(args.jobs.settings(&args.model));
    let mut job_settings = args.decode.settings(job_settings)?;
    job_settings.metrics = metrics.clone();
    let fleet = &mut job_settings.fleet;
    fleet.workers = args.max_jobs.into();
    fleet.front_end = false;
    fleet.bell = bell;
    fleet.only_vip = args.only.contains(&Label::Vip);
    let sizes = args.only.iter().filter_map(|label| match label {
        Label::Size(size) => Some(*size),
        Label::Vip => None,
    });
    fleet.sizes = sizes.collect();
    let name = fleet.name.clone();
    let peers = Arc::new(Peers::new(
        PeerSettings {
            metrics_from: args.metrics_from.clone(),
            metrics,
            ..PeerSettings::default()
        },
        &[],
    ));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the threads of the worker")?;
    let done = runtime.block_on(async {
        // Installed first: a signal from now on shuts down cleanly.
        let mut stop = Box::pin(signals::stop_signal(None)?);
        let Some(_folder) = folder::wait_and_lock(&store, stop.as_mut()).await? else {
            return Ok(());
        };
        let http: Option<TcpListener> = match &args.http {
            Some(address) => listen_for_metrics(address).await?,
            None => None,
        };
        let at = http.as_ref().and_then(|http| http.local_addr().ok());
        let (model, device) = (source.name(), args.model.device);
        let started = store.clone();
        let start = move || Jobs::start(job_settings, started, source, device);
        let jobs = tokio::task::spawn_blocking(start).await??;
        tracing::info!(
            "vggt {}: worker {name}, model {model} on {device}, database \"{}\", files in \"{}\", metrics {}",
            env!("CARGO_PKG_VERSION"),
            store.database(),
            store.location().display(),
            at.map_or("off".to_owned(), |at| format!("on {at}")),
        );
        if args.model.demo {
            tracing::warn!("{}", Warning::DemoWeights);
        }
        let (tell, stopped) = watch::channel(false);
        let serving = async {
            if let Some(listener) = http {
                crate::http::serve_metrics(listener, peers, store.clone(), jobs.clone(), stopped).await;
            }
        };
        let working = async {
            ending::stopped_or_lost(stop, lost.clone()).await;
            tracing::info!("stopping: a running job may continue for {} s", grace.as_secs());
            let jobs = jobs.clone();
            let _ = tokio::task::spawn_blocking(move || jobs.shutdown(grace)).await;
            tell.send_replace(true);
        };
        tokio::join!(working, serving);
        anyhow::Ok(())
    });
    ending::clean_up(runtime, &store, &lost)?;
    done
}
