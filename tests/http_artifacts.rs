//! Files that are made of a result when they are asked for: every format, in parts, and again with the same bytes.

use std::{
    fs,
    io::{Cursor, Read, Write},
    path::PathBuf,
};

use serde_json::{Value, json};
use zip::ZipArchive;

use crate::support::{
    glb::Glb,
    http::{Response, connect, request},
    service::{Service, demo_images, long_job, wait_for},
};

/// Every format, and how its bytes are served.
const FORMATS: [(&str, &str); 10] = [
    ("glb", "model/gltf-binary"),
    ("ply", "application/octet-stream"),
    ("html", "text/html; charset=utf-8"),
    ("colmap.zip", "application/zip"),
    ("nerfstudio.zip", "application/zip"),
    ("safetensors", "application/octet-stream"),
    ("depth.zip", "application/zip"),
    ("points", "application/octet-stream"),
    ("cameras.json", "application/json"),
    ("scene.jpg", "image/jpeg"),
];

struct Done {
    service: Service,
    token: String,
    id: i64,
}

impl Done {
    /// A job of three of the demo's frames.
    fn new() -> Self {
        let service = Service::start_http(&[]);
        let token = service.token("ann");
        let options = json!({"name": "K\u{fc}che <1>", "conf_thres": 20.0}).to_string();
        let images = demo_images(3);
        let names = ["a.png", "b.png", "c.png"];
        let files = names.iter().zip(&images);
        let mut parts: Vec<_> = files
            .map(|(name, bytes)| ("files", Some(*name), *bytes))
            .collect();
        parts.push(("options", None, options.as_bytes()));
        let job = request("POST", "/api/v1/jobs")
            .bearer(&token)
            .multipart(&parts);
        let id = job.send(service.http()).expect(201)["id"].as_i64().unwrap();
        assert_eq!(service.finished_job(&token, id)["state"], "done");
        Self { service, token, id }
    }

    fn get(&self, artifact: &str) -> Response {
        let path = format!("/api/v1/jobs/{}/artifacts/{artifact}", self.id);
        let asked = request("GET", &path).bearer(&self.token);
        asked.send(self.service.http())
    }

    fn bytes(&self, artifact: &str) -> Vec<u8> {
        let answer = self.get(artifact);
        assert_eq!(answer.status, 200, "{artifact}: {answer:?}");
        answer.body
    }

    fn zip(&self, artifact: &str) -> ZipArchive<Cursor<Vec<u8>>> {
        ZipArchive::new(Cursor::new(self.bytes(artifact))).unwrap()
    }
}

