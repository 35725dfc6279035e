//! Which encodings of an answer a client takes, as the layer that compresses should see it.
//!
//! That layer answers 406 where a client refuses the answer as it is (`identity;q=0`), after the request was done: a job that was made
//! would be told of as an error. Here such a client gets gzip where it takes that and the answer is compressed at all, and the answer as it
//! is otherwise, as a server may (RFC 9110, section 12.5.3).

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, header::ACCEPT_ENCODING},
};

/// Takes refusals out of a request.
pub(super) async fn without_refusals(mut request: Request) -> Request {
    let headers = request.headers_mut();
    let asked: Vec<(String, bool)> = asked(headers).collect();
    if asked.iter().all(|(_, is_taken)| *is_taken) {
        return request;
    }
    headers.remove(ACCEPT_ENCODING);
    if asked
        .iter()
        .any(|(name, is_taken)| name == "gzip" && *is_taken)
    {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    request
}

/// Each encoding that is named, and whether it is taken.
fn asked(headers: &HeaderMap) -> impl Iterator<Item = (String, bool)> {
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|encoding| {
        let mut parts = encoding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = weight.and_then(|weight| weight.trim().parse::<f32>().ok());
        (name, weight != Some(0.0))
    })
}
