//! Refined cameras as an option of a job: all its files have them, whenever they are made.

use std::{fs, path::PathBuf};

use candle_core::{DType, Device, safetensors::load_buffer};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    files::is_bucket,
    glb::Glb,
    http::{Response, request},
    service::{Service, demo_images},
    summary, text,
};

struct Served {
    service: Service,
    token: String,
}

impl Served {
    fn new() -> Self {
        let service = Service::start_http(&[]);
        let token = service.token("ann");
        Self { service, token }
    }

    /// Submits all photos of the demo and waits for the end.
    fn job(&self, options: &Value) -> i64 {
        let options = options.to_string();
        let photos = demo_images(8);
        let names: Vec<String> = (0..8).map(|i| format!("{i}.png")).collect();
        let files = names.iter().zip(&photos);
        let mut parts: Vec<_> = files
            .map(|(name, bytes)| ("files", Some(name.as_str()), *bytes))
            .collect();
        parts.push(("options", None, options.as_bytes()));
        let asked = request("POST", "/api/v1/jobs").bearer(&self.token);
        let job = asked.multipart(&parts).send(self.service.http());
        let id = job.expect(201)["id"].as_i64().unwrap();
        self.done(id);
        id
    }

    fn rerun(&self, id: i64, options: &Value) -> i64 {
        let path = format!("/api/v1/jobs/{id}/rerun");
        let asked = request("POST", &path).bearer(&self.token).json(options);
        let job = asked.send(self.service.http()).expect(201);
        let id = job["id"].as_i64().unwrap();
        self.done(id);
        id
    }

    fn done(&self, id: i64) {
        let job = self.service.finished_job(&self.token, id);
        assert_eq!(job["state"], "done", "{job}");
    }

    fn get(&self, id: i64, artifact: &str) -> Response {
        let path = format!("/api/v1/jobs/{id}/artifacts/{artifact}");
        let asked = request("GET", &path).bearer(&self.token);
        asked.send(self.service.http())
    }

    /// camera_from_world of each frame.
    fn poses(&self, id: i64) -> Vec<Value> {
        let cameras = self.get(id, "cameras.json").expect(200);
        poses(&cameras)
    }

    fn refinement(&self, id: i64) -> Value {
        let answer = self.get(id, "glb");
        assert_eq!(answer.status, 200);
        let glb = Glb::parse(&answer.body);
        glb.json["asset"]["extras"]["refinement"].clone()
    }

    fn warnings(&self, id: i64) -> Vec<Value> {
        let job = self.service.job(&self.token, id);
        let warnings = job["warnings"].as_array().cloned().unwrap_or_default();
        let kinds = warnings.iter().map(|warning| warning["kind"].clone());
        kinds.collect()
    }

    /// Depth of the middle of the first frame, as two artifacts tell it.
    fn depths(&self, id: i64) -> [f64; 2] {
        let tensors = load_buffer(&self.get(id, "safetensors").body, &Device::Cpu).unwrap();
        let depth = tensors["depth"].get(0).unwrap();
        let (height, width, _) = depth.dims3().unwrap();
        let values = depth.to_dtype(DType::F64).unwrap();
        let values: Vec<f64> = values.flatten_all().unwrap().to_vec1().unwrap();
        let middle = height / 2 * width + width / 2;
        let still = self.get(id, "frames/0.depth.png");
        let scale: f64 = still
            .header("vggt-units-per-value")
            .unwrap()
            .parse()
            .unwrap();
        let gray = image::load_from_memory(&still.body).unwrap().into_luma16();
        assert_eq!(
            (gray.width() as usize, gray.height() as usize),
            (width, height)
        );
        [values[middle], f64::from(gray.as_raw()[middle]) * scale]
    }

    fn kept_folders(&self) -> Vec<PathBuf> {
        let days = fs::read_dir(self.service.out()).unwrap();
        let files = days
            .filter_map(|day| fs::read_dir(day.unwrap().path()).ok())
            .flatten();
        files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "spool"))
            .collect()
    }
}

fn poses(cameras: &Value) -> Vec<Value> {
    let cameras = cameras["cameras"].as_array().unwrap().iter();
    cameras
        .map(|camera| camera["camera_from_world"].clone())
        .collect()
}

#[test]
fn every_file_of_a_refined_job_has_the_refined_cameras() {
    let served = Served::new();
    let refined = served.job(&json!({"refine": true}));
    let report = served.refinement(refined);
    assert_eq!(report["accepted"], true, "{report}");
    let unchanged = json!("not_refined");
    assert!(!served.warnings(refined).contains(&unchanged));
    let cameras = served.poses(refined);

    // Those of an export with the same photos, to the bit.
    let dir = TempDir::new().unwrap();
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    for (i, photo) in demo_images(8).iter().enumerate() {
        fs::write(photos.join(format!("{i}.png")), photo).unwrap();
    }
    let export = |args: &[&str]| {
        let input = [text(&photos), "--demo"];
        let to = ["--out", "q.glb", "--overwrite", "--json=full"];
        let told = summary(dir.path(), &[&input[..], &to, args].concat());
        poses(&told["cameras"])
    };
    assert_eq!(export(&["--refine"]), cameras);
    let predicted = export(&[]);
    assert_ne!(predicted, cameras);

    // Other files, and other scenes of the same result; without the option the network's cameras are back, and come again with it.
    let cleaner = served.rerun(refined, &json!({"conf_thres": 60}));
    assert_eq!(served.poses(cleaner), cameras);
    assert_eq!(served.refinement(cleaner), report);
    let plain = served.rerun(cleaner, &json!({"refine": false}));
    assert_eq!(served.poses(plain), predicted);
    assert_eq!(served.refinement(plain), Value::Null);
    let again = served.rerun(plain, &json!({"refine": true, "conf_thres": 10}));
    assert_eq!(served.poses(again), cameras);

    // Depths follow the cameras, in files and in pictures.
    let ([of_refined, picture], [of_plain, plain_picture]) =
        (served.depths(refined), served.depths(plain));
    assert!(
        (of_refined / of_plain - 1.0).abs() > 1e-4,
        "{of_refined} {of_plain}"
    );
    for (exact, picture) in [(of_refined, picture), (of_plain, plain_picture)] {
        assert!((picture / exact - 1.0).abs() < 1e-3, "{exact} {picture}");
    }

    if is_bucket() {
        // What is kept is in packs.
        return;
    }
    // Without what is kept of the refinement no file is made that would have other cameras.
    let kept = served.kept_folders();
    assert_eq!(kept.len(), 4);
    for folder in kept {
        fs::remove_file(folder.join("refinement")).unwrap();
    }
    for artifact in ["colmap.zip", "frames/0.depth.png"] {
        served.get(refined, artifact).problem(409, "not_kept");
    }
    assert_eq!(served.get(plain, "ply").status, 200);
}

#[test]
fn cameras_that_cannot_be_refined_are_the_networks_and_the_job_says_why() {
    let served = Served::new();
    let plain = served.job(&json!({}));
    // The originals are gone, and the frames of 112 x 84 pixels that are kept have too few corners.
    let asked = served.rerun(plain, &json!({"refine": true}));
    assert_eq!(served.poses(asked), served.poses(plain));
    let report = served.refinement(asked);
    assert_eq!(report["accepted"], false, "{report}");
    assert!(served.warnings(asked).contains(&json!("not_refined")));
}