fn text(zip: &mut ZipArchive<Cursor<Vec<u8>>>, name: &str) -> String {
    let mut text = String::new();
    let mut file = zip.by_name(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    file.read_to_string(&mut text).unwrap();
    text
}

fn bytes(zip: &mut ZipArchive<Cursor<Vec<u8>>>, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = zip.by_name(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Points as a viewer reads them: position, color, confidence, frame.
type Point = ([f32; 3], [u8; 3], u8, u32);

fn points(bytes: &[u8]) -> (Vec<Point>, [[f32; 3]; 2]) {
    assert_eq!(&bytes[..8], b"VGGTPTS1");
    let (header, stride) = (u32_at(bytes, 8) as usize, u32_at(bytes, 12) as usize);
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
    assert_eq!((header, stride, u32_at(bytes, 24)), (64, 20, 3));
    assert_eq!(bytes.len(), header + stride * count);
    let bounds = [32, 44].map(|at| [0, 4, 8].map(|axis| f32_at(bytes, at + axis)));
    let points = bytes[header..].chunks(stride).map(|point| {
        let position = [0, 4, 8].map(|at| f32_at(point, at));
        (
            position,
            [point[12], point[13], point[14]],
            point[15],
            u32_at(point, 16),
        )
    });
    (points.collect(), bounds)
}

/// Colors and confidences of a PLY file.
fn of_ply(bytes: &[u8]) -> Vec<([u8; 3], f32)> {
    let end = b"end_header\n";
    let at = bytes.windows(end.len()).position(|w| w == end).unwrap() + end.len();
    let head = std::str::from_utf8(&bytes[..at]).unwrap();
    let count = head.lines().find_map(|l| l.strip_prefix("element vertex "));
    let count: usize = count.unwrap().parse().unwrap();
    assert_eq!(bytes.len(), at + 19 * count);
    let points = bytes[at..].chunks(19);
    points
        .map(|p| ([p[12], p[13], p[14]], f32_at(p, 15)))
        .collect()
}

#[test]
fn every_format_is_made_without_the_network_and_in_parts() {
    let done = Done::new();
    let first: Vec<Response> = FORMATS
        .iter()
        .map(|(format, kind)| {
            let answer = done.get(format);
            assert_eq!(answer.status, 200, "{format}: {answer:?}");
            assert_eq!(answer.header("content-type"), Some(*kind), "{format}");
            assert_eq!(answer.header("accept-ranges"), Some("bytes"));
            let stored = answer.header("content-disposition").unwrap();
            assert!(stored.contains("filename*=UTF-8''K%C3%BCche"), "{stored}");
            answer
        })
        .collect();
    let tags: std::collections::HashSet<_> =
        first.iter().map(|a| a.header("etag").unwrap()).collect();
    assert_eq!(tags.len(), FORMATS.len());
    for ((format, _), whole) in FORMATS.iter().zip(&first) {
        let etag = whole.header("etag").unwrap();
        let path = format!("/api/v1/jobs/{}/artifacts/{format}", done.id);
        let asked = |method| request(method, &path).bearer(&done.token);
        let part = asked("GET").header("Range", "bytes=10-29");
        let part = part.header("If-Range", etag).send(done.service.http());
        assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..30]));
        let known = asked("GET").header("If-None-Match", etag);
        assert_eq!(known.send(done.service.http()).status, 304, "{format}");
        let head = asked("HEAD").send(done.service.http());
        let len = whole.body.len().to_string();
        assert_eq!(head.header("content-length"), Some(len.as_str()));
    }
    // The next process makes the same bytes, so that a download that was interrupted goes on with them.
    let Done { service, token, id } = done;
    let service = Service::start_in(service.kill(), &["--http", "127.0.0.1:0"]);
    let again = Done { service, token, id };
    for ((format, _), whole) in FORMATS.iter().zip(&first) {
        let answer = again.get(format);
        assert_eq!(answer.header("etag"), whole.header("etag"), "{format}");
        assert!(answer.body == whole.body, "{format} differs");
    }
    let mut service = again.service;
    assert_eq!(service.terminate(), Some(0));
    service.assert_nothing_left();
}

#[test]
fn points_for_viewers_are_those_of_the_ply_file() {
    let done = Done::new();
    let ply = of_ply(&done.bytes("ply"));
    let (all, [low, high]) = points(&done.bytes("points"));
    assert_eq!(all.len(), ply.len());
    let mut by_confidence: Vec<(f32, u8)> = Vec::new();
    for ((position, color, level, frame), (expected, confidence)) in all.iter().zip(&ply) {
        assert_eq!(color, expected);
        assert!(*frame < 3);
        assert!((0..3).all(|i| (low[i]..=high[i]).contains(&position[i])));
        by_confidence.push((*confidence, *level));
    }
    // The byte is a rank: it rises with the confidence, and a quarter of the points lies below a quarter of its values.
    by_confidence.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(by_confidence.is_sorted_by_key(|(_, level)| *level));
    for level in [64_usize, 128, 192] {
        let below = all.iter().filter(|point| usize::from(point.2) < level);
        let (below, expected) = (below.count(), all.len() * level / 256);
        assert!(below.abs_diff(expected) <= all.len() / 100, "{below}");
    }
    assert!(all.is_sorted_by_key(|point| point.3));

    let some = done.bytes("points?max_points=100");
    let total = u64::from_le_bytes(some[56..64].try_into().unwrap());
    assert_eq!(total as usize, all.len());
    let (some, _) = points(&some);
    assert_eq!(some.len(), 100);
    let (more, _) = points(&done.bytes("points?max_points=4000000000"));
    assert_eq!(more, all);
    for bad in [
        "points?max_points=0",
        "points?max_points=-1",
        "points?other=1",
        "ply?max_points=5",
    ] {
        done.get(bad).problem(400, "bad_request");
    }
}

