use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::*;

/// Rounding of some dozen f64 operations on numbers near 10.
const TOLERANCE: f64 = 1e-9;

fn file(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn message(path: &Path) -> String {
    read(path).unwrap_err().to_string()
}

fn close(found: &Affine, expected: &Affine) -> bool {
    let pairs = found.0.iter().flatten().zip(expected.0.iter().flatten());
    pairs.into_iter().all(|(a, b)| (a - b).abs() < TOLERANCE)
}

/// A camera at (1, 2, 3) that looks along the world's x axis, its y axis down the world's z: camera_from_world.
const POSE: Affine = Affine([
    [0.0, -1.0, 0.0, 2.0],
    [0.0, 0.0, -1.0, 3.0],
    [1.0, 0.0, 0.0, -1.0],
]);

/// Its quaternion w, x, y, z.
const QUATERNION: [f64; 4] = [0.5, 0.5, -0.5, 0.5];

fn lens(camera: &KnownCamera) -> [f64; 4] {
    camera.lens.unwrap().in_photo([640, 480]).unwrap().pinhole
}

const CAMERAS_TXT: &str =
    "# a comment\n\n1 PINHOLE 640 480 500 510 320 240\n2 SIMPLE_RADIAL 640 480 505 321 239 0.01\n";

fn colmap_text(dir: &TempDir) {
    let [w, x, y, z] = QUATERNION;
    file(dir, "cameras.txt", CAMERAS_TXT);
    let images = format!(
        "# IMAGE_ID ...\n1 {w} {x} {y} {z} 2 3 -1 1 a/one.png\n1.5 2.5 -1 3 4 7\n2 1 0 0 0 0 0 0 2 my photo.png\n\n"
    );
    file(dir, "images.txt", images);
}

fn colmap_binary(names: &[&str], observations: u64) -> (Vec<u8>, Vec<u8>) {
    let mut cameras = 1_u64.to_le_bytes().to_vec();
    cameras.extend(7_u32.to_le_bytes());
    cameras.extend(0_i32.to_le_bytes());
    [640_u64, 480]
        .iter()
        .for_each(|side| cameras.extend(side.to_le_bytes()));
    [500.0_f64, 320.0, 240.0]
        .iter()
        .for_each(|p| cameras.extend(p.to_le_bytes()));
    let mut images = (names.len() as u64).to_le_bytes().to_vec();
    for name in names {
        images.extend(1_u32.to_le_bytes());
        QUATERNION
            .iter()
            .for_each(|q| images.extend(q.to_le_bytes()));
        [2.0_f64, 3.0, -1.0]
            .iter()
            .for_each(|t| images.extend(t.to_le_bytes()));
        images.extend(7_u32.to_le_bytes());
        images.extend(name.as_bytes());
        images.push(0);
        images.extend(observations.to_le_bytes());
        images.resize(images.len() + 24 * observations as usize, 0);
    }
    (cameras, images)
}

#[test]
fn a_colmap_model_is_read_in_both_forms() {
    let dir = TempDir::new().unwrap();
    colmap_text(&dir);
    let found = read(dir.path()).unwrap();
    assert_eq!((found.format, found.cameras.len()), ("colmap", 2));
    assert_eq!(found.cameras[0].name, "a/one.png");
    assert!(close(&found.cameras[0].camera_from_world.unwrap(), &POSE));
    assert_eq!(lens(&found.cameras[0]), [500.0, 510.0, 320.0, 240.0]);
    assert_eq!(found.cameras[1].name, "my photo.png");
    assert_eq!(lens(&found.cameras[1]), [505.0, 505.0, 321.0, 239.0]);
    // A part of the model stands for its folder.
    assert_eq!(read(&dir.path().join("images.txt")).unwrap(), found);

    let (cameras, images) = colmap_binary(&["a.png", "b.png"], 3);
    file(&dir, "cameras.bin", cameras);
    file(&dir, "images.bin", images);
    let found = read(dir.path()).unwrap();
    let names: Vec<&str> = found.cameras.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["a.png", "b.png"], "the binary form wins");
    assert!(close(&found.cameras[1].camera_from_world.unwrap(), &POSE));
    assert_eq!(lens(&found.cameras[1]), [500.0, 500.0, 320.0, 240.0]);
}

