//! What testers broke outputs with: every case destroyed a file, or wrote two results into one.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, symlink},
    path::PathBuf,
    process::Command,
};

use tempfile::TempDir;

use crate::support::{NO_CACHE, fail, files, mkfifo, repository, run, text};

fn frame(i: usize) -> PathBuf {
    repository(&format!("model/demo/frames/frame_{i:02}.png"))
}

/// A folder with the first `n` frames of the demo in `name`.
fn photos(name: &str, n: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join(name)).unwrap();
    for i in 0..n {
        fs::copy(frame(i), dir.path().join(name).join(format!("{i}.png"))).unwrap();
    }
    dir
}

#[test]
fn photos_are_never_removed_with_the_images_of_an_earlier_run() {
    // The images of a dataset become the input of the next run, which uses fewer.
    let dir = photos("photos", 4);
    let here = dir.path();
    let colmap = ["--format", "colmap", "--out", "m"];
    run(
        here,
        &[&["export", "--demo", "photos"][..], &colmap].concat(),
    );
    let again = ["export", "--demo", "m/images", "--max_frames", "2"];
    run(here, &[&again[..], &colmap].concat());
    assert_eq!(files(&here.join("m/images")).len(), 4);
    // The folder of the images becomes a link to the photos.
    fs::remove_dir_all(here.join("m/images")).unwrap();
    symlink("../photos", here.join("m/images")).unwrap();
    for inputs in ["photos", "m/images"] {
        let args = ["export", "--demo", inputs, "--max_frames", "2"];
        run(here, &[&args[..], &colmap].concat());
        assert_eq!(files(&here.join("photos")).len(), 4, "{inputs}");
    }
}

#[test]
fn weights_in_a_folder_are_inputs() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    fs::create_dir(here.join("w")).unwrap();
    let demo = repository("model/demo/demo.safetensors");
    fs::copy(demo, here.join("w/model.safetensors")).unwrap();
    let before = fs::read(here.join("w/model.safetensors")).unwrap();
    let frame = frame(0);
    let args = [
        "export",
        text(&frame),
        "--checkpoint",
        "w",
        "--overwrite",
        "--save_predictions",
        "w/model.safetensors",
        "--out",
        "x.glb",
    ];
    assert!(fail(here, 2, &args).contains("it is an input"));
    assert!(fs::read(here.join("w/model.safetensors")).unwrap() == before);
}

#[test]
fn converted_weights_are_not_replaced_by_predictions() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    let tiny = repository("model/tests/data/tiny/model.pt");
    run(here, &["convert", text(&tiny), "w.safetensors"]);
    let args = ["export", "--demo", "--save_predictions", "w.safetensors"];
    assert!(fail(here, 1, &args).contains("--overwrite"));
}

#[test]
fn a_parent_of_a_folder_that_does_not_exist_is_refused() {
    let dir = photos("p", 1);
    let here = dir.path();
    fs::write(here.join("mine.glb"), "mine").unwrap();
    for out in ["no/../mine.glb", "p/no/../../mine.glb"] {
        let args = ["export", "--demo", "--overwrite", "--out", out];
        assert!(fail(here, 1, &args).contains("does not exist"));
    }
    run(
        here,
        &["export", "--demo", "--overwrite", "--out", "p/../new.glb"],
    );
    assert_eq!(fs::read(here.join("mine.glb")).unwrap(), b"mine");
    assert_eq!(files(here), ["mine.glb", "new.glb", "p"]);
}

#[test]
fn open_files_are_written_at_their_own_position_or_not_at_all() {
    let dir = photos("p", 1);
    let here = dir.path();
    let shell = |script: &str| {
        let script = script.replace("VGGT", env!("CARGO_BIN_EXE_vggt"));
        let output = Command::new("sh")
            .env("XDG_CACHE_HOME", NO_CACHE)
            .args(["-c", &script])
            .current_dir(here)
            .output();
        output.unwrap().status.code()
    };
    let photo = fs::read(here.join("p/0.png")).unwrap();
    let code = shell("exec VGGT export --demo p/0.png --format ply --out /dev/fd/3 3<p/0.png");
    assert_eq!(code, Some(1));
    assert!(fs::read(here.join("p/0.png")).unwrap() == photo);
    fs::write(here.join("log"), "before\n").unwrap();
    let code =
        shell("exec VGGT export --demo --format ply --max_points 9 --out /dev/stderr 2>>log");
    assert_eq!(code, Some(0));
    let log = fs::read(here.join("log")).unwrap();
    assert!(log.starts_with(b"before\n") && log.windows(4).any(|at| at == b"ply\n"));
    // A link to standard output, and a pipe by the number of its descriptor.
    symlink("/dev/stdout", here.join("so.glb")).unwrap();
    for out in ["so.glb", "/dev/fd/3"] {
        let script = format!("VGGT export --demo --out {out} 3>&1 2>err | head -c 4 > first");
        shell(&script);
        assert_eq!(fs::read(here.join("first")).unwrap(), b"glTF", "{out}");
    }
}