#[test]
fn a_dataset_has_cameras_points_and_images_that_fit_each_other() {
    let done = Done::new();
    let mut zip = done.zip("colmap.zip");
    let cameras = text(&mut zip, "sparse/0/cameras.txt");
    let images = text(&mut zip, "sparse/0/images.txt");
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        assert!(images.contains(name), "{images}");
        let decoded = image::load_from_memory(&bytes(&mut zip, &format!("images/{name}")));
        let decoded = decoded.unwrap();
        let size = format!(" PINHOLE {} {} ", decoded.width(), decoded.height());
        assert!(cameras.contains(&size), "{size}: {cameras}");
    }
    let points = text(&mut zip, "sparse/0/points3D.txt");
    assert!(points.lines().filter(|l| !l.starts_with('#')).count() > 100);

    let mut zip = done.zip("nerfstudio.zip");
    let transforms: Value = serde_json::from_str(&text(&mut zip, "transforms.json")).unwrap();
    let frames = transforms["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 3);
    for frame in frames {
        let file = frame["file_path"].as_str().unwrap();
        image::load_from_memory(&bytes(&mut zip, file)).unwrap();
    }

    let mut zip = done.zip("depth.zip");
    let index: Value = serde_json::from_str(&text(&mut zip, "depth.json")).unwrap();
    assert_eq!(index["files"].as_array().unwrap().len(), 3);
    image::load_from_memory(&bytes(&mut zip, "a_depth.png")).unwrap();

    let tensors = done.bytes("safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    assert_eq!(tensors.tensor("depth").unwrap().shape()[0], 3);

    let page = String::from_utf8(done.bytes("html")).unwrap();
    assert!(page.contains("<title>K\u{fc}che &lt;1&gt;"), "the title");
    Glb::parse(&done.bytes("glb"));
}

#[test]
fn frames_are_what_the_network_saw_and_nothing_of_the_originals() {
    let done = Done::new();
    let cameras = done.get("cameras.json").expect(200);
    let all = cameras["cameras"].as_array().unwrap();
    assert_eq!(all.len(), 3);
    for (i, camera) in all.iter().enumerate() {
        assert_eq!(
            (&camera["frame"], &camera["name"]),
            (&json!(i), &json!(["a.png", "b.png", "c.png"][i]))
        );
        let answer = done.get(&format!("frames/{i}.jpg"));
        assert_eq!(answer.header("content-type"), Some("image/jpeg"));
        assert!(!answer.body.windows(4).any(|w| w == b"Exif"));
        let photo = image::load_from_memory(&answer.body).unwrap();
        assert_eq!(camera["width"], photo.width());
        assert_eq!(camera["height"], photo.height());
        let small = image::load_from_memory(&done.bytes(&format!("thumbnails/{i}.jpg"))).unwrap();
        // The demo's network sees photos of 112 pixels, which are not made larger.
        assert_eq!(small.width().max(small.height()), 112);
        let depth = done.get(&format!("frames/{i}.depth.png"));
        let scale: f32 = depth
            .header("vggt-units-per-value")
            .unwrap()
            .parse()
            .unwrap();
        assert!(scale > 0.0);
        let depth = image::load_from_memory(&depth.body).unwrap();
        assert_eq!(depth.color(), image::ColorType::L16);
        let color = done.bytes(&format!("frames/{i}.depth_color.png"));
        let color = image::load_from_memory(&color).unwrap();
        for picture in [&depth, &color] {
            assert_eq!(
                (picture.width(), picture.height()),
                (photo.width(), photo.height())
            );
        }
    }
    // Each photo is its own.
    assert_ne!(done.bytes("frames/0.jpg"), done.bytes("frames/1.jpg"));
    let etag = done.get("frames/0.jpg");
    let etag = etag.header("etag").unwrap();
    let path = format!("/api/v1/jobs/{}/artifacts/frames/0.jpg", done.id);
    let known = request("GET", &path)
        .bearer(&done.token)
        .header("If-None-Match", etag);
    assert_eq!(known.send(done.service.http()).status, 304);
    for missing in [
        "frames/3.jpg",
        "frames/99999999999999999999.jpg",
        "frames/-1.jpg",
        "frames/+1.jpg",
        "frames/a.jpg",
        "frames/.jpg",
        "frames/0.png",
        "frames/0",
        "thumbnails/3.jpg",
        "thumbnails/0.depth.png",
        "stl",
        "GLB",
        "ply/",
        "..%2f..%2fetc%2fpasswd",
        "%ff",
    ] {
        let answer = done.get(missing);
        answer.problem(404, "not_found");
    }
}

#[test]
fn clients_that_go_away_while_a_file_is_made_take_nothing_along() {
    let done = Done::new();
    let path = |i: usize| {
        let id = done.id;
        format!("/api/v1/jobs/{id}/artifacts/points?max_points={i}")
    };
    // Each asks for another file, and most have gone before theirs is made.
    for i in 1..=200 {
        let asked = request("GET", &path(i)).bearer(&done.token);
        let mut stream = connect(done.service.http());
        stream.write_all(&asked.bytes()).unwrap();
    }
    let answer = wait_for("a free place", || {
        let asked = request("GET", &path(1000)).bearer(&done.token);
        let answer = asked.send(done.service.http());
        (answer.status != 503).then_some(answer)
    });
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(done.get("frames/0.jpg").status, 200);
}

#[test]
fn files_of_a_result_are_its_owners_alone_and_need_what_is_kept() {
    let done = Done::new();
    let ben = done.service.token("ben");
    for artifact in [
        "ply",
        "points",
        "frames/0.jpg",
        "thumbnails/0.jpg",
        "cameras.json",
    ] {
        let path = format!("/api/v1/jobs/{}/artifacts/{artifact}", done.id);
        let foreign = request("GET", &path).bearer(&ben);
        foreign.send(done.service.http()).problem(404, "not_found");
        let stranger = request("GET", &path).send(done.service.http());
        stranger.problem(401, "not_logged_in");
    }
    // What was kept is gone, as when space was needed.
    let days = fs::read_dir(done.service.out()).unwrap();
    let files = days
        .filter_map(|day| fs::read_dir(day.unwrap().path()).ok())
        .flatten();
    let spools: Vec<PathBuf> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "spool"))
        .collect();
    assert_eq!(spools.len(), 1);
    fs::remove_dir_all(&spools[0]).unwrap();
    for artifact in [
        "ply",
        "points",
        "colmap.zip",
        "frames/0.jpg",
        "thumbnails/0.jpg",
    ] {
        done.get(artifact).problem(409, "not_kept");
    }
    assert_eq!(done.get("glb").status, 200);
}