#[test]
fn damaged_models_are_refused_by_line_or_record() {
    let text = |cameras: &str, images: &str| {
        let dir = TempDir::new().unwrap();
        file(&dir, "cameras.txt", cameras);
        file(&dir, "images.txt", images);
        message(dir.path())
    };
    let image = "1 1 0 0 0 0 0 0 1 a.png\n\n";
    for (cameras, images, expected) in [
        (
            "1 FISHEYE 4 3 1 1 1",
            image,
            "line 1: there is no camera model \"FISHEYE\"",
        ),
        (
            "1 OPENCV_FISHEYE 4 3 1 1 1 1 0 0 0 0",
            image,
            "undistort the images first",
        ),
        (
            "1 PINHOLE 4 3 1 1 1",
            image,
            "line 1: the line ends before PARAMS",
        ),
        (
            "1 PINHOLE 4 3 1 nan 1 1",
            image,
            "expected a number as PARAMS, got \"nan\"",
        ),
        ("1 PINHOLE 4 3 -1 1 1 1", image, "must be positive"),
        (
            "1 PINHOLE 4 3 1 1 1 1",
            "1 0 0 0 0 0 0 0 1 a.png",
            "line 1: its pose holds NaN",
        ),
        (
            "1 PINHOLE 4 3 1 1 1 1",
            "1 1 0 0 0 0 0 0 1",
            "expected the name",
        ),
        (
            "1 PINHOLE 4 3 1 1 1 1",
            "1 1 0 0 0 0 0 0 9 a.png",
            "image \"a.png\": there is no camera 9",
        ),
        ("1 PINHOLE 4 3 1 1 1 1", "", "it holds no camera"),
        ("1 PINHOLE 4 3 1 1 1 1", "# only\n", "it holds no camera"),
    ] {
        let found = text(cameras, images);
        assert!(found.contains(expected), "{found}: {expected}");
    }
    let binary = |cameras: &[u8], images: &[u8]| {
        let dir = TempDir::new().unwrap();
        file(&dir, "cameras.bin", cameras);
        file(&dir, "images.bin", images);
        read(dir.path())
    };
    let (cameras, images) = colmap_binary(&["a.png"], 2);
    assert!(binary(&cameras, &images).is_ok());
    // Cut anywhere: an error, and never a panic.
    for end in 0..images.len() {
        assert!(binary(&cameras, &images[..end]).is_err(), "{end}");
    }
    for end in 0..cameras.len() {
        assert!(binary(&cameras[..end], &images).is_err(), "{end}");
    }
    // Numbers that no file can hold.
    let mut claims = images.clone();
    claims[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let e = binary(&cameras, &claims).unwrap_err().to_string();
    assert!(e.contains("records, and the limit is"), "{e}");
    let at = images.len() - 2 * 24 - 8;
    for observations in [3, u64::MAX, u64::MAX / 24, 1 << 40] {
        let mut claims = images.clone();
        claims[at..at + 8].copy_from_slice(&observations.to_le_bytes());
        let e = binary(&cameras, &claims).unwrap_err().to_string();
        assert!(e.contains("image 1: the file ends in it"), "{e}");
    }
}

#[test]
fn transforms_have_opengl_axes_and_lenses_for_all_or_each() {
    let dir = TempDir::new().unwrap();
    // world_from_camera of POSE, whose y and z axes point the other way in OpenGL.
    let text = r#"{"fl_x": 400, "cx": 320, "cy": 240, "w": 640, "h": 480, "k1": 0.0, "frames": [
        {"file_path": "./images/a.png", "fl_x": 500, "fl_y": 510,
         "transform_matrix": [[0, 0, -1, 1], [-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]},
        {"file_path": "images/b"}]}"#;
    let path = file(&dir, "transforms.json", text);
    let found = read(&path).unwrap();
    assert_eq!(read(dir.path()).unwrap(), found);
    assert!(close(&found.cameras[0].camera_from_world.unwrap(), &POSE));
    assert_eq!(lens(&found.cameras[0]), [500.0, 510.0, 320.0, 240.0]);
    assert_eq!(found.cameras[1].camera_from_world, None);
    assert_eq!(lens(&found.cameras[1]), [400.0, 400.0, 320.0, 240.0]);
    let text = r#"{"camera_angle_x": 1.5707963267948966, "frames": [{"file_path": "a"}]}"#;
    let found = read(&file(&dir, "angle.json", text)).unwrap();
    assert!((lens(&found.cameras[0])[0] - 320.0).abs() < TOLERANCE);
}