#[test]
fn a_model_that_colmap_wrote_back_is_kept() {
    let dir = photos("p", 2);
    let here = dir.path();
    let args = ["export", "--demo", "p", "--format", "colmap", "--out", "m"];
    run(here, &args);
    run(here, &args);
    // As bundle adjustment in place does: only the binary form changes, and newer versions add files.
    fs::write(here.join("m/sparse/0/cameras.bin"), [7; 80]).unwrap();
    assert!(fail(here, 1, &args).contains("cameras.bin"));
    assert_eq!(
        fs::read(here.join("m/sparse/0/cameras.bin")).unwrap(),
        [7; 80]
    );
    run(here, &[&args[..], &["--overwrite"]].concat());
    fs::write(here.join("m/sparse/0/rigs.bin"), [7; 8]).unwrap();
    assert!(fail(here, 1, &args).contains("rigs.bin"));
    run(here, &[&args[..], &["--overwrite"]].concat());
    assert!(!here.join("m/sparse/0/rigs.bin").exists());
}

#[test]
fn a_temporary_file_is_never_written_through_a_link() {
    let dir = TempDir::new().unwrap();
    let here = dir.path();
    fs::write(here.join("victim"), "precious").unwrap();
    let script = format!(
        "ln -s victim .o.glb.$$.tmp; exec {} export --demo --out o.glb",
        env!("CARGO_BIN_EXE_vggt")
    );
    let status = Command::new("sh")
        .env("XDG_CACHE_HOME", NO_CACHE)
        .args(["-c", &script])
        .current_dir(here)
        .status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read(here.join("victim")).unwrap(), b"precious");
    assert!(!here.join("o.glb").is_symlink());
}

#[test]
fn a_pipe_among_the_images_of_a_dataset_is_not_replaced() {
    let dir = photos("p", 1);
    let here = dir.path();
    fs::create_dir_all(here.join("m/images")).unwrap();
    let pipe = here.join("m/images/0.png");
    mkfifo(&pipe);
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    run(
        here,
        &["export", "--demo", "p", "--format", "colmap", "--out", "m"],
    );
    assert!(reader.join().unwrap() == fs::read(frame(0)).unwrap());
    assert!(pipe.metadata().unwrap().file_type().is_fifo());
}

#[test]
fn two_results_never_go_into_one_file() {
    let dir = photos("p", 1);
    let here = dir.path();
    for args in [
        &["--out", "-", "--save_predictions", "-"][..],
        &["--out", "a.glb", "--out", "./a.glb"],
        &["--out", "a", "--out", "./a"],
        &["--out", "p/a.glb", "--out", "p/../p/a.glb"],
    ] {
        let err = fail(here, 2, &[&["export", "--demo"], args].concat());
        assert!(err.contains("two outputs"), "{args:?}: {err}");
    }
    // Depth maps of frames whose names make the same file name.
    let names = ["a.png", "a.bmp", "0000_a.png"];
    for name in names {
        image::open(frame(0))
            .unwrap()
            .save(here.join("p").join(name))
            .unwrap();
    }
    let inputs: Vec<String> = names.iter().map(|name| format!("p/{name}")).collect();
    let mut args = vec!["export", "--demo", "--save_depth", "depth"];
    args.extend(inputs.iter().map(String::as_str));
    run(here, &args);
    assert_eq!(files(&here.join("depth")).len(), 2 * 3 + 1);
}

#[test]
fn what_stops_the_last_file_stops_the_run_before_the_first() {
    let dir = photos("p", 1);
    let here = dir.path();
    symlink("nowhere", here.join("link")).unwrap();
    fs::create_dir(here.join("m")).unwrap();
    fs::write(here.join("m/vggt.json"), "{\"mine\": 1}").unwrap();
    let colmap = ["--format", "colmap", "--out"];
    for (args, word) in [
        (&["--out", "link/x.glb"][..], "link"),
        (&["--save_depth", "link"], "link"),
        (&[&colmap[..], &["link"]].concat(), "link"),
        (&[&colmap[..], &["m"]].concat(), "vggt.json"),
    ] {
        let err = fail(here, 1, &[&["export", "--demo", "p"], args].concat());
        assert!(err.contains(word), "{args:?}: {err}");
    }
    assert_eq!(files(here), ["link", "m", "p"]);
    assert_eq!(files(&here.join("m")), ["vggt.json"]);
    // A name as long as file systems allow.
    let long = format!("{}.glb", "n".repeat(251));
    run(here, &["export", "--demo", "--out", &long]);
    assert!(here.join(&long).is_file());
}

#[test]
fn images_that_readers_treat_in_many_ways_are_written_as_plain_rgb() {
    let dir = photos("p", 0);
    let here = dir.path();
    let photo = image::open(frame(0)).unwrap();
    photo.to_luma8().save(here.join("p/gray.png")).unwrap();
    photo.to_rgb16().save(here.join("p/wide.png")).unwrap();
    photo.to_luma8().save(here.join("p/gray.jpg")).unwrap();
    photo.to_rgb8().save(here.join("p/whole.jpg")).unwrap();
    let jpeg = fs::read(here.join("p/whole.jpg")).unwrap();
    fs::write(here.join("p/cut.jpg"), &jpeg[..jpeg.len() - 300]).unwrap();
    run(
        here,
        &["export", "--demo", "p", "--format", "colmap", "--out", "m"],
    );
    let images = here.join("m/images");
    for name in files(&images) {
        let bytes = fs::read(images.join(&name)).unwrap();
        assert!(
            name.ends_with(".png") || bytes.ends_with(&[0xFF, 0xD9]),
            "{name}"
        );
        let image = image::load_from_memory(&bytes).unwrap();
        assert_eq!(image.color(), image::ColorType::Rgb8, "{name}");
    }
    assert_eq!(files(&images).len(), 5);
    assert!(fs::read(images.join("whole.jpg")).unwrap() == jpeg);
}
