//! Bytes to send: the server's replies, and the heads of a client's uploads.

use serde::Serialize;

use super::{Command, ERROR_MAX, ErrorCode, HASH_LEN, Hash, Refusal, Request, RequestHead};

/// Bytes of `<hash>.glb`.
const NAME_LEN: usize = HASH_LEN + ".glb".len();

/// The reply to 1: `u32 len`, JSON `[ok, is_vip]`.
pub fn login_reply(ok: bool, is_vip: bool) -> Vec<u8> {
    // Spaced as the older service spells it; clients that compare text are served too.
    with_len(format!("[{ok}, {}]", ok && is_vip).as_bytes())
}

/// What precedes the GLB in the reply to 2 and 3: `u32 name_len`, `<hash>.glb`, `u32 glb_len`.
pub fn named_glb_head(hash: &Hash, glb_len: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + NAME_LEN + 4);
    bytes.extend_from_slice(&(NAME_LEN as u32).to_be_bytes());
    bytes.extend_from_slice(hash.as_str().as_bytes());
    bytes.extend_from_slice(b".glb");
    bytes.extend_from_slice(&glb_len.to_be_bytes());
    bytes
}

/// What precedes the GLB in the reply to 4: its length.
pub fn blob_head(len: u32) -> [u8; 4] {
    len.to_be_bytes()
}

/// The reply to `command` that says it failed, in the form of that command. `reason` may be empty; it is cut where the
/// whole would not pass for an error any more. Login and unknown commands have one form whatever the reason.
pub fn error_reply(command: Command, code: ErrorCode, reason: &str) -> Vec<u8> {
    match command {
        Command::Login => login_reply(false, false),
        Command::Images | Command::Video => {
            let mut bytes = vec![0; 4];
            bytes.extend(error_blob(code, reason));
            bytes
        }
        Command::GetGlb => error_blob(code, reason),
        Command::Unknown(_) => error_blob(ErrorCode::UnknownCommand, ""),
        _ => json_reply(&Refusal {
            error: code.as_str().to_owned(),
            reason: reason.to_owned(),
        }),
    }
}

/// A reply of version 2: `u32 len`, JSON.
pub fn json_reply(value: &impl Serialize) -> Vec<u8> {
    match serde_json::to_vec(value) {
        Ok(body) => with_len(&body),
        // No type of this module fails to serialize; a caller's own might, and its peer still waits for a reply.
        Err(_) => with_len(
            br#"{"error":"ERROR_INTERNAL","reason":"the reply cannot be written as JSON"}"#,
        ),
    }
}

/// A whole request that is not an upload.
pub fn request(request: &Request) -> Vec<u8> {
    let payload = request.payload();
    let head = RequestHead {
        command: request.command(),
        // Longer payloads are refused by every server; the cast keeps the bytes in step for all that memory holds.
        payload_len: payload.len() as u32,
    };
    let mut bytes = head.to_bytes().to_vec();
    bytes.extend(payload);
    bytes
}

fn error_blob(code: ErrorCode, reason: &str) -> Vec<u8> {
    let mut text = code.as_str().to_owned();
    if !reason.is_empty() {
        text.push_str(": ");
        text.push_str(reason);
    }
    let mut end = text.len().min(ERROR_MAX as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    with_len(text.as_bytes())
}

fn with_len(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}
