//! Links under which people without a login see a result.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    artifacts::result_of,
    auth::Caller,
    blocking,
    input::{Input, Key, KeyAnd, end_after},
    problem::{Code, Problem},
};
use crate::store::{ShareLink, StoreError};

/// A link to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRequest {
    /// Days after which it ends; without, it ends when it is removed.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u32>,
}

/// A link, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct Link {
    /// The key by which it is removed.
    id: i64,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// When it ends; null: when it is removed.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A link that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct NewLink {
    /// The path on this server, `/s/` and a secret. It is shown this once.
    path: String,
    #[serde(flatten)]
    link: Link,
}

/// Links to a result.
#[derive(Serialize, ToSchema)]
pub(super) struct LinkList {
    /// Newest first.
    links: Vec<Link>,
}

impl From<ShareLink> for Link {
    fn from(link: ShareLink) -> Self {
        Self {
            id: link.id,
            created_at: link.created_at,
            expires_at: link.expires_at,
        }
    }
}

/// Lists the links to the result of a job.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/links", operation_id = "list_links", tag = "links",
    security(("bearer" = []), ("cookie" = [])), params(("id" = i64, Path, description = "The job's number")), responses(
    (status = 200, description = "The links", body = LinkList),
    (status = 404, description = "`not_found`: the user has no such job, or its result was deleted",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: the job is not done", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
) -> Result<Json<LinkList>, Problem> {
    let of = result_of(&app, caller.user.id, id).await?;
    let store = app.store.clone();
    let links = blocking(move || store.links_to(&of.glb)).await??;
    let links = links.into_iter().map(Link::from).collect();
    Ok(Json(LinkList { links }))
}

/// Makes a link under which everybody who knows it sees the points, cameras and frames of a result at the network's size, never the
/// originals, their metadata or their names.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/links", operation_id = "create_link", tag = "links", request_body = LinkRequest,
    security(("bearer" = []), ("cookie" = [])), params(("id" = i64, Path, description = "The job's number")), responses(
    (status = 201, description = "The link", body = NewLink,
        headers(("Location" = String, description = "Where the result is seen"))),
    (status = 404, description = "`not_found`: the user has no such job, or its result was deleted",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: the job is not done, or there are too many links; \
        `not_kept`: what the pictures would be made of is not kept", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
    Input(asked): Input<LinkRequest>,
) -> Result<impl IntoResponse, Problem> {
    let expires = end_after(asked.expires_in_days)?;
    let of = result_of(&app, caller.user.id, id).await?;
    let (store, jobs) = (app.store.clone(), app.jobs.clone());
    let made = blocking(move || {
        // Told to the owner, not to strangers later.
        jobs.frames_of(&of.glb)?;
        store
            .add_link(&of.glb, &of.options_json, expires)
            .map_err(|e| match e {
                StoreError::TooManyLinks(_) => Problem::new(Code::Conflict, e),
                e => e.into(),
            })
    });
    let made = made.await??;
    let path = format!("/s/{}", made.secret);
    let body = NewLink {
        path: path.clone(),
        link: made.link.into(),
    };
    Ok((StatusCode::CREATED, [(header::LOCATION, path)], Json(body)))
}

/// Removes a link.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}/links/{link}", operation_id = "remove_link", tag = "links",
    security(("bearer" = []), ("cookie" = [])),
    params(("id" = i64, Path, description = "The job's number"), ("link" = i64, Path, description = "The link's key")), responses(
    (status = 204, description = "Removed"),
    (status = 404, description = "`not_found`: the user has no such job, or it has no such link",
        body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: the job is not done", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    KeyAnd(id, link): KeyAnd,
) -> Result<StatusCode, Problem> {
    let none = || Problem::new(Code::NotFound, "the result has no such link");
    let link = link.parse().map_err(|_| none())?;
    let of = result_of(&app, caller.user.id, id).await?;
    let store = app.store.clone();
    match blocking(move || store.remove_link(&of.glb, link)).await?? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(none()),
    }
}
