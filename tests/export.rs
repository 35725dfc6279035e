//! `vggt export` as a user calls it: flags, files, exit codes, and the demo scene's numbers against PyTorch and the
//! truth.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    checked, command, fail, files, glb::Glb, repository, run, summary, text, vggt,
};

/// ‖a - b‖ / ‖b‖ against PyTorch's predictions from the same 8-bit frames.
const DEMO_TOLERANCE: f64 = 5e-5;

fn load(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn numbers(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (numbers(a), numbers(b));
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = b.iter().map(|b| b * b).sum();
    (difference / size).sqrt()
}

#[test]
fn the_demo_needs_no_file_and_tells_what_it_wrote() {
    let dir = TempDir::new().unwrap();
    let out = checked("export_demo.glb");
    let said = summary(dir.path(), &["--demo", "--out", text(&out)]);
    assert_eq!(said["frames"], 8);
    assert_eq!((&said["width"], &said["height"]), (&112.into(), &84.into()));
    assert_eq!(said["weights"], "demo.safetensors");
    assert_eq!(said["weights_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(said["device"], "cpu");
    assert_eq!(said["bytes"], fs::metadata(&out).unwrap().len());
    // A tenth of 8 x 84 x 112 pixels is dropped.
    assert_eq!(said["points"], 67_737);
    let glb = Glb::parse(&fs::read(&out).unwrap());
    let extras = &glb.json["asset"]["extras"];
    assert_eq!(extras["unit"], "arbitrary");
    assert_eq!(
        (&extras["frames"], &extras["frames_given"]),
        (&8.into(), &8.into())
    );
    assert_eq!(extras["weights_sha256"], said["weights_sha256"]);
    assert_eq!(extras["options"]["prediction_mode"], "Depthmap and Camera");
    assert_eq!(extras["options"]["conf_thres"], 10.0);
}

#[test]
fn the_demo_scene_is_what_pytorch_makes_of_it_and_near_the_truth() {
    let dir = TempDir::new().unwrap();
    let saved = dir.path().join("p.safetensors");
    run(
        dir.path(),
        &["export", "--demo", "--save_predictions", text(&saved)],
    );
    let ours = load(&saved);
    for (name, reference) in load(&repository("tests/data/demo/predictions.safetensors")) {
        let error = relative_error(&ours[&name], &reference);
        println!("{name} {error:.2e}");
        assert!(error <= DEMO_TOLERANCE, "{name}: {error:e}");
    }

    // The figures of the checkpoint's own documentation, rounded up.
    let truth = load(&repository("tests/data/demo/ground_truth.safetensors"));
    let (abs_rel, delta) = depth_quality(&ours["depth"], &truth["depth"]);
    let (rotation, translation) = pose_quality(&ours["extrinsic"], &truth["extrinsic"]);
    println!(
        "AbsRel {abs_rel:.4} delta {delta:.4} rotation {rotation:.2} translation {translation:.2}"
    );
    assert!(abs_rel < 0.034 && delta > 0.992, "{abs_rel} {delta}");
    assert!(
        rotation < 2.5 && translation < 7.8,
        "{rotation} {translation}"
    );
}

/// Of the demo's predictions with linear layers and attention in 16-bit integers. Measured: 2.5e-5; three times that for other
/// processors.
const FAST_DEMO_TOLERANCE: f64 = 8e-5;

#[test]
fn the_fast_precision_stays_near_pytorch_and_near_the_truth() {
    let dir = TempDir::new().unwrap();
    let saved = dir.path().join("p.safetensors");
    let fast = ["export", "--demo", "--precision", "fast"];
    let save = ["--save_predictions", text(&saved)];
    run(dir.path(), &[&fast[..], &save].concat());
    let ours = load(&saved);
    let mut worst = 0f64;
    for (name, reference) in load(&repository("tests/data/demo/predictions.safetensors")) {
        let error = relative_error(&ours[&name], &reference);
        println!("{name} {error:.2e}");
        worst = worst.max(error);
    }
    assert!(worst <= FAST_DEMO_TOLERANCE, "{worst:e}");
    // Not the exact one under another name, which is off by 3e-7, where the processor has both.
    assert!(vggt_model::Isa::best().is_none() || worst > 3e-6);
    let truth = load(&repository("tests/data/demo/ground_truth.safetensors"));
    let (abs_rel, delta) = depth_quality(&ours["depth"], &truth["depth"]);
    let (rotation, translation) = pose_quality(&ours["extrinsic"], &truth["extrinsic"]);
    println!(
        "AbsRel {abs_rel:.4} delta {delta:.4} rotation {rotation:.2} translation {translation:.2}"
    );
    assert!(abs_rel < 0.034 && delta > 0.992, "{abs_rel} {delta}");
    assert!(
        rotation < 2.5 && translation < 7.8,
        "{rotation} {translation}"
    );
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let dir = TempDir::new().unwrap();
    let files = [("1", "exact"), ("3", "exact"), ("1", "fast"), ("3", "fast")];
    let [one, three, fast_one, fast_three] = files.map(|(threads, precision)| {
        let saved = dir.path().join(format!("{threads}{precision}.safetensors"));
        let how = ["--threads", threads, "--precision", precision];
        let save = ["export", "--demo", "--save_predictions", text(&saved)];
        run(dir.path(), &[&save[..], &how].concat());
        load(&saved)
    });
    let same = |a: &HashMap<String, Tensor>, b: &HashMap<String, Tensor>| {
        a.iter()
            .all(|(name, tensor)| numbers(tensor) == numbers(&b[name]))
    };
    assert!(same(&one, &three) && same(&fast_one, &fast_three));
}

/// Mean relative error and the share of pixels within 1.25, after one scale for the whole scene.
fn depth_quality(ours: &Tensor, truth: &Tensor) -> (f64, f64) {
    let (ours, truth) = (numbers(ours), numbers(truth));
    let ratios: Vec<f64> = truth.iter().zip(&ours).map(|(t, o)| t / o).collect();
    let scale = median(ratios.clone());
    let n = ratios.len() as f64;
    let abs_rel = ratios.iter().map(|r| (scale / r - 1.0).abs()).sum::<f64>() / n;
    let near = |r: &&f64| (scale / **r).max(**r / scale) < 1.25;
    (abs_rel, ratios.iter().filter(near).count() as f64 / n)
}

/// Median angle in degrees between the relative rotations, and between the directions of the relative translations, of
/// all pairs of frames.
fn pose_quality(ours: &Tensor, truth: &Tensor) -> (f64, f64) {
    let poses = |t: &Tensor| -> Vec<[[f64; 4]; 3]> {
        let flat = numbers(t);
        flat.chunks_exact(12)
            .map(|p| [0, 1, 2].map(|r| [0, 1, 2, 3].map(|c| p[r * 4 + c])))
            .collect()
    };
    // second_from_first = second · first⁻¹
    let relative = |first: &[[f64; 4]; 3], second: &[[f64; 4]; 3]| {
        let mut out = [[0.0; 4]; 3];
        for r in 0..3 {
            for c in 0..3 {
                out[r][c] = (0..3).map(|k| second[r][k] * first[c][k]).sum();
            }
            out[r][3] = second[r][3] - (0..3).map(|k| out[r][k] * first[k][3]).sum::<f64>();
        }
        out
    };
    let degrees = |cosine: f64| cosine.clamp(-1.0, 1.0).acos().to_degrees();
    let (ours, truth) = (poses(ours), poses(truth));
    let (mut rotations, mut translations) = (Vec::new(), Vec::new());
    for i in 0..ours.len() {
        for j in i + 1..ours.len() {
            let (a, b) = (relative(&ours[i], &ours[j]), relative(&truth[i], &truth[j]));
            let trace: f64 = (0..9).map(|k| a[k / 3][k % 3] * b[k / 3][k % 3]).sum();
            rotations.push(degrees((trace - 1.0) / 2.0));
            let dot: f64 = (0..3).map(|k| a[k][3] * b[k][3]).sum();
            let length = |m: &[[f64; 4]; 3]| (0..3).map(|k| m[k][3].powi(2)).sum::<f64>().sqrt();
            translations.push(degrees(dot / (length(&a) * length(&b))));
        }
    }
    (median(rotations), median(translations))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

#[test]
fn saved_predictions_give_the_same_file_again_and_other_options_another() {
    let dir = TempDir::new().unwrap();
    let demo = [
        "export",
        "--demo",
        "--out",
        "a.glb",
        "--save_predictions",
        "p.safetensors",
    ];
    run(dir.path(), &demo);
    let again = |out: &str, more: &[&str]| {
        let mut args = vec![
            "export",
            "--from_predictions",
            "p.safetensors",
            "--out",
            out,
        ];
        args.extend([
            "--conf_thres",
            "10",
            "--prediction_mode",
            "Depthmap and Camera",
        ]);
        args.extend(more);
        run(dir.path(), &args);
        fs::read(dir.path().join(out)).unwrap()
    };
    let first = fs::read(dir.path().join("a.glb")).unwrap();
    assert_eq!(again("b.glb", &[]), first);
    assert!(again("c.glb", &["--mask_white_bg", "--max_points", "1000"]).len() < first.len() / 10);
}

#[test]
fn underscores_and_dashes_spell_the_same_flags() {
    let dir = TempDir::new().unwrap();
    let demo = |flags: &[&str]| {
        let mut args = vec!["--demo", "--max_frames", "2", "--out", "o.glb"];
        args.extend(flags);
        let said = summary(dir.path(), &args);
        (
            said["points"].clone(),
            fs::read(dir.path().join("o.glb")).unwrap(),
        )
    };
    let older = demo(&[
        "--conf_thres=25.0",
        "--frame_filter",
        "1: frame_07.png",
        "--mask_black_bg",
        "--mask_white_bg",
        "--show_cam",
        "--prediction_mode",
        "Predicted Pointmap",
    ]);
    let newer = demo(&[
        "--conf-thres",
        "25",
        "--frame-filter=1",
        "--mask-black-bg",
        "--mask-white-bg",
        "--show-cam",
        "--prediction-mode=pointmap regression",
    ]);
    assert_eq!(older, newer);
}

#[test]
fn a_folder_files_and_a_video_are_all_inputs() {
    let dir = TempDir::new().unwrap();
    let frames = repository("model/demo/frames");
    let clip = repository("model/demo/clip.mp4");
    let (one, two) = (frames.join("frame_05.png"), frames.join("frame_02.png"));
    let names = |args: &[&str]| -> Vec<String> {
        let mut all = vec!["--demo", "--out", "o.glb"];
        all.extend(args);
        let said = summary(dir.path(), &all);
        serde_json::from_value(said["names"].clone()).unwrap()
    };
    assert_eq!(names(&["--images_dir", text(&frames)]).len(), 8);
    assert_eq!(names(&[text(&frames)]).len(), 8);
    // Files keep the order they are given in.
    let given = names(&[text(&one), text(&two)]);
    assert_eq!(given, ["frame_05.png", "frame_02.png"]);
    assert_eq!(names(&[text(&one)]), ["frame_05.png"]);
    let by_flag = names(&["--video_path", text(&clip), "--fps", "4"]);
    assert!(
        by_flag.len() > 1 && by_flag[0].starts_with("frame_0000"),
        "{by_flag:?}"
    );
    assert_eq!(names(&["--images_dir", text(&clip), "--fps", "4"]), by_flag);
    assert_eq!(names(&[text(&clip), "--fps", "4"]), by_flag);
    let thinned = names(&[text(&frames), "--max_frames", "3"]);
    assert_eq!(thinned, ["frame_00.png", "frame_04.png", "frame_07.png"]);
}

#[test]
fn frames_that_were_left_out_are_told_wherever_the_frames_are() {
    let dir = TempDir::new().unwrap();
    let clip = repository("model/demo/clip.mp4");
    let told = |inputs: &[&str]| {
        let mut args = vec!["--out", "o.glb"];
        args.extend(inputs);
        let said = summary(dir.path(), &args);
        let glb = Glb::parse(&fs::read(dir.path().join("o.glb")).unwrap());
        let extras = &glb.json["asset"]["extras"];
        for key in ["frames", "frames_given"] {
            assert_eq!(extras[key], said[key], "{key} of {inputs:?}");
        }
        [&said["frames"], &said["frames_given"]].map(|n| n.as_u64().unwrap())
    };
    let thin = [
        "--demo",
        "--max_frames",
        "3",
        "--save_predictions",
        "p.safetensors",
    ];
    assert_eq!(told(&thin), [3, 8]);
    assert_eq!(told(&["--from_predictions", "p.safetensors"]), [3, 8]);
    let of_clip = ["--demo", text(&clip), "--fps", "4"];
    let [all, given] = told(&of_clip);
    assert_eq!(all, given);
    assert_eq!(
        told(&[&of_clip[..], &["--max_frames", "2"]].concat()),
        [2, all]
    );
    let line = run(dir.path(), &["export", "--demo", "--max_frames", "3"]);
    assert!(
        line.contains(" points from 3 of 8 frames of 112 x 84"),
        "{line}"
    );
}

#[test]
fn the_summary_counts_what_the_scene_shows() {
    let dir = TempDir::new().unwrap();
    let says = |args: &[&str], words: &str| {
        let line = run(dir.path(), &[&["export", "--demo"], args].concat());
        assert!(line.contains(words), "{args:?}: {line}");
    };
    says(&[], " points from 8 frames of");
    says(&["--frame_filter", "3"], " points from 1 of 8 frames of");
    says(&["--max_frames", "1"], " points from 1 of 8 frames of");
    says(&["--max_points", "1"], ": 1 point from 8 frames of");
    let frame = repository("model/demo/frames/frame_00.png");
    says(&[text(&frame)], " points from 1 frame of");
    let said = summary(dir.path(), &["--demo", "--frame_filter", "3"]);
    assert_eq!(
        (&said["frames"], &said["frames_shown"]),
        (&8.into(), &1.into())
    );
}

#[test]
fn the_demo_weights_say_what_they_are_not() {
    let dir = TempDir::new().unwrap();
    let photo = repository("tests/data/frames/preprocess/photo.jpg");
    let output = vggt(dir.path(), &["export", "--demo", text(&photo)]);
    assert!(output.status.success());
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("only know synthetic scenes"), "{err}");
    assert_eq!(files(dir.path()), ["scene.glb"]);
}

#[test]
fn every_format_has_its_files_and_a_folder_gets_a_telling_name() {
    let dir = TempDir::new().unwrap();
    let demo = |args: &[&str]| {
        let mut all = vec!["--demo", "--max_frames", "3"];
        all.extend(args);
        summary(dir.path(), &all)
    };
    let out = checked("export_quantized.glb");
    demo(&["--glb", "quantized", "--show_cam", "--out", text(&out)]);
    let out = checked("export_srgb.glb");
    demo(&["--color_space", "srgb", "--out", text(&out)]);

    let said = demo(&["--out", "scene.ply"]);
    assert_eq!(said["format"], "ply");
    let ply = fs::read(dir.path().join("scene.ply")).unwrap();
    assert!(ply.starts_with(b"ply\nformat binary_little_endian 1.0\n"));

    let said = demo(&["--show_cam", "--out", "many/"]);
    assert_eq!(said["out"], "many/scene_depthmap_conf10_cam.glb");
    assert_eq!(
        files(&dir.path().join("many")),
        ["scene_depthmap_conf10_cam.glb"]
    );

    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join("colmap/export_demo");
    let _ = fs::remove_dir_all(&model);
    demo(&[
        "--format",
        "colmap",
        "--max_points",
        "2000",
        "--out",
        text(&model),
    ]);
    let expected = [
        "cameras.bin",
        "cameras.txt",
        "images.bin",
        "images.txt",
        "points3D.bin",
        "points3D.txt",
    ];
    assert_eq!(files(&model.join("sparse/0")), expected);
    let cameras = fs::read_to_string(model.join("sparse/0/cameras.txt")).unwrap();
    assert!(cameras.contains("PINHOLE 280 210 "), "{cameras}");
    let images = fs::read_to_string(model.join("sparse/0/images.txt")).unwrap();
    assert!(images.contains("frame_04.png"), "{images}");
}

#[test]
fn depth_pictures_hold_the_depth() {
    let dir = TempDir::new().unwrap();
    let args = [
        "export",
        "--demo",
        "--max_frames",
        "2",
        "--save_depth",
        "depth",
    ];
    run(
        dir.path(),
        &[&args[..], &["--save_predictions", "p.safetensors"]].concat(),
    );
    let depth = dir.path().join("depth");
    let expected = [
        "depth.json",
        "frame_00_depth.png",
        "frame_00_depth_color.png",
        "frame_07_depth.png",
        "frame_07_depth_color.png",
    ];
    assert_eq!(files(&depth), expected);
    let about: Value =
        serde_json::from_slice(&fs::read(depth.join("depth.json")).unwrap()).unwrap();
    let unit = about["units_per_value"].as_f64().unwrap();
    let picture = image::open(depth.join("frame_00_depth.png")).unwrap();
    assert_eq!(picture.color(), image::ColorType::L16);
    let predicted = numbers(
        &load(&dir.path().join("p.safetensors"))["depth"]
            .get(0)
            .unwrap(),
    );
    for (pixel, depth) in picture.into_luma16().pixels().zip(predicted) {
        // Half a step of rounding, and the last digit of F32.
        assert!((f64::from(pixel.0[0]) * unit - depth).abs() <= 0.51 * unit);
    }
}

#[test]
fn points_are_followed_with_weights_that_can() {
    let dir = TempDir::new().unwrap();
    let weights = repository("model/tests/data/tiny/model.pt");
    let frames = repository("model/demo/frames");
    let track = |points: &str, code: i32| {
        let args = [
            "export",
            "--checkpoint",
            text(&weights),
            "--max_frames",
            "3",
            text(&frames),
        ];
        let more = [
            "--query_points",
            points,
            "--save_predictions",
            "p.safetensors",
        ];
        let output = vggt(dir.path(), &[&args[..], &more].concat());
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{err}");
        err
    };
    track("10,20; 30.5,40", 0);
    let saved = load(&dir.path().join("p.safetensors"));
    assert_eq!(saved["track"].dims(), [3, 2, 2]);
    assert_eq!(saved["vis"].dims(), [3, 2]);
    assert_eq!(saved["conf"].dims(), [3, 2]);
    let asked = [10.0, 20.0, 30.5, 40.0];
    assert_eq!(numbers(&saved["query_points"]), asked);
    assert_eq!(numbers(&saved["track"].get(0).unwrap()), asked);
    let err = track("10,2000", 2);
    assert!(err.contains("lies outside"), "{err}");

    let err = fail(
        dir.path(),
        1,
        &[
            "export",
            "--demo",
            "--query_points",
            "1,1",
            "--save_predictions",
            "q.safetensors",
        ],
    );
    assert!(err.contains("no track head"), "{err}");
}

#[test]
fn the_sky_is_dropped_with_the_network_given() {
    let dir = TempDir::new().unwrap();
    let sky = repository("tests/data/sky/tiny.onnx");
    let points = |args: &[&str]| {
        let mut all = vec![
            "--demo",
            "--max_frames",
            "2",
            "--conf_thres",
            "0",
            "--out",
            "o.glb",
        ];
        all.extend(args);
        summary(dir.path(), &all)["points"].as_u64().unwrap()
    };
    let all = points(&[]);
    let kept = points(&["--mask_sky", "--sky_network", text(&sky)]);
    assert_eq!(all, 2 * 84 * 112);
    assert!(kept > 0 && kept < all, "{kept} of {all}");

    // Without the file and without a network to fetch it over: told at once, before anything runs.
    let err = fail(
        dir.path(),
        1,
        &[
            "export",
            "--demo",
            "--mask_sky",
            "--offline",
            "--out",
            "never.glb",
        ],
    );
    assert!(
        err.contains("skyseg.onnx") && !dir.path().join("never.glb").exists(),
        "{err}"
    );
}

#[test]
fn wrong_calls_exit_with_2_and_name_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    for (args, word) in [
        (&["export"][..], "nothing to reconstruct"),
        (&["export", "--demo", "--conf_thres", "101"], "conf_thres"),
        (&["export", "--demo", "--conf_thres", "-1"], "conf_thres"),
        (
            &["export", "--demo", "--prediction_mode", "Depth"],
            "Pointmap Regression",
        ),
        (
            &["export", "--demo", "--frame_filter", "x.png"],
            "frame_filter",
        ),
        (
            &["export", "--demo", "--format", "obj"],
            "glb, html, ply, colmap or nerfstudio",
        ),
        (&["export", "--demo", "--device", "gpu"], "cuda:N"),
        (&["export", "--demo", "--max_frames", "0"], "max-frames"),
        (
            &[
                "export",
                "--demo",
                "--query_points",
                "1;2",
                "--save_predictions",
                "p",
            ],
            "x,y",
        ),
        (&["export", "--demo", "--no_such_flag"], "--no-such-flag"),
        (&["nonsense"], "nonsense"),
    ] {
        let err = fail(dir.path(), 2, args);
        assert!(err.contains(word), "{args:?}: {err}");
    }
    assert!(files(dir.path()).is_empty());
}

#[test]
fn failures_exit_with_1_name_the_file_and_leave_nothing() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    fs::write(
        here.join("page.pt"),
        "<!doctype html><html>not weights</html>",
    )
    .unwrap();
    fs::write(here.join("notes.txt"), "no picture").unwrap();
    fs::create_dir(here.join("empty")).unwrap();
    fs::write(here.join("empty.png"), b"").unwrap();
    fs::write(here.join("p.safetensors"), b"no safetensors file").unwrap();
    let before = files(here);
    let frames = repository("model/demo/frames");
    for (args, word) in [
        (&["export", "--demo", "no-such.png"][..], "no-such.png"),
        (&["export", "--demo", "notes.txt"], "notes.txt"),
        (&["export", "--demo", "empty"], "empty"),
        (
            &["export", "--demo", "empty.png"],
            "empty.png\": not an image",
        ),
        (
            &["export", "--demo", "--video_path", "notes.txt"],
            "notes.txt",
        ),
        (
            &["export", "--demo", "--out", "notes.txt/no/dir/a.glb"],
            "notes.txt/no/dir",
        ),
        (
            &["export", "--checkpoint", "page.pt", text(&frames)],
            "page.pt",
        ),
        (
            &["export", "--checkpoint", "gone.pt", text(&frames)],
            "gone.pt",
        ),
        (
            &["export", "--from_predictions", "p.safetensors"],
            "p.safetensors",
        ),
        (&["export", "--demo", "--frame_filter", "8"], "frame 8"),
        (&["export", "--demo", "--device", "cuda"], "cuda"),
        (&["export", "--demo", "--dtype", "bf16"], "f32"),
        (&["export", "--offline", text(&frames)], "vggt fetch"),
    ] {
        let err = fail(here, 1, args);
        assert!(err.contains(word), "{args:?}: {err}");
        assert_eq!(files(here), before, "{args:?}");
    }
}

#[test]
fn an_interrupt_ends_at_once_and_leaves_only_what_it_can_go_on_with() {
    let dir = TempDir::new().unwrap();
    let (input, out) = (dir.path().join("in"), dir.path().join("out"));
    fs::create_dir(&input).unwrap();
    fs::create_dir(&out).unwrap();
    // Enough frames to keep the network busy for several seconds.
    for i in 0..300 {
        let frame = format!("model/demo/frames/frame_0{}.png", i % 8);
        fs::copy(repository(&frame), input.join(format!("{i:03}.png"))).unwrap();
    }
    let mut child = command(&out)
        .env("VGGT_LOG", "vggt=debug")
        .args(["export", "--demo", "--max_frames", "300", text(&input)])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // From this line on the network runs.
    assert!(lines.any(|line| line.unwrap().contains("300 frames")));
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let last = lines.map(Result::unwrap).last().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(files(&out), [".scene.glb.vggt-spool"]);
    let folder = out.canonicalize().unwrap().join(".scene.glb.vggt-spool");
    let advice = format!("vggt export --resume {}", text(&folder));
    assert!(
        last.starts_with("interrupted; ") && last.ends_with(&advice),
        "{last}"
    );
}

#[test]
fn bench_prints_one_flat_object() {
    let dir = TempDir::new().unwrap();
    let config = repository("model/configs/demo.json");
    let args = [
        "bench", "--json", "--frames", "2", "--height", "84", "--width", "112",
    ];
    let random = ["--random", "--config", text(&config), "--threads", "1"];
    let said: Value =
        serde_json::from_str(&run(dir.path(), &[&args[..], &random].concat())).unwrap();
    let seconds = |name: &str| said[name].as_f64().unwrap();
    let stages = [
        "patch_embed",
        "frame_blocks",
        "global_blocks",
        "camera",
        "depth",
        "point",
    ];
    let sum: f64 = stages.iter().map(|name| seconds(name)).sum();
    assert!(stages.iter().all(|name| seconds(name) > 0.0));
    assert!(sum <= seconds("total"));
    assert!(said["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    assert_eq!(said["threads"], 1);
    let said = run(dir.path(), &[&args[..], &["--demo"]].concat());
    assert!(said.contains("\"weights\":\"demo.safetensors\""), "{said}");
}

#[test]
fn bench_measures_several_numbers_of_frames_and_goes_on_after_one_that_fails() {
    let dir = TempDir::new().unwrap();
    let config = repository("model/configs/demo.json");
    let args = [
        "bench",
        "--json",
        "--random",
        "--config",
        text(&config),
        "--width",
    ];
    let lines = |output: &[u8]| -> Vec<Value> {
        let text = String::from_utf8(output.to_vec()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let several = [
        "84",
        "--height",
        "84",
        "--frames",
        "1,3",
        "--repeat",
        "4",
        "--warm-up",
        "2",
    ];
    let output = vggt(dir.path(), &[&args[..], &several].concat());
    assert!(output.status.success());
    let said = lines(&output.stdout);
    assert_eq!(said.len(), 2);
    for (line, frames) in said.iter().zip([1, 3]) {
        assert_eq!(line["frames"], frames);
        assert_eq!((&line["repeat"], &line["warm_up"]), (&4.into(), &2.into()));
        let seconds = |name: &str| line[name].as_f64().unwrap();
        let totals = line["totals"].as_array().unwrap();
        assert_eq!(totals.len(), 4);
        assert!(seconds("total_min") <= seconds("total"));
        assert!(seconds("total") <= seconds("total_max"));
        assert!(
            totals
                .iter()
                .any(|total| total.as_f64() == Some(seconds("total_max")))
        );
        assert!(seconds("first") > 0.0);
        assert_eq!(line["device_asked"], "auto");
        assert_eq!(line["device"], "cpu");
    }

    // A height that is not a multiple of the patch size.
    let wrong = ["84", "--height", "85", "--frames", "1,2"];
    let output = vggt(dir.path(), &[&args[..], &wrong].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = lines(&output.stdout);
    assert_eq!(said.len(), 2);
    for line in said {
        assert!(
            line["error"].as_str().unwrap().contains("multiples of 14"),
            "{line}"
        );
    }
    let output = vggt(dir.path(), &["bench", "--frames", "1,0"]);
    assert_eq!(output.status.code(), Some(2));
}
