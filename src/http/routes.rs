//! The routes, and the OpenAPI document that is made of them.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Extensions, HeaderMap, StatusCode, Version, header},
    middleware::{from_fn_with_state, map_request},
    response::IntoResponse,
    routing::get,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{Predicate, SizeAbove},
    },
};
use utoipa::openapi::{
    ComponentsBuilder, Info, License, OpenApi, OpenApiBuilder,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App, artifacts,
    auth::COOKIE,
    encoding, events,
    finish::{finish, of_panic},
    health, jobs, links, metrics, pages, rerun, resumable, service, sessions, setup, shared,
    stills, tokens, upload,
};

/// The document as JSON.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let document = described().into_openapi();
    document.to_json().unwrap_or_default()
});

/// Returns the router of all requests.
pub(super) fn router(app: App) -> Router {
    let (router, _) = described().split_for_parts();
    let router = pages::ADDRESSES.iter().fold(router, |router, address| {
        router.route(address, get(pages::app))
    });
    router
        .route("/assets/{name}", get(pages::asset))
        .with_state(app.clone())
        // Each handler has a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(of_panic))
        .layer(from_fn_with_state(app, finish))
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(SMALL).and(is_worth_it)))
        .layer(map_request(encoding::without_refusals))
}

/// Bytes below which an answer fits into one packet as it is.
const SMALL: u64 = 1200;

/// Compresses lists, descriptions and the web app, which shrink to a third or a tenth. Not files, of which parts are asked for and which
/// are made of numbers and pictures, and not the answer to a login: its length would tell of its secret what the request shares with it.
fn is_worth_it(status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_text = [
        "application/json",
        "text/html",
        "text/javascript",
        "text/css",
    ]
    .iter()
    .any(|text| kind.starts_with(text));
    // A strong ETag stands for the bytes as they are sent.
    let tag = headers.get(header::ETAG);
    let has_strong_tag = tag.is_some_and(|tag| !tag.as_bytes().starts_with(b"W/"));
    status == StatusCode::OK
        && is_text
        && !has_strong_tag
        && !headers.contains_key(header::SET_COOKIE)
}

/// Every route with its description.
fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(empty())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi))
        .routes(routes!(service::service))
        .routes(routes!(service::storage))
        .routes(routes!(setup::form, setup::create))
        .routes(routes!(sessions::log_in))
        .routes(routes!(sessions::current, sessions::log_out))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(jobs::list, upload::submit))
        .routes(routes!(jobs::get, jobs::change, jobs::remove))
        .routes(routes!(events::follow))
        .routes(routes!(rerun::rerun))
        .routes(routes!(artifacts::get))
        .routes(routes!(stills::frame))
        .routes(routes!(stills::thumbnail))
        .routes(routes!(links::list, links::create))
        .routes(routes!(links::remove))
        .routes(routes!(shared::about))
        .routes(routes!(shared::file))
        .routes(routes!(shared::frame))
        .routes(routes!(shared::thumbnail))
        .merge(resumable::routes())
}

/// The routes of a process that takes no requests for jobs.
pub(super) fn metrics_router(app: App) -> Router {
    Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .with_state(app.clone())
        .layer(CatchPanicLayer::custom(of_panic))
        .layer(from_fn_with_state(app, finish))
}

fn empty() -> OpenApi {
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    let mut info = Info::new("vggt", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Photos or a video in, a 3D point cloud out. Every error is an object of RFC 9457 with a stable `code`.".to_owned(),
    );
    info.license = Some(license);
    let secret = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let cookie = ApiKey::Cookie(ApiKeyValue::new(COOKIE));
    let components = ComponentsBuilder::new()
        // The schema of a parameter is not collected by itself.
        .schema_from::<artifacts::Format>()
        .security_scheme("bearer", SecurityScheme::Http(secret.build()))
        .security_scheme("cookie", SecurityScheme::ApiKey(cookie));
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components.build()))
        .build()
}

/// Returns this document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about", responses(
    (status = 200, description = "The OpenAPI document of this server", body = Object, content_type = "application/json"),
))]
async fn openapi() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        DOCUMENT.as_str(),
    )
}
