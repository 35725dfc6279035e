//! Right and odd values of everything that a request consists of.

pub(super) const METHODS: [&str; 12] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "get",
    "",
];

/// In the place of a parameter.
pub(super) const VALUES: [&str; 36] = [
    "0",
    "1",
    "2",
    "3",
    "-1",
    "+1",
    "01",
    "1.5",
    "1e3",
    "9223372036854775807",
    "9223372036854775808",
    "99999999999999999999999",
    "abc",
    "",
    "%31",
    "%00",
    "%ff",
    "%2e%2e",
    "..",
    ".",
    "%",
    "%zz",
    "1;a=b",
    "glb",
    "ply",
    "html",
    "points",
    "cameras.json",
    "safetensors",
    "depth.zip",
    "colmap.zip",
    "0.jpg",
    "1.depth.png",
    "1.depth_color.png",
    "99999999999999999999.jpg",
    "current",
];

/// Appended or inserted.
pub(super) const ODD: [&str; 14] = [
    "/", "//", "/..", "%2f", "%2F..%2F", "?", "#", "%", "%0d%0a", "%00", "\u{e4}", " ", "\t", "\\",
];

pub(super) const QUERIES: [&str; 13] = [
    "limit=1",
    "limit=0",
    "limit=-1",
    "limit=99999999999",
    "limit=",
    "before=1",
    "before=x",
    "max_points=1",
    "max_points=0",
    "max_points=4294967296",
    "a[b]=c",
    "=&=&",
    "limit=%ff",
];

pub(super) const HEADERS: [(&str, &[&str]); 27] = [
    (
        "Range",
        &[
            "bytes=0-9",
            "bytes=-5",
            "bytes=5-",
            "bytes=99999999999-",
            "bytes=3-1",
            "bytes=0-1,3-4",
            "items=1",
            "bytes=--",
            "",
        ],
    ),
    (
        "If-Range",
        &["\"x\"", "*", "Wed, 21 Oct 2015 07:28:00 GMT", ""],
    ),
    ("If-None-Match", &["*", "\"x\", W/\"y\"", "x", "\""]),
    ("If-Match", &["*", "\"x\""]),
    (
        "Accept",
        &["application/json", "text/event-stream", "*/*;q=0", ",,,"],
    ),
    (
        "Accept-Encoding",
        &["gzip", "gzip;q=0", "identity;q=0", "br, *;q=x", ""],
    ),
    (
        "Cookie",
        &[
            "vggt_session=x",
            "vggt_session=",
            "a=b; vggt_session=\"",
            ";;;",
            "vggt_session",
        ],
    ),
    (
        "Authorization",
        &[
            "Bearer",
            "Bearer ",
            "Bearer x y",
            "Basic YTpi",
            "bearer x",
            "\u{e4}",
            "",
        ],
    ),
    (
        "Origin",
        &[
            "null",
            "http://vggt.test",
            "https://evil.test",
            "http://[::",
            "",
        ],
    ),
    (
        "Sec-Fetch-Site",
        &["same-origin", "cross-site", "none", "x"],
    ),
    ("Access-Control-Request-Method", &["POST", "x y"]),
    ("X-Forwarded-For", &["127.0.0.1", "x, y", ",", "::1"]),
    ("X-Forwarded-Proto", &["https", "x"]),
    ("X-HTTP-Method-Override", &["DELETE"]),
    ("Tus-Resumable", &["1.0.0", "0.2.2", "", "1.0.0, 1.0.0"]),
    (
        "Upload-Offset",
        &[
            "0",
            "1",
            "-1",
            "18446744073709551615",
            "18446744073709551616",
            "x",
            "",
        ],
    ),
    (
        "Upload-Length",
        &[
            "1",
            "0",
            "7",
            "-1",
            "18446744073709551615",
            "99999999999",
            "x",
        ],
    ),
    ("Upload-Defer-Length", &["1", "2"]),
    (
        "Upload-Metadata",
        &[
            "filename YS5qcGc=",
            "filename",
            "a b c",
            "filename !!",
            ",",
            "filename YS5qcGc=,filename Yg==",
        ],
    ),
    (
        "Upload-Checksum",
        &[
            "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "sha256 x",
            "md5 x",
            "sha1",
            "",
        ],
    ),
    ("Upload-Concat", &["partial"]),
    ("Last-Event-ID", &["x", "0", "5f0d6a2b9c1e4d7788aa01c3"]),
    ("Expect", &["100-continue", "x"]),
    ("Connection", &["close", "keep-alive, x", "Upgrade"]),
    ("Upgrade", &["h2c", "websocket"]),
    ("Content-Encoding", &["gzip", "identity"]),
    ("Host", &["", "other", "a b", "vggt.test:99999"]),
];

pub(super) const TYPES: [&str; 9] = [
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "application/offset+octet-stream",
    "application/x-www-form-urlencoded",
    "/",
    "",
];

pub(super) const MULTIPART: &str = "multipart/form-data; boundary=x-boundary-of-a-test";

pub(super) const JSON: [&str; 22] = [
    "{}",
    "",
    "[]",
    "null",
    "{\"options\": {}}",
    "{\"options\": {\"name\": \"x\", \"conf_thres\": 60}}",
    "{\"options\": {\"conf_thres\": \"x\"}}",
    "{\"options\": 1}",
    "{\"conf_thres\": 60}",
    "{\"conf_thres\": 1e400, \"mask_sky\": 1}",
    "{\"name\": \"x\"}",
    "{\"name\": \"\\u0000/../\", \"public\": true}",
    "{\"public\": false, \"name\": null}",
    "{\"name\": 1, \"name\": 2}",
    "{\"expires_in_days\": 1}",
    "{\"expires_in_days\": -1}",
    "{\"expires_in_days\": 1e30, \"name\": \"t\"}",
    "{\"expires_in_days\": 4294967295, \"name\": \"t\"}",
    "{\"username\": \"nobody\", \"password\": \"x\"}",
    "{\"username\": \"\", \"password\": {}}",
    "{\"name\": \"\\ud800\"}",
    "\u{feff}{}",
];
