//! How a request is made that is right, or nearly so.

use std::fmt;

use serde_json::Value;

use super::values::{HEADERS, JSON, METHODS, MULTIPART, ODD, QUERIES, TYPES, VALUES};
use crate::support::{
    http::multipart,
    random::Random,
    service::{demo_images, refs, varied},
};

/// Places that are remembered: jobs, uploads, links.
const PLACES: usize = 40;

/// Whether the head says rightly how long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Right,
    Wrong,
}

/// A request as it is sent.
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    pub(super) framing: Framing,
    pub(super) has_token: bool,
    method: &'static str,
    /// Bytes were changed anywhere.
    is_damaged: bool,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes[..self.bytes.len().min(4000)];
        let text = String::from_utf8_lossy(shown);
        write!(f, "{:?}, {text:?}", self.framing)
    }
}

impl Sent {
    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// What is no request may get no answer but the end of the connection.
    pub(super) fn may_be_unanswered(&self) -> bool {
        self.framing == Framing::Wrong || self.is_damaged
    }
}

/// The routes, and what there is on the service.
pub(super) struct World {
    /// Each with its methods.
    routes: Vec<(String, Vec<&'static str>)>,
    places: Vec<String>,
}

impl World {
    pub(super) fn new(document: &Value) -> Self {
        let paths = document["paths"].as_object().unwrap();
        Self {
            routes: paths
                .iter()
                .map(|(path, item)| (path.clone(), described(item)))
                .collect(),
            places: Vec::new(),
        }
    }

    pub(super) fn keep(&mut self, place: &str, random: &mut Random) {
        if self.places.len() >= PLACES {
            let at = random.below(self.places.len());
            self.places.swap_remove(at);
        }
        self.places.push(place.to_owned());
    }

    /// A path that a template describes, of a place that there is where one fits.
    fn path(&self, random: &mut Random, template: &str) -> String {
        let place = match self.places.len() {
            0 => "",
            len => &self.places[random.below(len)],
        };
        let mut known = place.split('/');
        let mut fits = random.below(4) > 0;
        let filled = template.split('/').map(|part| {
            let known = known.next();
            if !part.starts_with('{') {
                fits = fits && known.is_none_or(|known| known == part);
                return part;
            }
            match known.filter(|_| fits) {
                Some(known) => known,
                None => random.pick(&VALUES),
            }
        });
        let mut path = filled.collect::<Vec<_>>().join("/");
        if random.below(8) == 0 {
            let at = random.below(path.len() + 1);
            path.insert_str(at, random.pick(&ODD));
        }
        if random.below(500) == 0 {
            path += &"x".repeat(random.below(40_000));
        }
        for i in 0..random.below(3) {
            path += if i == 0 { "?" } else { "&" };
            path += random.pick(&QUERIES);
        }
        path
    }

    pub(super) fn request(&self, random: &mut Random, token: &str) -> Sent {
        let (template, methods) = &self.routes[random.below(self.routes.len())];
        let path = self.path(random, template);
        // Mostly one that means something.
        let method = match random.below(8) {
            0 => random.pick(&METHODS),
            _ => random.pick(methods),
        };
        let (kind, body) = body(random, &path);
        let has_token = random.below(8) > 0;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: vggt.test\r\n");
        if has_token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        if !kind.is_empty() {
            head += &format!("Content-Type: {kind}\r\n");
        }
        if path.contains("/uploads") && random.below(3) > 0 {
            head += "Tus-Resumable: 1.0.0\r\n";
            head += random.pick(&["Upload-Offset: 0\r\n", "Upload-Length: 7\r\n"]);
        }
        if template.ends_with("{format}") || template.ends_with("{file}") {
            let (name, values) = HEADERS[random.below(3)];
            head += &format!("{name}: {}\r\n", random.pick(values));
        }
        for _ in 0..random.below(5) {
            let (name, values) = HEADERS[random.below(HEADERS.len())];
            head += &format!("{name}: {}\r\n", random.pick(values));
        }
        let (framing, rest) = framed(random, &body);
        head += &rest;
        let mut bytes = [head.as_bytes(), b"\r\n", &body].concat();
        if rest.starts_with("Transfer-Encoding") && framing == Framing::Right {
            bytes = [head.as_bytes(), b"\r\n", &chunked(random, &body)].concat();
        }
        let is_damaged = random.below(20) == 0;
        if is_damaged {
            bytes = random.mutated(&[bytes]);
        }
        // Each of these a server may take for the end of what makes sense.
        let is_odd = !path.bytes().all(|b| b.is_ascii_graphic()) || method.is_empty();
        Sent {
            bytes,
            framing: match is_damaged || is_odd {
                true => Framing::Wrong,
                false => framing,
            },
            has_token,
            method,
            is_damaged: is_damaged || is_odd,
        }
    }
}

/// The methods of a path.
fn described(item: &Value) -> Vec<&'static str> {
    let has = |method: &&str| item.get(method.to_lowercase()).is_some();
    let mut methods: Vec<_> = METHODS.into_iter().filter(|m| *m != "get").collect();
    methods.retain(|method| !method.is_empty() && has(method));
    methods
}

