//! The first user, made in a browser on the same machine: `vggt serve` prints a link to this form while nobody can log in.
//!
//! The link works once, from this machine, and for the process that printed it.

use axum::{
    Extension,
    extract::{FromRequest, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    App, blocking,
    connection::Peer,
    input::Form,
    problem::{Code, Problem},
};
use crate::store::StoreError;

/// The page may send its form, and nothing else.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What belongs to the link.
#[derive(Debug)]
pub struct Setup {
    digest: [u8; 32],
}

impl Setup {
    /// The end of the link is `secret`, which cannot be guessed.
    pub fn new(secret: &str) -> Self {
        Self {
            digest: Sha256::digest(secret).into(),
        }
    }

    fn is(&self, secret: &str) -> bool {
        // The time that this takes tells nothing of the secret.
        self.digest == <[u8; 32]>::from(Sha256::digest(secret))
    }
}

/// The first user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FirstUser {
    /// Name of the user, 1 to 64 characters.
    username: String,
    /// Password of the user.
    #[schema(format = Password)]
    password: String,
}

/// Shows the form for the first user.
#[utoipa::path(get, path = "/setup/{secret}", operation_id = "get_setup", tag = "setup",
    params(("secret" = String, Path, description = "The end of the link that `vggt serve` printed")), responses(
    (status = 200, description = "The form", body = String, content_type = "text/html"),
    (status = 404, description = "`not_found`: there is no such link, there is a user by now, or the request comes from another machine",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn form(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    secret: Path<String>,
) -> Result<Response, Problem> {
    check(&app, &peer, &headers, &secret)?;
    let store = app.store.clone();
    if !blocking(move || store.users()).await??.is_empty() {
        return Err(none());
    }
    Ok(page(StatusCode::OK, FORM))
}

/// Makes the first user, who can log in then.
#[utoipa::path(post, path = "/setup/{secret}", operation_id = "set_up", tag = "setup",
    params(("secret" = String, Path, description = "The end of the link that `vggt serve` printed")),
    request_body(content = FirstUser, content_type = "application/x-www-form-urlencoded"), responses(
    (status = 201, description = "The user was made", body = String, content_type = "text/html"),
    (status = 400, description = "The name or the password cannot be used: the form again", body = String, content_type = "text/html"),
    (status = 404, description = "`not_found`: there is no such link, there is a user by now, or the request comes from another machine",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    secret: Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    check(&app, &peer, request.headers(), &secret)?;
    let Form(first) = Form::<FirstUser>::from_request(request, &app).await?;
    let store = app.store.clone();
    let added = blocking(move || store.add_first_user(&first.username, &first.password)).await?;
    match added {
        Ok(user) => {
            tracing::info!(user = user.username, "the first user was made over HTTP");
            Ok(page(StatusCode::CREATED, MADE))
        }
        Err(StoreError::HasUsers) => Err(none()),
        Err(StoreError::BadName { .. } | StoreError::EmptyPassword) => {
            Ok(page(StatusCode::BAD_REQUEST, AGAIN))
        }
        Err(e) => Err(e.into()),
    }
}

fn check(app: &App, peer: &Peer, headers: &HeaderMap, secret: &str) -> Result<(), Problem> {
    let is_local = peer.address.is_loopback() && peer.client(headers, &app.peers).is_loopback();
    let is_link = app.setup.as_ref().is_some_and(|setup| setup.is(secret));
    match is_local && is_link {
        true => Ok(()),
        false => Err(none()),
    }
}

fn none() -> Problem {
    Problem::new(
        Code::NotFound,
        "there is no such link, or there is a user by now; `vggt user add NAME` adds users",
    )
}

fn page(status: StatusCode, body: &str) -> Response {
    let text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>vggt: the first user</title>\n\
         <h1>The first user</h1>\n{body}</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (status, headers, text).into_response()
}

const FORM: &str = "\
<p>Nobody can log in to this service yet. Choose a name and a password for its first user.
<form method=\"post\">
<p><label>Name<br><input name=\"username\" maxlength=\"64\" required autofocus autocomplete=\"username\"></label>
<p><label>Password<br><input name=\"password\" type=\"password\" required autocomplete=\"new-password\"></label>
<p><button>Make the user</button>
</form>
";

const AGAIN: &str = "\
<p role=\"alert\">The name needs 1 to 64 characters, none of them a control character, and the password at least one.
<form method=\"post\">
<p><label>Name<br><input name=\"username\" maxlength=\"64\" required autofocus autocomplete=\"username\"></label>
<p><label>Password<br><input name=\"password\" type=\"password\" required autocomplete=\"new-password\"></label>
<p><button>Make the user</button>
</form>
";

const MADE: &str = "\
<p>The user can <a href=\"/login\">log in</a> now. <code>vggt user add NAME</code> adds more.
";
