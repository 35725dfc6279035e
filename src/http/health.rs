//! `/health` and `/ready`, for load balancers and service managers.

use std::time::{Duration, Instant};

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App, blocking,
    problem::{Code, Problem},
};

/// How long `/ready` says the same: strangers may ask as often as they like, and the answer takes the lock of the database.
const FRESH: Duration = Duration::from_secs(1);

/// That the process lives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    status: &'static str,
    /// Version of this program.
    version: &'static str,
}

/// That jobs can be taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// Always `ready`.
    status: &'static str,
}

/// What is missing: names, and what to tell.
pub(super) type Readiness = Vec<(&'static str, String)>;

/// Answers while the process lives.
#[utoipa::path(get, path = "/health", tag = "health", responses(
    (status = 200, description = "The process lives", body = Health),
))]
pub(super) async fn health() -> Json<Health> {
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Answers whether jobs can be taken: the weights are there, the database can be written, and the disk has space.
#[utoipa::path(get, path = "/ready", tag = "health", responses(
    (status = 200, description = "Jobs can be taken", body = Ready),
    (status = 503, description = "What is missing: weights, database, disk", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Ready>, Problem> {
    let missing = readiness(&app).await?;
    if missing.is_empty() {
        return Ok(Json(Ready { status: "ready" }));
    }
    let (names, why): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
    Err(Problem::new(Code::NotReady, why.join("; ")).missing(names))
}

async fn readiness(app: &App) -> Result<Readiness, Problem> {
    // Held while another request looks: they get the same answer.
    let mut last = app.ready.lock().await;
    if let Some((time, found)) = &*last
        && time.elapsed() < FRESH
    {
        return Ok(found.clone());
    }
    let (jobs, store) = (app.jobs.clone(), app.store.clone());
    let found = blocking(move || {
        let mut missing = Readiness::new();
        if !jobs.has_weights() {
            missing.push(("weights", "the file of the weights is not there".to_owned()));
        }
        if let Err(e) = store.check_writable() {
            tracing::warn!("not ready: the database cannot be written: {e}");
            missing.push(("database", "the database cannot be written".to_owned()));
        }
        if !jobs.has_disk_space() {
            missing.push(("disk", "the disk is full".to_owned()));
        }
        missing
    })
    .await?;
    *last = Some((Instant::now(), found.clone()));
    Ok(found)
}