/// The length of a body as the head tells it, wrong now and then.
fn framed(random: &mut Random, body: &[u8]) -> (Framing, String) {
    let len = body.len();
    match random.below(60) {
        0 => (
            Framing::Wrong,
            format!("Content-Length: {}\r\n", len + 1 + random.below(100)),
        ),
        1 => {
            let odd = [
                "-1",
                "x",
                "18446744073709551616",
                "1, 2",
                "+1",
                "99999999999",
                "",
            ];
            (
                Framing::Wrong,
                format!("Content-Length: {}\r\n", random.pick(&odd)),
            )
        }
        2 => {
            let both = format!("Transfer-Encoding: chunked\r\nContent-Length: {len}\r\n");
            (Framing::Wrong, both)
        }
        3 => (Framing::Wrong, "Transfer-Encoding: gzip, x\r\n".to_owned()),
        4 => (
            Framing::Wrong,
            format!("Content-Length: {len}\r\nContent-Length: 7\r\n"),
        ),
        5..9 => (Framing::Right, "Transfer-Encoding: chunked\r\n".to_owned()),
        _ => (Framing::Right, format!("Content-Length: {len}\r\n")),
    }
}

fn chunked(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len()));
        bytes.extend(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
        rest = after;
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// A body and its type, mostly those that the path asks for.
fn body(random: &mut Random, path: &str) -> (&'static str, Vec<u8>) {
    let (kind, bytes) = match random.below(if path.ends_with("/jobs") { 3 } else { 9 }) {
        0 | 1 => (MULTIPART, form(random)),
        2..5 => ("application/json", random.pick(&JSON).into()),
        5 => ("application/json", nested(random)),
        6 => ("application/offset+octet-stream", vec![7; random.below(9)]),
        7 => (
            "application/x-www-form-urlencoded",
            b"username=a&password=%ff".to_vec(),
        ),
        _ => ("", Vec::new()),
    };
    let kind = match random.below(10) {
        0 => random.pick(&TYPES),
        _ => kind,
    };
    match random.below(6) {
        0 => (
            kind,
            random.mutated(&[bytes, b"{\"name\": \"x\"}".to_vec()]),
        ),
        _ => (kind, bytes),
    }
}

/// Too deep, or too long.
fn nested(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => "[".repeat(random.below(60_000)).into_bytes(),
        1 => vec![b' '; random.below(80_000)],
        _ => "{\"options\":".repeat(random.below(200)).into_bytes(),
    }
}

fn form(random: &mut Random) -> Vec<u8> {
    let images = match random.below(4) {
        // Those that the cache knows.
        0 => varied(random.below(3)),
        1 => vec![demo_images(1)[0][..random.below(400)].to_vec()],
        2 => vec![vec![0; random.below(3)]],
        _ => vec![b"\0\0\0\x18ftypmp42".to_vec()],
    };
    let images = refs(&images);
    let names = ["a.jpg", "b.mp4", "", "../../x", "\\", "a\u{e4}.png"];
    let mut parts: Vec<_> = images
        .iter()
        .map(|bytes| ("files", Some(random.pick(&names)), *bytes))
        .collect();
    if random.below(2) == 0 {
        let options = random.pick(&JSON).as_bytes();
        let at = random.below(parts.len() + 1);
        parts.insert(
            at,
            (
                random.pick(&["options", "option", "files", ""]),
                None,
                options,
            ),
        );
    }
    multipart(&parts)
}
