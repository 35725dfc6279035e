//! Logging in and out.

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    auth::{COOKIE, Caller, check_origin},
    blocking,
    connection::Peer,
    finish::UserName,
    input::Input,
    problem::{Code, Problem},
};
use crate::{peers::Block, store::User};

/// A user's name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// Name of the user.
    username: String,
    /// Password of the user.
    #[schema(format = Password)]
    password: String,
}

/// A session that has just begun.
#[derive(Serialize, ToSchema)]
pub(super) struct NewSession {
    /// What to send as `Authorization: Bearer`; browsers send the cookie instead.
    token: String,
    #[serde(flatten)]
    session: Session,
}

/// Who is logged in.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// Name of the user.
    username: String,
    /// True for a VIP, whose jobs run first.
    is_vip: bool,
    /// When the session or the token ends; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// Logs in: returns a token, and sets it as a cookie for browsers.
#[utoipa::path(post, path = "/api/v1/sessions", operation_id = "log_in", tag = "sessions", request_body = Login, responses(
    (status = 201, description = "Logged in", body = NewSession,
        headers(("Set-Cookie" = String, description = "The token, as `vggt_session`"))),
    (status = 401, description = "`wrong_login`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_logins`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn log_in(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Extension(name): Extension<UserName>,
    headers: HeaderMap,
    Input(login): Input<Login>,
) -> Result<impl IntoResponse, Problem> {
    // Else a page of another origin could log a browser in as somebody else.
    check_origin(&app, &peer, &headers, false)?;
    let block = peer.block(&headers, &app.peers);
    let user = checked(&app, login, block).await?;
    let user = user.ok_or_else(|| Problem::new(Code::WrongLogin, "wrong name or password"))?;
    name.set(&user.username);
    peer.place.set_logged_in(true);
    let store = app.store.clone();
    let started = blocking(move || store.start_session(&user).map(|new| (new, user)));
    let (new, user) = started.await??;
    let end = new.token.expires_at;
    let max_age = end.map_or(0, |end| end.duration_since(Timestamp::now()).as_secs());
    let cookie = cookie(&new.secret, max_age, peer.is_https(&headers));
    let body = NewSession {
        token: new.secret,
        session: Session {
            username: user.username,
            is_vip: user.is_vip,
            expires_at: end,
        },
    };
    Ok((
        StatusCode::CREATED,
        AppendHeaders([(header::SET_COOKIE, cookie)]),
        Json(body),
    ))
}

/// Checks a name and a password when it is their turn; `None` when they are wrong.
async fn checked(app: &App, login: Login, block: Block) -> Result<Option<User>, Problem> {
    let store = app.store.clone();
    let (login, known) = blocking(move || {
        let known = store.knows_address(&login.username, &block.to_string());
        (login, known)
    })
    .await?;
    let guard = &app.peers.guard;
    // Dropped when the client leaves, as this whole function is.
    let Some(turn) = guard.admit(&login.username, block, known?).await else {
        let detail = "too many wrong passwords; try again later";
        return Err(Problem::new(Code::TooManyLogins, detail));
    };
    let store = app.store.clone();
    let checked = blocking(move || store.login(&login.username, &login.password)).await?;
    // A failure of the database is not one of the user.
    turn.end(!matches!(checked, Ok(None))).await;
    let user = checked?;
    if let Some(user) = &user {
        let (store, user_id) = (app.store.clone(), user.id);
        tokio::task::spawn_blocking(move || {
            // The login is as good without it.
            if let Err(e) = store.remember_address(user_id, &block.to_string()) {
                tracing::warn!("cannot remember from where user {user_id} logged in: {e}");
            }
        });
    }
    Ok(user)
}

fn cookie(secret: &str, max_age: i64, is_https: bool) -> String {
    let secure = if is_https { "; Secure" } else { "" };
    format!("{COOKIE}={secret}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
}

/// Returns who is logged in.
#[utoipa::path(get, path = "/api/v1/sessions/current", operation_id = "current_session", tag = "sessions",
    security(("bearer" = []), ("cookie" = [])), responses(
    (status = 200, description = "Who is logged in", body = Session),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn current(caller: Caller) -> Json<Session> {
    Json(Session {
        username: caller.user.username.clone(),
        is_vip: caller.user.is_vip,
        expires_at: caller.token.expires_at,
    })
}

/// Logs out: ends the session that the request belongs to.
#[utoipa::path(delete, path = "/api/v1/sessions/current", operation_id = "log_out", tag = "sessions",
    security(("bearer" = []), ("cookie" = [])), responses(
    (status = 204, description = "Logged out"),
    (status = 403, description = "`session_required`: a named token is revoked under `/api/v1/tokens`",
        body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn log_out(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    caller: Caller,
) -> Result<impl IntoResponse, Problem> {
    caller.needs_session()?;
    let store = app.store.clone();
    let (user, token) = (caller.user.id, caller.token.id);
    blocking(move || store.end_session(user, token)).await??;
    let cookie = cookie("", 0, peer.is_https(&headers));
    Ok((
        StatusCode::NO_CONTENT,
        AppendHeaders([(header::SET_COOKIE, cookie)]),
    ))
}
