//! Uploads: announced, asked for, removed.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    CHECKSUMS, EXTENSIONS, UploadKey, VERSION, arriving::Arriving, headers, no_such_upload, refused,
};
use crate::{
    http::{
        App,
        auth::Caller,
        blocking,
        files::base_name,
        input::Key,
        problem::{Code, Problem},
    },
    store::{DraftLimits, NewDraftFile},
};

/// Tells what of tus there is. Needs no login.
#[utoipa::path(options, path = "/api/v1/jobs/{id}/uploads", operation_id = "upload_options", tag = "uploads",
    params(("id" = i64, Path, description = "The job's number")), responses(
    (status = 204, description = "What there is", headers(
        ("Tus-Version" = String, description = "`1.0.0`"),
        ("Tus-Extension" = String, description = "`creation,expiration,checksum,termination`"),
        ("Tus-Max-Size" = u64, description = "Most bytes of all files of a job"),
        ("Tus-Checksum-Algorithm" = String, description = "`sha1,sha256`"),
    )),
))]
pub(in crate::http) async fn options(State(app): State<App>) -> impl IntoResponse {
    let max = app.peers.limits.upload_bytes.to_string();
    let told = [
        ("tus-version", VERSION.to_owned()),
        ("tus-extension", EXTENSIONS.to_owned()),
        ("tus-max-size", max),
        ("tus-checksum-algorithm", CHECKSUMS.to_owned()),
    ];
    (StatusCode::NO_CONTENT, told)
}

/// Announces a file of a job that was made without its files. Its length counts for the user from now on.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/uploads", operation_id = "create_upload", tag = "uploads",
    security(("bearer" = []), ("cookie" = [])),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("Upload-Length" = u64, Header, description = "Bytes of the file"),
        ("Upload-Metadata" = Option<String>, Header, description = "`filename` and its value in base64; other keys are kept for HEAD"),
    ),
    responses(
    (status = 201, description = "The upload is there and has no byte yet", headers(
        ("Location" = String, description = "Where its parts go"),
        ("Upload-Expires" = String, description = "When the job is removed unless bytes arrive"),
    )),
    (status = 400, description = "`bad_request`: a header that is missing or wrong, a file of 0 bytes, or too many images",
        body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`not_found`: the user has no such job that takes files",
        body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "`tus_version`", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`too_large`: the files of the job are too long",
        body = Problem, content_type = "application/problem+json"),
    (status = 507, description = "`quota_exceeded` by the user, or `disk_full`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn create(
    State(app): State<App>,
    caller: Caller,
    Key(id): Key,
    given: HeaderMap,
) -> Result<Response, Problem> {
    headers::check_version(&given)?;
    let limits = DraftLimits {
        files: app.peers.limits.images,
        bytes: app.peers.limits.upload_bytes,
    };
    let new = announced(&given, limits)?;
    let jobs = app.jobs.clone();
    let added = blocking(move || jobs.add_draft_file(caller.user.id, id, &new, limits)).await?;
    let (file, expires_at) = added.map_err(refused)?;
    let place = [(header::LOCATION, UploadKey::path(id, file.number))];
    let mut response = (StatusCode::CREATED, place).into_response();
    response
        .headers_mut()
        .extend(headers::expires(Some(expires_at)));
    Ok(response)
}

fn announced(given: &HeaderMap, limits: DraftLimits) -> Result<NewDraftFile, Problem> {
    let bad = |detail: &str| Problem::new(Code::BadRequest, detail);
    let length = headers::length(given)?;
    let metadata = headers::metadata(given)?;
    let has_body = given.contains_key(header::TRANSFER_ENCODING)
        || given
            .get(header::CONTENT_LENGTH)
            .is_some_and(|len| len != "0");
    if has_body {
        return Err(bad(
            "a file is announced without a body; send it with PATCH",
        ));
    }
    if length > limits.bytes {
        let detail = format!("at most {} bytes are taken", limits.bytes);
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let name = metadata.name.as_deref().and_then(base_name);
    if length == 0 {
        let name = name.unwrap_or_default();
        return Err(bad(&format!("cannot read {name:?}: it has 0 bytes")));
    }
    Ok(NewDraftFile {
        name,
        metadata: metadata.text,
        length,
    })
}

/// Tells how much of a file is on the disk.
#[utoipa::path(head, path = "/api/v1/jobs/{id}/uploads/{number}", operation_id = "get_upload", tag = "uploads",
    security(("bearer" = []), ("cookie" = [])),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("number" = i32, Path, description = "The upload's number"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
    ),
    responses(
    (status = 200, description = "The upload", headers(
        ("Upload-Offset" = u64, description = "Bytes that are on the disk: where the next part begins"),
        ("Upload-Length" = u64, description = "Bytes of the file"),
        ("Upload-Metadata" = String, description = "As it was sent"),
        ("Upload-Expires" = String, description = "When the job is removed unless bytes arrive"),
    )),
    (status = 404, description = "The user has no such upload: it was removed, its job was started, or its time is over"),
    (status = 412, description = "Another version of tus"),
    (status = "default", description = "An error"),
))]
pub(in crate::http) async fn head(
    State(app): State<App>,
    caller: Caller,
    key: UploadKey,
    given: HeaderMap,
) -> Result<Response, Problem> {
    headers::check_version(&given)?;
    Arriving::end_silent(&app, caller.user.id, key).await;
    let jobs = app.jobs.clone();
    let draft = blocking(move || jobs.draft(caller.user.id, key.job)).await??;
    let draft = draft.ok_or_else(no_such_upload)?;
    let file = draft.files.iter().find(|file| file.number == key.number);
    let file = file.ok_or_else(no_such_upload)?;
    let told = [
        ("upload-offset", file.received),
        ("upload-length", file.length),
    ];
    let mut response = (
        StatusCode::OK,
        told.map(|(name, number)| (name, number.to_string())),
    )
        .into_response();
    let all = response.headers_mut();
    all.extend(headers::expires(draft.expires_at));
    if let Ok(metadata) = HeaderValue::from_str(&file.metadata)
        && !metadata.is_empty()
    {
        all.insert("upload-metadata", metadata);
    }
    Ok(response)
}

/// Removes a file of a job that takes files.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}/uploads/{number}", operation_id = "remove_upload", tag = "uploads",
    security(("bearer" = []), ("cookie" = [])),
    params(
        ("id" = i64, Path, description = "The job's number"),
        ("number" = i32, Path, description = "The upload's number"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
    ),
    responses(
    (status = 204, description = "It was removed"),
    (status = 404, description = "`not_found`: the user has no such upload", body = Problem, content_type = "application/problem+json"),
    (status = 412, description = "`tus_version`", body = Problem, content_type = "application/problem+json"),
    (status = 423, description = "`locked`: a part of it arrives", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::http) async fn remove(
    State(app): State<App>,
    caller: Caller,
    key: UploadKey,
    given: HeaderMap,
) -> Result<StatusCode, Problem> {
    headers::check_version(&given)?;
    let jobs = app.jobs.clone();
    let removed =
        blocking(move || jobs.remove_draft_file(caller.user.id, key.job, key.number)).await?;
    removed.map_err(of_upload)?;
    Ok(StatusCode::NO_CONTENT)
}

/// As [`refused`], for a request whose path names an upload.
pub(super) fn of_upload(e: crate::jobs::DraftError) -> Problem {
    match e {
        crate::jobs::DraftError::NoDraft => no_such_upload(),
        e => refused(e),
    }
}