#[test]
fn transforms_that_cannot_be_used_are_refused_by_frame() {
    let dir = TempDir::new().unwrap();
    let of = |text: &str| message(&file(&dir, "t.json", text));
    let frame = |rest: &str| {
        of(&format!(
            r#"{{"frames": [{{"file_path": "a.png"{rest}}}]}}"#
        ))
    };
    let matrix = |rows: &str| frame(&format!(r#", "transform_matrix": {rows}"#));
    for (found, expected) in [
        (of("{"), "line 1: not JSON"),
        (of("[]"), "expected an object with \"frames\""),
        (of("{}"), "expected \"frames\", a list"),
        (of(r#"{"frames": []}"#), "it holds no camera"),
        (of(r#"{"frames": [7]}"#), "frame 0: expected an object"),
        (
            of(r#"{"frames": [{"transform_matrix": []}]}"#),
            "expected \"file_path\"",
        ),
        (
            frame(""),
            "frame 0 (\"a.png\"): expected \"transform_matrix\" or \"fl_x\"",
        ),
        (frame(r#", "fl_x": "7""#), "expected a number as \"fl_x\""),
        (frame(r#", "fl_x": 0"#), "must be that of a lens"),
        (
            frame(r#", "fl_x": 7, "cx": 3"#),
            "\"cx\" and \"cy\" must both be there",
        ),
        (
            frame(r#", "fl_x": 7, "camera_model": "OPENCV_FISHEYE""#),
            "OPENCV_FISHEYE cannot be used",
        ),
        (frame(r#", "fl_x": 7, "k3": 0.1"#), "the coefficient \"k3\""),
        (matrix("[[1, 0], [0, 1]]"), "expected 4 rows of 4"),
        (
            matrix("[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, \"0\"]]"),
            "expected 4 rows of 4",
        ),
        (
            matrix("[[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]]"),
            "it scales, shears or mirrors",
        ),
        (
            matrix("[[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]"),
            "it scales, shears or mirrors",
        ),
    ] {
        assert!(found.contains(expected), "{found}: {expected}");
    }
}

#[test]
fn a_table_has_lenses_or_poses_or_both() {
    let dir = TempDir::new().unwrap();
    let both = "\u{feff}Name, fx,fy,cx,cy,width,height,qw,qx,qy,qz,tx,ty,tz\r\n\
        \"a, 1.png\",500,510,320,240,640,480,0.5,0.5,-0.5,0.5,2,3,-1\r\n\
        b.png,,,,,,,0.5,0.5,-0.5,0.5,2,3,-1\n\
        c.png,505,,,,,,,,,,,,\n";
    let found = read(&file(&dir, "t.csv", both)).unwrap();
    assert_eq!(found.cameras[0].name, "a, 1.png");
    assert_eq!(lens(&found.cameras[0]), [500.0, 510.0, 320.0, 240.0]);
    assert!(close(&found.cameras[0].camera_from_world.unwrap(), &POSE));
    assert!(found.cameras[1].lens.is_none() && found.cameras[1].camera_from_world.is_some());
    assert_eq!(lens(&found.cameras[2]), [505.0, 505.0, 320.0, 240.0]);
    assert_eq!(found.cameras[2].camera_from_world, None);
    for (text, expected) in [
        ("", "it holds no camera"),
        ("fx,cx\n1,2\n", "line 1: expected a header such as"),
        ("name,qw\na,1\n", "line 1: expected a header such as"),
        ("name,fx,FX\n", "the columns 2 and 3 have the same name"),
        ("name,fx\n,5\n", "line 2: expected a name"),
        (
            "name,fx\na,x\n",
            "line 2: expected a number as fx, got \"x\"",
        ),
        (
            "name,fx,cx,cy\na,1,2,\n",
            "line 2: cx and cy must both be there",
        ),
        ("name,fx\n\"a,5\n", "line 2: a quote is not closed"),
    ] {
        let found = message(&file(&dir, "bad.csv", text));
        assert!(found.contains(expected), "{found}: {expected}");
    }
}

#[test]
fn lines_have_a_limit_and_files_of_other_kinds_are_named() {
    let dir = TempDir::new().unwrap();
    let long = format!("name,fx\n{},5\n", "a".repeat(70_000));
    let found = message(&file(&dir, "long.csv", long));
    assert!(
        found.contains("line 2: the line is longer than 64 KiB"),
        "{found}"
    );
    let found = message(&file(&dir, "bytes.csv", b"name,fx\n\xff,5\n"));
    assert!(found.contains("line 2: the line is not UTF-8"), "{found}");
    let found = message(&file(&dir, "x.ply", "ply"));
    assert!(found.contains("expected a COLMAP folder"), "{found}");
    assert!(message(&dir.path().join("none.json")).contains("none.json"));
    let empty = TempDir::new().unwrap();
    assert!(message(empty.path()).contains("cannot find cameras in"));
}

fn named(names: &[&str]) -> KnownCameras {
    let cameras = names.iter().map(|name| KnownCamera {
        name: (*name).to_owned(),
        lens: None,
        camera_from_world: Some(POSE),
    });
    KnownCameras::named("table", cameras.collect())
}

fn matched(known: &KnownCameras, frames: &[&str]) -> Result<Vec<Option<String>>, String> {
    let frames: Vec<String> = frames.iter().map(|name| (*name).to_owned()).collect();
    let found = known.of_frames(&frames, &[]).map_err(|e| e.to_string())?;
    Ok(found
        .into_iter()
        .map(|camera| camera.map(|camera| camera.name.clone()))
        .collect())
}

#[test]
fn names_match_from_the_whole_path_to_the_stem() {
    let some = |name: &str| Some(name.to_owned());
    let known = named(&[
        "./images/a.png",
        "left/1.jpg",
        "right/1.jpg",
        "my_photo.jpg",
        "c",
    ]);
    let found = matched(
        &known,
        &[
            "a.png",
            "left/1.jpg",
            "right/1.jpg",
            "my photo.heic",
            "c.png",
            "d.png",
        ],
    );
    let expected = [
        some("./images/a.png"),
        some("left/1.jpg"),
        some("right/1.jpg"),
        some("my_photo.jpg"),
        some("c"),
        None,
    ];
    assert_eq!(found.unwrap(), expected);
    // A camera that belongs to one frame as a whole is not another's by its file name.
    let found = matched(&named(&["a/1.jpg"]), &["b/1.jpg", "a/1.jpg"]).unwrap();
    assert_eq!(found, [None, some("a/1.jpg")]);
    let found = matched(&named(&["x/a/1.jpg", "x/b/1.jpg"]), &["b/1.jpg"]).unwrap();
    assert_eq!(found, [some("x/b/1.jpg")]);
}

#[test]
fn names_that_could_mean_several_are_errors() {
    let e = matched(&named(&["left/1.jpg", "right/1.jpg"]), &["1.jpg"]).unwrap_err();
    assert!(
        e.contains("\"1.jpg\": \"left/1.jpg\", \"right/1.jpg\" match"),
        "{e}"
    );
    let e = matched(&named(&["1.jpg", "1.jpg"]), &["1.jpg"]).unwrap_err();
    assert!(e.contains("match"), "{e}");
    let e = matched(&named(&["a"]), &["a.png", "a.jpg"]).unwrap_err();
    assert!(e.contains("\"a.png\" or \"a.jpg\""), "{e}");
    let e = matched(&named(&["x.png"]), &["a.png"]).unwrap_err();
    assert!(e.contains("none of 1 belongs to one of 1 frames"), "{e}");
}

#[test]
fn a_trajectory_matches_times_of_a_video_and_numbers_of_photos() {
    let dir = TempDir::new().unwrap();
    let lines = "# timestamp tx ty tz qx qy qz qw\n0 1 2 3 -0.5 0.5 -0.5 0.5\n1 1 2 3 -0.5 0.5 -0.5 0.5\n2.5 0 0 0 0 0 0 1\n";
    let known = read(&file(&dir, "t.tum", lines)).unwrap();
    assert!(close(&known.cameras[0].camera_from_world.unwrap(), &POSE));
    let names: Vec<String> = (0..3).map(|i| format!("{i}.png")).collect();
    let found = known.of_frames(&names, &[0.99, 2.515, 1.5]).unwrap();
    let found: Vec<_> = found.into_iter().map(|c| c.map(|c| &*c.name)).collect();
    assert_eq!(found, [Some("1"), Some("2.5"), None]);
    let e = known.of_frames(&names, &[]).unwrap_err().to_string();
    assert!(e.contains("2.5 is none"), "{e}");
    let photos = read(&file(&dir, "p.txt", "0 0 0 0 0 0 0 1\n2 1 0 0 0 0 0 1\n")).unwrap();
    let found = photos.of_frames(&names, &[]).unwrap();
    let found: Vec<_> = found.into_iter().map(|c| c.map(|c| &*c.name)).collect();
    assert_eq!(found, [Some("0"), None, Some("2")]);
    let e = message(&file(&dir, "bad.tum", "0 1 2\n"));
    assert!(e.contains("line 1: the line ends before tz"), "{e}");
}