#[test]
fn a_job_that_runs_has_a_preview_and_no_other_file() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let images = demo_images(8).repeat(10);
    let mut parts: Vec<_> = images
        .iter()
        .map(|b| ("files", Some("x.png"), *b))
        .collect();
    let options = json!({"attention": "anchors", "anchors": 4}).to_string();
    parts.push(("options", None, options.as_bytes()));
    let job = request("POST", "/api/v1/jobs")
        .bearer(&token)
        .multipart(&parts);
    let id = job.send(service.http()).expect(201)["id"].as_i64().unwrap();
    let path = |format| format!("/api/v1/jobs/{id}/artifacts/{format}");
    let get = |format| {
        request("GET", &path(format))
            .bearer(&token)
            .send(service.http())
    };
    get("ply").problem(409, "conflict");
    get("frames/0.jpg").problem(409, "conflict");
    let preview = wait_for("a preview", || {
        let answer = get("preview.glb");
        let over = service.job(&token, id)["state"] == "done";
        assert!(!over || answer.status == 200, "the job was too quick");
        (answer.status == 200).then_some(answer)
    });
    Glb::parse(&preview.body);
    // Unless it has ended since.
    let job = service.job(&token, id);
    assert!(
        job["has_preview"] == true || job["state"] == "done",
        "{job}"
    );
    assert_eq!(service.finished_job(&token, id)["state"], "done");
    get("preview.glb").problem(409, "conflict");
    // Another one, that waits.
    let other = service.submit_http(&token, &long_job());
    let path = format!("/api/v1/jobs/{other}/artifacts/preview.glb");
    let none = request("GET", &path).bearer(&token).send(service.http());
    none.problem(409, "conflict");
}
