//! The wire, byte by byte.

use serde_json::json;
use vggt::protocol::{
    Command, DEFAULT_MAX_IMAGES, ERROR_MAX, ErrorCode, FileEntry, FileList, GlbEvent,
    GlbReplyDecoder, Hash, ImageLimits, ImagesDecoder, JSON_REPLY_MAX, JobStateReply,
    JobStatusReply, JsonReplyDecoder, LoginRequest, NAME_MAX, PageRequest, ProtocolError,
    ReconstructionOptions, Refusal, Request, RequestHead, SMALL_PAYLOAD_MAX, SubmitKind,
    UploadEvent, encode,
};

use crate::support::random::Random;

#[path = "../fuzz/checks.rs"]
mod checks;

const DIGITS: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Inputs of each bounded run of random bytes: seconds in the dev profile. `tools/checks/fuzz` asks for more.
const RANDOM_INPUTS: usize = 40_000;

/// [`RANDOM_INPUTS`], or what the environment says.
fn random_inputs() -> usize {
    let asked = std::env::var("VGGT_FUZZ_EXECUTIONS").ok();
    asked.map_or(RANDOM_INPUTS, |count| count.parse().unwrap())
}

fn hash() -> Hash {
    DIGITS.parse().unwrap()
}

/// `len` as it stands before `body`.
fn blob(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

fn images_payload(images: &[&[u8]]) -> Vec<u8> {
    let mut payload = (images.len() as u32).to_be_bytes().to_vec();
    images.iter().for_each(|image| payload.extend(blob(image)));
    payload
}

/// Images that came through whole, or why not; `pieces` are what arrives.
fn receive(payload_len: u32, pieces: &[&[u8]]) -> Result<Option<Vec<Vec<u8>>>, ProtocolError> {
    let mut decoder = ImagesDecoder::new(payload_len, ImageLimits::default());
    let (mut images, mut announced) = (Vec::<Vec<u8>>::new(), 0);
    for mut piece in pieces.iter().copied() {
        while let Some(event) = decoder.feed(&mut piece)? {
            match event {
                UploadEvent::Count(n) => announced = n as usize,
                UploadEvent::Begin { index, .. } => {
                    assert_eq!(index as usize, images.len());
                    images.push(Vec::new());
                }
                UploadEvent::Bytes(bytes) => images.last_mut().unwrap().extend(bytes),
                UploadEvent::EndImage => {}
                UploadEvent::End => {
                    assert_eq!(images.len(), announced);
                    assert!(piece.is_empty());
                }
            }
        }
    }
    Ok(decoder.is_done().then_some(images))
}

/// Every request that is not an upload, with its payload as the tables spell it.
fn small_requests() -> Vec<(u8, String, Request)> {
    let options = ReconstructionOptions::new(&json!({
        "conf_thres": 12.5, "prediction_mode": "Depthmap and Camera", "fps": 0.5, "mask_black_bg": true,
        "mask_white_bg": false, "mask_sky": false, "show_cam": true, "max_points": 1000,
        "format": "glb_quantized",
    }))
    .unwrap();
    let login = LoginRequest {
        name: "ann".to_owned(),
        password: "pass word".to_owned(),
    };
    vec![
        (1, r#"{"u": "ann", "p": "pass word"}"#.to_owned(), Request::Login(login)),
        (4, DIGITS.to_owned(), Request::GetGlb(hash())),
        (5, "{}".to_owned(), Request::List),
        (6, format!(r#"{{"hash": "{DIGITS}"}}"#), Request::Delete(hash())),
        (
            7,
            format!(r#"{{"hash": "{DIGITS}", "public": true}}"#),
            Request::SetPublic {
                hash: hash(),
                public: true,
            },
        ),
        (9, r#"{"job": 17}"#.to_owned(), Request::Status(17)),
        (10, r#"{"job": 17}"#.to_owned(), Request::Cancel(17)),
        (
            11,
            r#"{"conf_thres": 12.5, "prediction_mode": "Depthmap and Camera", "fps": 0.5, "mask_black_bg": true,
                "mask_white_bg": false, "mask_sky": false, "show_cam": true, "max_points": 1000,
                "format": "glb_quantized"}"#
                .to_owned(),
            Request::Options(options),
        ),
        (12, "{}".to_owned(), Request::Info),
        (
            14,
            r#"{"before": 7, "limit": 3}"#.to_owned(),
            Request::Jobs(PageRequest {
                before: Some(7),
                limit: Some(3),
            }),
        ),
        (15, r#"{"job": 17}"#.to_owned(), Request::Rerun(17)),
    ]
}

#[test]
fn a_head_is_a_command_and_a_big_endian_length() {
    for byte in 0..=u8::MAX {
        let bytes = [byte, 0x01, 0x02, 0x03, 0x04];
        let head = RequestHead::parse(bytes);
        assert_eq!(head.command, Command::from(byte));
        assert_eq!(head.payload_len, 0x0102_0304);
        assert_eq!(head.to_bytes(), bytes);
        assert_eq!(
            matches!(head.command, Command::Unknown(b) if b == byte),
            !(1..=15).contains(&byte)
        );
    }
}

#[test]
fn every_small_request_is_read_whole_and_written_back() {
    for (byte, payload, request) in small_requests() {
        let command = Command::from(byte);
        assert_eq!(
            Request::parse(command, payload.as_bytes()).unwrap(),
            request
        );
        assert_eq!(request.command(), command);
        let bytes = encode::request(&request);
        assert_eq!(bytes[0], byte);
        assert_eq!(blob(&bytes[5..]), bytes[1..]);
        assert_eq!(Request::parse(command, &bytes[5..]).unwrap(), request);
    }
}

#[test]
fn a_small_request_truncated_anywhere_is_refused() {
    for (byte, payload, _) in small_requests() {
        let command = Command::from(byte);
        for end in 0..payload.len() {
            // Nothing at all is what these may send.
            if end == 0 && matches!(command, Command::List | Command::Info | Command::Jobs) {
                continue;
            }
            let e = Request::parse(command, &payload.as_bytes()[..end]).unwrap_err();
            let code = match command {
                Command::GetGlb => ErrorCode::InvalidHash,
                _ => ErrorCode::BadRequest,
            };
            assert_eq!(e.code(command), code, "{command:?} {end}");
        }
    }
}

#[test]
fn an_oversized_or_unknown_request_is_refused_with_its_code() {
    let long = vec![b' '; SMALL_PAYLOAD_MAX as usize + 1];
    for (byte, _, _) in small_requests() {
        let e = Request::parse(byte.into(), &long).unwrap_err();
        assert!(matches!(e, ProtocolError::PayloadTooLong { .. }), "{e}");
    }
    let unknown = Command::Unknown(200);
    let e = Request::parse(unknown, b"{}").unwrap_err();
    assert_eq!(e.code(unknown), ErrorCode::UnknownCommand);
    for (command, code) in [
        (Command::Images, ErrorCode::ImageRequest),
        (Command::Video, ErrorCode::VideoRequest),
        (Command::Submit, ErrorCode::BadRequest),
    ] {
        let (len, max) = (2, 1);
        let oversized = ProtocolError::PayloadTooLong { command, len, max };
        assert_eq!(oversized.code(command), code);
        assert!(command.is_upload());
        assert_eq!(
            Request::parse(command, b"{}"),
            Err(ProtocolError::NotSmall(command))
        );
    }
}

#[test]
fn anything_but_64_hex_digits_is_no_hash() {
    let with_suffix = format!("{DIGITS}.glb");
    let not_hex = DIGITS.replace('f', "g");
    let not_ascii = DIGITS.replacen("01", "é", 1);
    assert_eq!(not_ascii.len(), DIGITS.len());
    for text in [
        "",
        &DIGITS[1..],
        &with_suffix,
        &not_hex,
        &not_ascii,
        "../../etc/passwd",
    ] {
        let e = Request::parse(Command::GetGlb, text.as_bytes()).unwrap_err();
        assert_eq!(e.code(Command::GetGlb), ErrorCode::InvalidHash, "{text}");
        let body = json!({ "hash": text }).to_string();
        let e = Request::parse(Command::Delete, body.as_bytes()).unwrap_err();
        assert_eq!(e.code(Command::Delete), ErrorCode::InvalidHash, "{text}");
    }
    assert_eq!(DIGITS.to_uppercase().parse::<Hash>().unwrap(), hash());
}

#[test]
fn options_are_a_json_object() {
    for bad in ["[]", "[", "3", "null", ""] {
        let e = Request::parse(Command::Options, bad.as_bytes()).unwrap_err();
        assert_eq!(e.code(Command::Options), ErrorCode::BadRequest, "{bad}");
        assert!(e.to_string().contains("options as JSON"), "{e}");
    }
    assert!(ReconstructionOptions::new(&[1, 2]).is_err());
}

#[test]
fn a_password_is_in_no_message() {
    for payload in [
        r#""hunter2""#,
        r#"{"u": "a", "p": ["hunter2"]}"#,
        r#"{"u": "a", "p": "hunter2"#,
    ] {
        let e = Request::parse(Command::Login, payload.as_bytes()).unwrap_err();
        assert!(!e.to_string().contains("hunter2"), "{e}");
    }
    let login = LoginRequest {
        name: "a".to_owned(),
        password: "hunter2".to_owned(),
    };
    assert!(!format!("{:?}", Request::Login(login)).contains("hunter2"));
}

#[test]
fn images_are_the_same_whole_and_split_at_every_offset() {
    let images: [&[u8]; 3] = [b"first", b"2", b"the third"];
    let payload = images_payload(&images);
    let len = payload.len() as u32;
    for at in 0..=payload.len() {
        let (a, b) = payload.split_at(at);
        assert_eq!(receive(len, &[a, b]).unwrap().unwrap(), images, "{at}");
    }
    let bytes: Vec<&[u8]> = payload.chunks(1).collect();
    assert_eq!(receive(len, &bytes).unwrap().unwrap(), images);
}

#[test]
fn images_truncated_anywhere_ask_for_more() {
    let payload = images_payload(&[b"first", b"2", b"the third"]);
    for end in 0..payload.len() {
        let received = receive(payload.len() as u32, &[&payload[..end]]).unwrap();
        assert_eq!(received, None, "{end}");
    }
}

#[test]
fn a_payload_length_that_is_not_its_parts_is_refused() {
    let payload = images_payload(&[b"first", b"2", b"the third"]);
    for len in 0..payload.len() {
        let e = receive(len as u32, &[&payload[..len]]).unwrap_err();
        assert!(matches!(e, ProtocolError::TooShort { .. }), "{len}: {e}");
        assert_eq!(e.code(Command::Images), ErrorCode::ImageRequest);
        assert_eq!(e.code(Command::Submit), ErrorCode::ImageRequest);
    }
    let longer = payload.len() as u32 + 2;
    assert_eq!(
        receive(longer, &[&payload]),
        Err(ProtocolError::TrailingBytes { left: 2 })
    );
}

#[test]
fn the_next_request_is_left_untouched() {
    let payload = images_payload(&[b"only"]);
    let mut decoder = ImagesDecoder::new(payload.len() as u32, ImageLimits::default());
    let bytes = [&payload[..], b"\x04\0\0\0\x40"].concat();
    let mut input = &bytes[..];
    while decoder.feed(&mut input).unwrap().is_some() {}
    assert!(decoder.is_done());
    assert_eq!(input, b"\x04\0\0\0\x40");
}

#[test]
fn counts_and_lengths_beyond_the_limits_are_refused_before_their_bytes() {
    let too_many = DEFAULT_MAX_IMAGES + 1;
    let refused = |payload_len, head: &[u8]| receive(payload_len, &[head]).unwrap_err();
    assert_eq!(refused(4, &[0; 4]), ProtocolError::NoImages);
    assert_eq!(
        refused(u32::MAX, &too_many.to_be_bytes()),
        ProtocolError::TooManyImages {
            count: too_many,
            max: DEFAULT_MAX_IMAGES
        }
    );
    // 300 images cannot lie in 100 bytes.
    let e = refused(100, &300u32.to_be_bytes());
    assert!(matches!(e, ProtocolError::TooShort { .. }), "{e}");
    // An image of 4 GiB in a payload of 20 bytes.
    let e = refused(20, &[0, 0, 0, 1, 255, 255, 255, 255]);
    assert!(matches!(e, ProtocolError::TooShort { .. }), "{e}");
    let empty = refused(14, &[0, 0, 0, 2, 0, 0, 0, 0]);
    assert_eq!(empty, ProtocolError::EmptyImage { index: 0 });
}

#[test]
fn what_is_left_of_a_refused_upload_is_known() {
    let payload = images_payload(&[b"first", b"", b"third"]);
    let mut decoder = ImagesDecoder::new(payload.len() as u32, ImageLimits::default());
    let mut input = &payload[..];
    while decoder.feed(&mut input).is_ok() {}
    assert_eq!(decoder.remaining() as usize, input.len());
    assert_eq!(input, blob(b"third"));
}

#[test]
fn a_submitted_kind_is_images_or_video() {
    for kind in [SubmitKind::Images, SubmitKind::Video] {
        assert_eq!(SubmitKind::try_from(u8::from(kind)), Ok(kind));
    }
    let e = SubmitKind::try_from(4).unwrap_err();
    assert_eq!(e.code(Command::Submit), ErrorCode::BadRequest);
}

#[test]
fn the_replies_of_version_1_are_these_bytes() {
    assert_eq!(encode::login_reply(true, true), b"\0\0\0\x0c[true, true]");
    assert_eq!(encode::login_reply(true, false), b"\0\0\0\x0d[true, false]");
    assert_eq!(
        encode::login_reply(false, false),
        b"\0\0\0\x0e[false, false]"
    );
    assert_eq!(
        encode::login_reply(false, true),
        b"\0\0\0\x0e[false, false]"
    );
    let named = [b"\0\0\0\x44", DIGITS.as_bytes(), b".glb\x01\x02\x03\x04"].concat();
    assert_eq!(encode::named_glb_head(&hash(), 0x0102_0304), named);
    assert_eq!(encode::blob_head(0x0102_0304), *b"\x01\x02\x03\x04");
    for (command, code, reason, bytes) in [
        (
            1,
            ErrorCode::NotLoggedIn,
            "any",
            &b"\0\0\0\x0e[false, false]"[..],
        ),
        (
            2,
            ErrorCode::NotLoggedIn,
            "",
            b"\0\0\0\0\0\0\0\x13ERROR_NOT_LOGGED_IN",
        ),
        (
            2,
            ErrorCode::ImageRequest,
            "",
            b"\0\0\0\0\0\0\0\x13ERROR_IMAGE_REQUEST",
        ),
        (
            2,
            ErrorCode::ImageRequest,
            "busy, 16 ahead",
            b"\0\0\0\0\0\0\0\x23ERROR_IMAGE_REQUEST: busy, 16 ahead",
        ),
        (
            3,
            ErrorCode::NotLoggedIn,
            "",
            b"\0\0\0\0\0\0\0\x13ERROR_NOT_LOGGED_IN",
        ),
        (
            3,
            ErrorCode::VideoRequest,
            "",
            b"\0\0\0\0\0\0\0\x13ERROR_VIDEO_REQUEST",
        ),
        (
            4,
            ErrorCode::InvalidHash,
            "",
            b"\0\0\0\x12ERROR_INVALID_HASH",
        ),
        (
            4,
            ErrorCode::HashNotFound,
            "",
            b"\0\0\0\x14ERROR_HASH_NOT_FOUND",
        ),
        (
            4,
            ErrorCode::FileMissing,
            "",
            b"\0\0\0\x12ERROR_FILE_MISSING",
        ),
        (
            0,
            ErrorCode::UnknownCommand,
            "",
            b"\0\0\0\x0fUNKNOWN_COMMAND",
        ),
        (
            99,
            ErrorCode::BadRequest,
            "any",
            b"\0\0\0\x0fUNKNOWN_COMMAND",
        ),
    ] {
        assert_eq!(
            encode::error_reply(command.into(), code, reason),
            bytes,
            "{command} {code}"
        );
    }
}

#[test]
fn a_long_reason_is_cut_so_that_the_error_stays_one() {
    // Two bytes a letter: the cut must not fall into one.
    let reason = "é".repeat(2000);
    let reply = encode::error_reply(Command::GetGlb, ErrorCode::FileMissing, &reason);
    let body = &reply[4..];
    assert!(body.len() <= ERROR_MAX as usize && body.len() + 2 > ERROR_MAX as usize);
    assert!(std::str::from_utf8(body).is_ok());
}

#[test]
fn the_replies_of_version_2_are_the_json_of_the_table() {
    let file = FileEntry {
        hash: hash(),
        name: "images_1700000000.glb".to_owned(),
        size: 12,
        created_at: "2026-01-31T12:00:00Z".to_owned(),
        public: false,
    };
    let list = FileList { files: vec![file] };
    let expected = json!({"files": [{"hash": DIGITS, "name": "images_1700000000.glb", "size": 12,
        "created_at": "2026-01-31T12:00:00Z", "public": false}]});
    assert_eq!(body(&encode::json_reply(&list)), expected);

    for (state, fields) in [
        (
            JobStateReply::Queued { ahead: 2 },
            json!({"state": "queued", "ahead": 2}),
        ),
        (
            JobStateReply::Running {
                stage: "depth".to_owned(),
                fraction: 0.5,
                seconds_left: None,
                preview: None,
            },
            json!({"state": "running", "stage": "depth", "fraction": 0.5, "seconds_left": null}),
        ),
        (
            JobStateReply::Running {
                stage: "aggregator".to_owned(),
                fraction: 0.5,
                seconds_left: Some(1.0),
                preview: Some(hash()),
            },
            json!({"state": "running", "stage": "aggregator", "fraction": 0.5, "seconds_left": 1.0, "preview": DIGITS}),
        ),
        (
            JobStateReply::Done { hash: hash() },
            json!({"state": "done", "hash": DIGITS}),
        ),
        (
            JobStateReply::Failed {
                reason: "no".to_owned(),
            },
            json!({"state": "failed", "reason": "no"}),
        ),
        (JobStateReply::Cancelled, json!({"state": "cancelled"})),
    ] {
        let reply = JobStatusReply {
            job: 7,
            state,
            warnings: Vec::new(),
        };
        let mut expected = fields;
        expected["job"] = json!(7);
        let bytes = encode::json_reply(&reply);
        assert_eq!(body(&bytes), expected);
        assert_eq!(JsonReplyDecoder::parse(&bytes[4..]).unwrap(), Ok(reply));
    }

    let none = encode::json_reply(&ReconstructionOptions::default());
    assert_eq!(none, b"\0\0\0\x02{}");
    for command in 5..=12 {
        let bytes = encode::error_reply(command.into(), ErrorCode::NotLoggedIn, "log in");
        let expected = json!({"error": "ERROR_NOT_LOGGED_IN", "reason": "log in"});
        assert_eq!(body(&bytes), expected);
        let refusal = JsonReplyDecoder::parse::<ReconstructionOptions>(&bytes[4..]).unwrap();
        assert!(refusal.unwrap_err().is(ErrorCode::NotLoggedIn));
    }
}

fn body(reply: &[u8]) -> serde_json::Value {
    assert_eq!(blob(&reply[4..]), reply);
    serde_json::from_slice(&reply[4..]).unwrap()
}

/// What a client sees of a reply that arrives in `pieces`: the name, the GLB, the refusal.
type Outcome = (Option<String>, Option<Vec<u8>>, Option<Refusal>);

fn reply(mut decoder: GlbReplyDecoder, pieces: &[&[u8]]) -> Result<Option<Outcome>, ProtocolError> {
    let (mut name, mut glb, mut refusal) = (None, None::<Vec<u8>>, None);
    for mut piece in pieces.iter().copied() {
        while let Some(event) = decoder.feed(&mut piece)? {
            match event {
                GlbEvent::Name(n) => name = Some(n),
                GlbEvent::Begin { .. } => glb = Some(Vec::new()),
                GlbEvent::Bytes(bytes) => glb.as_mut().unwrap().extend(bytes),
                GlbEvent::End => {}
                GlbEvent::Refused(r) => refusal = Some(r),
            }
        }
    }
    Ok(decoder.is_done().then_some((name, glb, refusal)))
}

#[test]
fn a_reply_split_anywhere_is_the_same_and_truncated_anywhere_asks_for_more() {
    let glb = b"glTF\x02\0\0\0 and more".to_vec();
    let whole = [&encode::named_glb_head(&hash(), glb.len() as u32)[..], &glb].concat();
    let refused = encode::error_reply(Command::Images, ErrorCode::ImageRequest, "busy, 3 ahead");
    let name = Some(format!("{DIGITS}.glb"));
    let refusal = Refusal {
        error: "ERROR_IMAGE_REQUEST".to_owned(),
        reason: "busy, 3 ahead".to_owned(),
    };
    for (bytes, outcome) in [
        (whole, (name, Some(glb), None)),
        (refused, (None, None, Some(refusal))),
    ] {
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            let got = reply(GlbReplyDecoder::named(), &[a, b]).unwrap();
            assert_eq!(got.as_ref(), Some(&outcome), "{at}");
            if !b.is_empty() {
                assert_eq!(reply(GlbReplyDecoder::named(), &[a]).unwrap(), None, "{at}");
            }
        }
    }
}

#[test]
fn an_error_is_told_from_a_glb_by_its_first_bytes_and_its_length() {
    let unnamed = |body: &[u8]| reply(GlbReplyDecoder::unnamed(), &[&blob(body)]);
    let (_, glb, _) = unnamed(b"glTF").unwrap().unwrap();
    assert_eq!(glb.unwrap(), b"glTF");
    let (_, _, refusal) = unnamed(b"glT").unwrap().unwrap();
    assert_eq!(refusal.unwrap().error, "glT");
    let longest = [b'E'; ERROR_MAX as usize];
    assert!(unnamed(&longest).unwrap().unwrap().2.is_some());
    let len = ERROR_MAX + 1;
    assert_eq!(
        unnamed(&vec![b'E'; len as usize]),
        Err(ProtocolError::NotAGlb { len })
    );
    assert_eq!(unnamed(b""), Err(ProtocolError::EmptyReply));
    assert_eq!(
        unnamed(b"\xff\xfe"),
        Err(ProtocolError::NotText("the error"))
    );
}

#[test]
fn oversized_replies_are_refused_by_their_length() {
    let e = reply(GlbReplyDecoder::named(), &[&(NAME_MAX + 1).to_be_bytes()]).unwrap_err();
    assert!(matches!(e, ProtocolError::ReplyTooLong { .. }), "{e}");
    for len in [JSON_REPLY_MAX + 1, u32::MAX] {
        let e = JsonReplyDecoder::new()
            .feed(&mut &len.to_be_bytes()[..])
            .unwrap_err();
        assert!(matches!(e, ProtocolError::ReplyTooLong { .. }), "{e}");
    }
    assert_eq!(
        JsonReplyDecoder::new().feed(&mut &[0; 4][..]),
        Err(ProtocolError::EmptyReply)
    );
}

#[test]
fn an_older_server_refuses_a_newer_command_in_its_own_way() {
    let refusal = JsonReplyDecoder::parse::<FileList>(b"UNKNOWN_COMMAND").unwrap();
    assert!(refusal.unwrap_err().is(ErrorCode::UnknownCommand));
    let e = JsonReplyDecoder::parse::<FileList>(b"<html>").unwrap_err();
    assert!(matches!(e, ProtocolError::Json { .. }), "{e}");
}

#[test]
fn random_bytes_break_no_decoder() {
    // Nine bytes steer the check, see there: a true length, then the sizes of the pieces.
    let steer = [2, 1, 2, 3, 4, 5, 6, 7, 8];
    let seeds: Vec<Vec<u8>> = [
        images_payload(&[b"first", b"2", b"the third"]),
        [&encode::named_glb_head(&hash(), 8)[..], b"glTF1234"].concat(),
        blob(b"glTF5678"),
        encode::error_reply(Command::Images, ErrorCode::NotLoggedIn, "x"),
        encode::json_reply(&json!({"job": 1, "state": "queued", "ahead": 1})),
    ]
    .iter()
    .map(|seed| [&steer[..], seed].concat())
    .collect();
    let mut random = Random(0x5eed);
    for _ in 0..random_inputs() {
        checks::codec(&random.mutated(&seeds));
    }
}

#[test]
fn random_bytes_break_no_request() {
    let seeds: Vec<Vec<u8>> = small_requests()
        .iter()
        .map(|(byte, payload, _)| [&[*byte, 0, 0, 0, 0], payload.as_bytes()].concat())
        .collect();
    let mut random = Random(0xfeed);
    for _ in 0..random_inputs() {
        checks::request(&random.mutated(&seeds));
    }
}
