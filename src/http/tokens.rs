//! Named tokens, for programs.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    auth::Caller,
    blocking,
    input::{Input, Key, end_after},
    problem::{Code, Problem},
};
use crate::store::{AccessToken, StoreError};

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRequest {
    /// What it is for, 1 to 64 characters.
    name: String,
    /// Days after which it ends; without, it ends when it is revoked.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u32>,
}

/// A named token, without its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    /// The key by which it is revoked.
    id: i64,
    /// What it is for.
    name: String,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// When it was last used, to the minute; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// When it ends; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A named token that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct NewToken {
    /// What to send as `Authorization: Bearer`. It is shown this once.
    token: String,
    #[serde(flatten)]
    about: Token,
}

/// Named tokens.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenList {
    /// Newest first.
    tokens: Vec<Token>,
}

impl From<AccessToken> for Token {
    fn from(token: AccessToken) -> Self {
        Self {
            id: token.id,
            name: token.name.unwrap_or_default(),
            created_at: token.created_at,
            last_used_at: token.last_used_at,
            expires_at: token.expires_at,
        }
    }
}

/// Lists the user's named tokens.
#[utoipa::path(get, path = "/api/v1/tokens", operation_id = "list_tokens", tag = "tokens",
    security(("bearer" = []), ("cookie" = [])), responses(
    (status = 200, description = "The tokens", body = TokenList),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<TokenList>, Problem> {
    let store = app.store.clone();
    let tokens = blocking(move || store.tokens_of(caller.user.id)).await??;
    let tokens = tokens.into_iter().map(Token::from).collect();
    Ok(Json(TokenList { tokens }))
}

/// Makes a named token. Needs a session: a token cannot make others.
#[utoipa::path(post, path = "/api/v1/tokens", operation_id = "create_token", tag = "tokens", request_body = TokenRequest,
    security(("bearer" = []), ("cookie" = [])), responses(
    (status = 201, description = "The token", body = NewToken),
    (status = 403, description = "`session_required`", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "`conflict`: the user has too many", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Input(asked): Input<TokenRequest>,
) -> Result<impl IntoResponse, Problem> {
    caller.needs_session()?;
    let expires = end_after(asked.expires_in_days)?;
    let store = app.store.clone();
    let made = blocking(move || store.add_token(&caller.user, &asked.name, expires)).await?;
    let made = made.map_err(|e| match e {
        StoreError::BadTokenName { .. } => Problem::new(Code::BadRequest, e),
        StoreError::TooManyTokens(_) => Problem::new(Code::Conflict, e),
        e => e.into(),
    })?;
    let new = NewToken {
        token: made.secret,
        about: made.token.into(),
    };
    Ok((StatusCode::CREATED, Json(new)))
}

/// Revokes a named token.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", operation_id = "revoke_token", tag = "tokens",
    security(("bearer" = []), ("cookie" = [])),
    params(("id" = i64, Path, description = "The token's key")), responses(
    (status = 204, description = "Revoked"),
    (status = 404, description = "`not_found`: the user has no such token", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
) -> Result<StatusCode, Problem> {
    let store = app.store.clone();
    let user = caller.user.id;
    match blocking(move || store.revoke_token(user, id)).await?? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::new(Code::NotFound, "you have no such token")),
    }
}
