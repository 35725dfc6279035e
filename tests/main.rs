//! Tests of what users see: files, formats, the protocol, the command line; and of the layers of the crates.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "tests have no interface, and a failure ends them"
)]

mod attention;
mod bucket;
mod bucket_faults;
mod bucket_store;
mod cameras;
mod client;
mod client_jobs;
mod colmap;
mod configuration;
#[cfg(all(feature = "cuda", target_arch = "x86_64", target_os = "linux"))]
mod cuda;
mod dataset;
mod decoder;
mod doctor;
mod end_to_end;
mod export;
mod filters;
mod fixtures;
mod fleet;
mod frames;
mod glb;
mod http_artifacts;
mod http_basics;
mod http_errors;
mod http_events;
mod http_jobs;
mod http_links;
mod http_metrics;
mod http_origins;
mod http_pages;
mod http_random;
mod http_refine;
mod http_rerun;
mod http_resumable;
mod http_resumable_refusals;
mod http_scale;
mod http_sessions;
mod http_setup;
mod http_slow;
mod http_tls;
mod http_uploads;
mod hub;
mod job_command;
mod job_control;
mod job_faults;
mod jobs;
mod kept_results;
#[cfg(feature = "video")]
mod keyframes;
mod known_cameras;
mod layering;
mod leaving;
mod log;
mod logins;
mod masks;
mod monitor;
mod options;
mod outputs;
mod outputs_hostile;
mod padding;
mod page;
mod photos;
mod placed;
mod places;
mod ply;
mod portable;
mod postgres;
mod protocol;
mod proxies;
mod queue;
mod quota;
mod refine;
mod remote_export;
#[cfg(feature = "builtin-resolver")]
mod resolver;
mod saved_predictions;
mod scene;
mod session;
mod sessions_end;
mod several_scenes;
mod shared_logins;
mod signals;
mod sky;
mod spool;
mod spool_cache;
mod store;
mod store_folder;
mod store_keys;
mod store_leftovers;
mod store_upkeep;
mod stored;
mod streamed;
mod support;
mod terminal;
mod trajectory;
mod user;
mod view;
mod weights;
mod weights_hostile;
mod written_bytes;
