//! What this service takes, and how much a user holds: what the web app tells before anything is uploaded.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, auth::Caller, blocking, problem::Problem};

/// What this service takes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Service {
    /// Version of this program.
    version: &'static str,
    /// Maximum bytes of all files of a job.
    max_upload: u64,
    /// Maximum number of images of a job.
    max_images: u64,
    /// Maximum number of frames of a job: of more, as many are taken evenly; null: all.
    max_frames: Option<usize>,
    /// Whether it can drop the sky (`mask_sky`).
    sky: bool,
    /// Whether it reads videos.
    video: bool,
    /// Whether it runs with the demo weights, which know synthetic scenes only.
    demo_weights: bool,
}

/// How much a user holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Storage {
    /// Bytes of the user's results and of what is kept beside them.
    used: u64,
    /// Bytes that the user may hold.
    limit: u64,
}

/// Returns what this service takes.
#[utoipa::path(get, path = "/api/v1/service", operation_id = "get_service", tag = "about", responses(
    (status = 200, description = "Limits, and what there is", body = Service),
))]
pub(super) async fn service(State(app): State<App>) -> Json<Service> {
    let (limits, settings) = (&app.peers.limits, app.jobs.settings());
    Json(Service {
        version: env!("CARGO_PKG_VERSION"),
        max_upload: limits.upload_bytes,
        max_images: limits.images.into(),
        max_frames: settings.max_frames,
        sky: settings.sky_network.is_some(),
        video: cfg!(feature = "video"),
        demo_weights: app.jobs.has_demo_weights(),
    })
}

/// Returns how much the user holds.
#[utoipa::path(get, path = "/api/v1/storage", operation_id = "get_storage", tag = "jobs",
    security(("bearer" = []), ("cookie" = [])), responses(
    (status = 200, description = "Bytes", body = Storage),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn storage(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Storage>, Problem> {
    let (store, user) = (app.store.clone(), caller.user.id);
    let usage = blocking(move || store.usage_of(user)).await??;
    let limit = app.jobs.settings().quotas.user_bytes;
    Ok(Json(Storage {
        used: usage.bytes,
        limit,
    }))
}
