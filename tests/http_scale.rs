//! A length that is known puts everything that is made of a result into meters.

use std::io::{Cursor, Read};

use serde_json::{Value, json};
use zip::ZipArchive;

use crate::support::{
    glb::Glb,
    http::{DoneJob, Response, request},
    service::Service,
};

/// Lengths of F32 that were multiplied before they were rounded, and after.
const TOLERANCE: f64 = 1e-5;

const SCALE: f64 = 2.5;

struct Scaled(DoneJob);

impl Scaled {
    fn new() -> Self {
        Self(DoneJob::of_images(2))
    }

    fn change(&self, change: &Value) -> Response {
        let asked = request("PATCH", &self.0.path("")).bearer(&self.0.token);
        asked.json(change).send(self.0.service.http())
    }

    fn get(&self, rest: &str) -> Response {
        self.0.get(rest)
    }

    fn bytes(&self, artifact: &str) -> Vec<u8> {
        let answer = self.get(&format!("/artifacts/{artifact}"));
        assert_eq!(answer.status, 200, "{artifact}: {answer:?}");
        answer.body
    }

    fn json_in_zip(&self, artifact: &str, name: &str) -> Value {
        let mut zip = ZipArchive::new(Cursor::new(self.bytes(artifact))).unwrap();
        let mut text = String::new();
        let mut file = zip.by_name(name).unwrap();
        file.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn cameras(&self) -> Value {
        serde_json::from_slice(&self.bytes("cameras.json")).unwrap()
    }
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * b.abs().max(1.0)
}

#[test]
fn a_scale_puts_files_into_meters_and_leaves_what_viewers_scale_themselves() {
    let done = Scaled::new();
    let units_per_value = |depth: &Value| depth["units_per_value"].as_f64().unwrap();
    let position = |transforms: &Value, axis: usize| {
        transforms["frames"][1]["transform_matrix"][axis][3]
            .as_f64()
            .unwrap()
    };
    let unit = |bytes: &[u8]| Glb::parse(bytes).json["asset"]["extras"]["unit"].clone();
    let before = (
        done.json_in_zip("depth.zip", "depth.json"),
        done.json_in_zip("nerfstudio.zip", "transforms.json"),
        done.bytes("points"),
        done.bytes("scene.jpg"),
        done.bytes("glb"),
    );
    assert_eq!(unit(&before.4), "arbitrary");
    assert_eq!(done.cameras()["meters_per_unit"], Value::Null);
    assert!(done.get("").expect(200).get("meters_per_unit").is_none());

    let changed = done.change(&json!({"meters_per_unit": SCALE}));
    assert_eq!(changed.expect(200)["meters_per_unit"], SCALE);
    assert_eq!(done.get("").expect(200)["meters_per_unit"], SCALE);
    let depth = done.json_in_zip("depth.zip", "depth.json");
    assert_eq!(depth["unit"], "meters");
    assert!(is_near(
        units_per_value(&depth),
        SCALE * units_per_value(&before.0)
    ));
    let transforms = done.json_in_zip("nerfstudio.zip", "transforms.json");
    for axis in 0..3 {
        let (meters, units) = (position(&transforms, axis), position(&before.1, axis));
        assert!(is_near(meters, SCALE * units), "{meters} {units}");
    }
    let glb = done.bytes("glb");
    assert_eq!(unit(&glb), "meters");
    let positions = |bytes: &[u8]| Glb::parse(bytes).attribute("points", "POSITION");
    let (meters, units) = (positions(&glb), positions(&before.4));
    assert_eq!(meters.len(), units.len());
    for (meters, units) in meters.iter().flatten().zip(units.iter().flatten()) {
        assert!(is_near(*meters, SCALE * units), "{meters} {units}");
    }
    let ply = done.bytes("ply");
    assert!(String::from_utf8_lossy(&ply[..2000]).contains("\"unit\":\"meters\""));
    let page = String::from_utf8(done.bytes("html")).unwrap();
    assert!(page.contains("\"unit\":\"meters\""));
    // Viewers multiply themselves, so that another scale needs no other points.
    assert!(done.bytes("points") == before.2 && done.bytes("scene.jpg") == before.3);
    let cameras = done.cameras();
    assert_eq!(
        (&cameras["unit"], &cameras["meters_per_unit"]),
        (&json!("arbitrary"), &json!(SCALE))
    );

    // A name leaves the scale, and null removes it.
    done.change(&json!({"name": "Attic"})).expect(200);
    assert_eq!(done.cameras()["meters_per_unit"], SCALE);
    done.change(&json!({"meters_per_unit": null})).expect(200);
    assert_eq!(done.cameras()["meters_per_unit"], Value::Null);
    assert!(done.bytes("glb") == before.4);
}

#[test]
fn what_a_client_has_is_not_made_again() {
    let DoneJob { service, token, id } = DoneJob::of_images(2);
    let get = |service: &Service, artifact: &str, known: &str| {
        let path = format!("/api/v1/jobs/{id}/artifacts/{artifact}");
        let asked = request("GET", &path).bearer(&token);
        asked.header("if-none-match", known).send(service.http())
    };
    let picture = get(&service, "scene.jpg", "\"other\"");
    assert_eq!(
        (picture.status, picture.header("content-type")),
        (200, Some("image/jpeg"))
    );
    let size = image::load_from_memory(&picture.body).unwrap();
    assert_eq!((size.width(), size.height()), (480, 360));
    let tag = picture.header("etag").unwrap();

    // In the next process nothing is made yet.
    let service = Service::start_in(service.kill(), &["--http", "127.0.0.1:0"]);
    let answer = get(&service, "scene.jpg", tag);
    assert_eq!((answer.status, answer.header("etag")), (304, Some(tag)));
    assert!(answer.body.is_empty());

    // Another scale is another file.
    let tag = get(&service, "ply", "\"other\"")
        .header("etag")
        .unwrap()
        .to_owned();
    assert_eq!(get(&service, "ply", &tag).status, 304);
    let change = request("PATCH", &format!("/api/v1/jobs/{id}")).bearer(&token);
    let change = change.json(&json!({"meters_per_unit": 2}));
    change.send(service.http()).expect(200);
    assert_eq!(get(&service, "ply", &tag).status, 200);
}

#[test]
fn a_scale_that_cannot_be_is_refused() {
    let done = Scaled::new();
    for scale in [json!(0), json!(-1), json!(1e9), json!("1 m"), json!([1])] {
        let answer = done.change(&json!({"meters_per_unit": scale}));
        assert_eq!(answer.expect(400)["code"], "bad_request", "{scale}");
    }
    assert_eq!(done.cameras()["meters_per_unit"], Value::Null);
}

#[test]
fn a_job_tells_its_options_and_a_list_does_not() {
    let done = DoneJob::of_images(2);
    let options = &done.get("").expect(200)["options"];
    assert_eq!(
        options["prediction_mode"], "Depthmap and Camera",
        "{options}"
    );
    let list = request("GET", "/api/v1/jobs").bearer(&done.token);
    let list = list.send(done.service.http()).expect(200);
    assert!(list["jobs"][0].get("options").is_none());
}
