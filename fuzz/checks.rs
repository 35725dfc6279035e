//! What must hold for any bytes: called by the fuzz targets, and by a bounded run in the ordinary tests.

use vggt::protocol::{
    GlbEvent, GlbReplyDecoder, HEAD_LEN, ImageLimits, ImagesDecoder, JobStatusReply,
    JsonReplyDecoder, ProtocolError, Request, RequestHead, UploadEvent,
};

/// Few, so that random counts fall on both sides.
const MAX_IMAGES: u32 = 8;

/// An event with its bytes joined to those before it, so that runs with different pieces can be compared.
#[derive(Debug, PartialEq)]
enum Seen {
    Count(u32),
    Begin(u32, u32),
    Bytes(Vec<u8>),
    EndImage,
    End,
    Name(String),
    Refused(String),
    Failed(String),
}

fn push(seen: &mut Vec<Seen>, event: Seen) {
    match (seen.last_mut(), event) {
        (Some(Seen::Bytes(all)), Seen::Bytes(more)) => all.extend(more),
        (_, event) => seen.push(event),
    }
}

/// The pieces `data` falls into: one, or pieces of 1 to 8 bytes whose sizes `pattern` gives.
fn pieces(data: &[u8], pattern: Option<u64>) -> Vec<&[u8]> {
    let Some(mut pattern) = pattern.filter(|_| !data.is_empty()) else {
        return vec![data];
    };
    let mut rest = data;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + (pattern % 8) as usize));
        all.push(piece);
        rest = after;
        pattern = pattern.rotate_right(3);
    }
    all
}

/// Any bytes as the payload of images and as every kind of reply: the size of the pieces makes no difference, and no
/// decoder takes or gives more than it was told of.
pub(crate) fn codec(data: &[u8]) {
    let Some((head, data)) = data.split_first_chunk::<9>() else {
        return;
    };
    let [kind, pattern @ ..] = *head;
    let pattern = Some(u64::from_le_bytes(pattern));
    // Mostly the true length, so that whole payloads are met; else one that is too short or too long.
    let payload_len = match kind % 4 {
        0 => u32::from(kind) * 3,
        1 => u32::MAX - u32::from(kind),
        _ => data.len() as u32,
    };
    assert_eq!(
        images(data, payload_len, None),
        images(data, payload_len, pattern)
    );
    for decoder in [GlbReplyDecoder::named, GlbReplyDecoder::unnamed] {
        assert_eq!(glb(data, decoder(), None), glb(data, decoder(), pattern));
    }
    assert_eq!(json(data, None), json(data, pattern));
}

fn images(data: &[u8], payload_len: u32, pattern: Option<u64>) -> Vec<Seen> {
    let limits = ImageLimits {
        max_images: MAX_IMAGES,
    };
    let mut decoder = ImagesDecoder::new(payload_len, limits);
    let (mut seen, mut taken, mut announced, mut given) = (Vec::new(), 0, 0, 0);
    'pieces: for mut piece in pieces(data, pattern) {
        loop {
            let before = piece.len();
            let event = decoder.feed(&mut piece);
            taken += (before - piece.len()) as u64;
            assert_eq!(
                taken + u64::from(decoder.remaining()),
                u64::from(payload_len)
            );
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(e) => {
                    assert_eq!(decoder.feed(&mut piece), Err(e.clone()), "an error stays");
                    push(&mut seen, Seen::Failed(told(&e)));
                    break 'pieces;
                }
            };
            push(
                &mut seen,
                match event {
                    UploadEvent::Count(n) => {
                        assert!((1..=MAX_IMAGES).contains(&n));
                        Seen::Count(n)
                    }
                    UploadEvent::Begin { index, len } => {
                        announced += u64::from(len);
                        assert!(announced <= u64::from(payload_len));
                        Seen::Begin(index, len)
                    }
                    UploadEvent::Bytes(bytes) => {
                        assert!(!bytes.is_empty());
                        given += bytes.len() as u64;
                        assert!(given <= announced);
                        Seen::Bytes(bytes.to_vec())
                    }
                    UploadEvent::EndImage => {
                        assert_eq!(given, announced);
                        Seen::EndImage
                    }
                    UploadEvent::End => {
                        assert!(decoder.is_done() && decoder.remaining() == 0);
                        Seen::End
                    }
                },
            );
        }
    }
    seen
}

/// What an error says, without how much of a number had arrived when it showed.
fn told(e: &ProtocolError) -> String {
    match e {
        ProtocolError::TooShort { what, .. } => format!("too short: {what}"),
        other => other.to_string(),
    }
}

fn glb(data: &[u8], mut decoder: GlbReplyDecoder, pattern: Option<u64>) -> Vec<Seen> {
    let (mut seen, mut announced, mut given) = (Vec::new(), 0, 0);
    'pieces: for mut piece in pieces(data, pattern) {
        loop {
            let event = match decoder.feed(&mut piece) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(e) => {
                    push(&mut seen, Seen::Failed(told(&e)));
                    break 'pieces;
                }
            };
            push(
                &mut seen,
                match event {
                    GlbEvent::Name(name) => Seen::Name(name),
                    GlbEvent::Begin { len } => {
                        announced = len as usize;
                        Seen::Begin(0, len)
                    }
                    GlbEvent::Bytes(bytes) => {
                        assert!(!bytes.is_empty());
                        given += bytes.len();
                        assert!(given <= announced);
                        Seen::Bytes(bytes.to_vec())
                    }
                    GlbEvent::End => {
                        assert!(decoder.is_done() && given == announced);
                        Seen::End
                    }
                    GlbEvent::Refused(refusal) => {
                        assert!(decoder.is_done());
                        Seen::Refused(refusal.to_string())
                    }
                },
            );
        }
    }
    seen
}

fn json(data: &[u8], pattern: Option<u64>) -> Vec<Seen> {
    let mut decoder = JsonReplyDecoder::new();
    for mut piece in pieces(data, pattern) {
        match decoder.feed(&mut piece) {
            Ok(Some(body)) => {
                // Whatever it holds: no panic.
                let _ = JsonReplyDecoder::parse::<JobStatusReply>(body);
                return vec![Seen::Bytes(body.to_vec())];
            }
            Ok(None) => assert!(piece.is_empty()),
            Err(e) => return vec![Seen::Failed(told(&e))],
        }
    }
    Vec::new()
}

/// Any bytes as a request that is not an upload: what is understood means the same when it is written and read again.
pub(crate) fn request(data: &[u8]) {
    let Some((head, payload)) = data.split_first_chunk::<HEAD_LEN>() else {
        return;
    };
    let head = RequestHead::parse(*head);
    assert_eq!(head.to_bytes(), data[..HEAD_LEN]);
    let request = match Request::parse(head.command, payload) {
        Ok(request) => request,
        Err(e) => {
            let _ = (e.code(head.command), e.to_string());
            return;
        }
    };
    assert_eq!(request.command(), head.command);
    let again = Request::parse(head.command, &request.payload());
    match request {
        // JSON numbers may come back one bit away.
        Request::Options(_) => assert!(again.is_ok()),
        request => assert_eq!(again, Ok(request)),
    }
}
