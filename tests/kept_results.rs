//! What the service keeps beside a GLB: results in progress, which the next process goes on with, and those of a job that is
//! done; and the preview of one that runs.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use vggt::store::GlbFile;

use crate::support::files::{is_bucket, only_for_folders};
use crate::support::service::{Client, Service, assert_glb, demo_images, store, wait_for};

/// Of 80 frames: with four anchors some tenths of a second after the anchors are done.
fn many_frames(client: &mut Client) -> i64 {
    let options = json!({"attention": "anchors", "anchors": 4});
    let reply = client.json(11, &options.to_string());
    assert_eq!(reply["anchors"], 4, "{reply}");
    client.submit(&demo_images(8).repeat(10))
}

/// Waits until a part of the frames is done.
fn wait_until_past(client: &mut Client, job: i64, fraction: f64) -> Value {
    wait_for("some frames", || {
        let status = client.status(job);
        assert_eq!(status.get("reason"), None, "{status}");
        let far = status["fraction"].as_f64().is_some_and(|f| f > fraction);
        (far || status["state"] == "done").then_some(status)
    })
}

fn hash_of(status: &Value) -> &str {
    status["hash"]
        .as_str()
        .unwrap_or_else(|| panic!("{status}"))
}

/// The folder that is kept with a result.
fn kept_of(service: &Service, glb: &GlbFile) -> PathBuf {
    let all = kept(service);
    let of = |path: &PathBuf| path.file_stem().unwrap().to_str() == Some(&glb.hashed_name);
    all.into_iter().find(of).unwrap()
}

/// The folders that are kept.
fn kept(service: &Service) -> Vec<PathBuf> {
    let days = fs::read_dir(service.out()).unwrap();
    let days = days.map(|day| day.unwrap().path());
    let days = days.filter(|day| !day.file_name().unwrap().to_str().unwrap().starts_with('.'));
    let entries = days.filter_map(|day| fs::read_dir(day).ok()).flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "spool"))
        // A bucket's server leaves folders in which there is nothing any more.
        .filter(|path| fs::read_dir(path).unwrap().next().is_some())
        .collect()
}

fn deaths(service: &Service, job: i64) -> u32 {
    service.store().job(job).unwrap().unwrap().deaths
}

#[test]
fn a_job_goes_on_with_its_finished_frames_after_kill_9_to_the_same_bytes() {
    only_for_folders!();
    let mut service = Service::start(&["--no_cache"]);
    let mut ann = service.login("ann");
    let whole = many_frames(&mut ann);
    let status = ann.finished(whole);
    let expected = ann.get(hash_of(&status)).glb().1;

    let job = many_frames(&mut ann);
    for (n, fraction) in [0.3, 0.5, 0.7, 0.8].into_iter().enumerate() {
        let status = wait_until_past(&mut service.login("ann"), job, fraction);
        assert_eq!(status["state"], "running", "{status}");
        service = Service::start_in(service.kill(), &["--no_cache"]);
        // It came further each time: no death too many.
        assert_eq!(deaths(&service, job), 1, "after kill {n}");
    }
    let mut ann = service.login("ann");
    let status = ann.finished(job);
    assert!(ann.get(hash_of(&status)).glb().1 == expected);
    let log = service.log();
    let went_on: Vec<usize> = log
        .lines()
        // Where others may work on it, each attempt has a spool of its own: spool-3.
        .filter_map(|line| line.split_once("/spool")?.1.split_once("\": "))
        .filter_map(|(_, done)| done.split(' ').next())
        .map(|done| done.parse().unwrap())
        .collect();
    assert_eq!(went_on.len(), 4, "{log}");
    assert!(went_on.is_sorted() && went_on[0] >= 4, "{went_on:?}");
    assert!(went_on[3] > 40, "{went_on:?}");
    service.assert_nothing_left();
}

#[test]
fn what_a_result_was_made_of_is_kept_inside_its_owners_quota_and_goes_with_it() {
    let service = Service::start(&["--no_cache"]);
    let mut ann = service.login("ann");
    let done = |client: &mut Client| {
        let job = client.submit(&demo_images(2));
        hash_of(&client.finished(job)).to_owned()
    };
    let first = done(&mut ann);
    let by_connection = ann.images(&demo_images(2)).glb().0;
    service.assert_nothing_left();
    let store = service.store();
    let glb = store.find_glb(&first).unwrap().unwrap();
    let folder = store.spool_of(&glb).unwrap().unwrap();
    assert_eq!(kept(&service).len(), 2);
    assert_eq!(folder.file_stem().unwrap().to_str(), Some(&*first));
    // Two frames of 112 x 84: pixels, depth and its confidence.
    let size = |name: &str| fs::metadata(folder.join(name)).unwrap().len();
    assert_eq!(size("images"), 2 * 3 * 112 * 84);
    assert_eq!(size("depth"), 2 * 4 * 112 * 84);
    let header = fs::read_to_string(folder.join("spool.json")).unwrap();
    assert!(!header.contains(service.dir.path().to_str().unwrap()));
    let usage = store.usage_of(glb.user_id).unwrap();
    let files: u64 = store
        .list_glbs(glb.user_id)
        .unwrap()
        .iter()
        .map(|glb| glb.file_size)
        .sum();
    assert!(usage.spool_bytes > 2 * (size("images") + 2 * size("depth")));
    assert_eq!(usage.bytes, files + usage.spool_bytes);

    // It goes with its GLB, and without its row at the next start.
    let delete = json!({ "hash": first }).to_string();
    assert_eq!(ann.json(6, &delete)["deleted"], true);
    if is_bucket() {
        assert_eq!(kept(&service).len(), 1);
        return;
    }
    assert!(!folder.exists());
    let stray = folder.with_file_name(format!("{first}.spool"));
    fs::create_dir(&stray).unwrap();
    fs::write(stray.join("journal"), "x").unwrap();
    let other = kept(&service);
    let other = other.iter().find(|path| **path != stray).unwrap();
    assert_eq!(
        other.file_stem().unwrap().to_str(),
        Some(by_connection.trim_end_matches(".glb"))
    );
    fs::remove_dir_all(other).unwrap();
    let service = Service::start_in(service.kill(), &["--no_cache"]);
    assert!(!stray.exists());
    assert_eq!(
        service.store().usage_of(glb.user_id).unwrap().spool_bytes,
        0
    );
    service
        .login("ann")
        .get(by_connection.trim_end_matches(".glb"))
        .glb();
}

#[test]
fn the_oldest_kept_results_give_way_to_newer_ones_and_to_uploads() {
    // Of two frames: what a result was made of takes 0.25 MB.
    let args = ["--no_cache", "--max_user_bytes", "2"];
    let service = Service::start(&args);
    let mut ann = service.login("ann");
    let mut hashes = Vec::new();
    let store = service.store();
    let user = store.user_by_name("ann").unwrap().id;
    // Until a second one would not fit any more.
    while store.usage_of(user).unwrap().bytes < (2 << 20) - (1 << 19) {
        hashes.push(ann.images(&demo_images(2)).glb().0);
    }
    hashes.push(ann.images(&demo_images(2)).glb().0);
    let last = hashes.last().unwrap().clone();
    let has = |name: &String| {
        let glb = store
            .find_glb(name.trim_end_matches(".glb"))
            .unwrap()
            .unwrap();
        store.spool_of(&glb).unwrap().is_some()
    };
    let usage = store.usage_of(user).unwrap();
    assert!(usage.bytes <= 2 << 20, "{usage:?}");
    assert!(!has(&hashes[0]), "{usage:?}");
    assert!(has(&last), "{usage:?}");
    // An upload that would not fit beside it.
    let free = (2 << 20) - usage.bytes;
    let mut large = demo_images(1)[0].to_vec();
    large.resize((free + usage.spool_bytes / 2) as usize, 0);
    let with: Vec<String> = hashes.iter().filter(|name| has(name)).cloned().collect();
    assert_glb(&ann.images(&[&large]).glb().1);
    assert!(!has(&with[0]));
    for name in hashes {
        assert_glb(&ann.get(name.trim_end_matches(".glb")).glb().1);
    }

    let service = Service::start_in(service.kill(), &["--max_user_spools", "0", "--no_cache"]);
    service.login("ben").images(&demo_images(2)).glb();
    let ben = service.store().user_by_name("ben").unwrap().id;
    assert_eq!(service.store().usage_of(ben).unwrap().spool_bytes, 0);
    service.assert_nothing_left();
}

#[test]
fn the_status_of_a_job_has_a_preview_that_its_user_alone_can_fetch_while_it_runs() {
    let service = Service::start(&["--no_cache"]);
    let mut ann = service.login("ann");
    let job = many_frames(&mut ann);
    let status = wait_for("the preview", || {
        let status = ann.status(job);
        assert_ne!(status["state"], "done", "{status}");
        status["preview"].is_string().then_some(status)
    });
    let hash = status["preview"].as_str().unwrap();
    let preview = ann.get(hash).glb().1;
    assert_glb(&preview);
    let stranger = service.login("ben").get(hash).error();
    assert_eq!(stranger, service.connect().get(hash).error());
    assert!(stranger.starts_with("ERROR_HASH_NOT_FOUND"), "{stranger}");

    let status = ann.finished(job);
    let glb = ann.get(hash_of(&status)).glb().1;
    assert!(preview.len() < glb.len() / 10);
    assert!(status.get("preview").is_none());
    assert_eq!(ann.get(hash).error(), stranger);
    drop(service.store());
    let dir = service.kill();
    let listed = store(dir.path()).list_glbs(1).unwrap();
    assert_eq!(listed.len(), 1);
}

#[test]
fn a_job_that_is_done_runs_again_with_other_options_and_no_network() {
    let service = Service::start(&["--no_cache"]);
    let mut ann = service.login("ann");
    let names = json!({"names": ["IMG 1.png", "IMG 2.png"], "name": "Kitchen", "conf_thres": 10});
    ann.json(11, &names.to_string());
    let job = ann.submit(&demo_images(2));
    let first = ann.finished(job);
    let rerun = |client: &mut Client, options: Value, job: i64| {
        client.json(11, &options.to_string());
        client.json(15, &json!({ "job": job }).to_string())
    };
    let again = rerun(&mut ann, json!({"conf_thres": 60, "show_cam": true}), job);
    let again = again["job"].as_i64().unwrap_or_else(|| panic!("{again}"));
    let second = ann.finished(again);
    let (old, new) = (
        ann.get(hash_of(&first)).glb().1,
        ann.get(hash_of(&second)).glb().1,
    );
    assert_glb(&new);
    assert!(new.len() < old.len());
    // The same as from the images.
    let all = json!({"conf_thres": 60, "show_cam": true});
    ann.json(11, &all.to_string());
    let direct = ann.images(&demo_images(2)).glb().1;
    assert!(direct == new);
    // And a rerun of the rerun, also after a restart in which it waits.
    let third = rerun(&mut ann, json!({"format": "glb_quantized"}), again);
    let third = third["job"].as_i64().unwrap();
    let service = Service::start_in(service.kill(), &["--no_cache"]);
    let mut ann = service.login("ann");
    let quantized = ann.finished(third);
    assert!(ann.get(hash_of(&quantized)).glb().1.len() < new.len());

    let page = ann.json(14, "{}");
    let jobs = page["jobs"].as_array().unwrap();
    let named: Vec<_> = jobs.iter().map(|job| (&job["job"], &job["name"])).collect();
    assert_eq!(named.len(), 3, "{page}");
    assert!(
        named.iter().all(|(_, name)| **name == "Kitchen.glb"),
        "{page}"
    );
    assert!(jobs.iter().all(|job| job["finished_at"].is_string()));
    let one = ann.json(14, &json!({"limit": 1}).to_string());
    assert_eq!(one["jobs"][0]["job"], third);
    let older = ann.json(14, &json!({"limit": 2, "before": one["next"]}).to_string());
    assert_eq!(older["jobs"][1]["job"], job);

    for (options, id, code, word) in [
        (json!({"fps": 2}), job, "ERROR_BAD_REQUEST", "fps"),
        (
            json!({"attention": "anchors"}),
            job,
            "ERROR_BAD_REQUEST",
            "attention",
        ),
        (json!({}), 4711, "ERROR_JOB_NOT_FOUND", "job"),
    ] {
        let refused = rerun(&mut ann, options, id);
        assert_eq!(refused["error"], code, "{refused}");
        assert!(
            refused["reason"].as_str().unwrap().contains(word),
            "{refused}"
        );
    }
    let refused = rerun(&mut service.login("ben"), json!({}), job);
    assert_eq!(refused["error"], "ERROR_JOB_NOT_FOUND");
    // With a part of it changed, as by a disk that fails.
    let store = service.store();
    let glb = store.find_glb(hash_of(&second)).unwrap().unwrap();
    let folder = store.spool_of(&glb).unwrap().unwrap();
    let file = match is_bucket() {
        true => kept_of(&service, &glb).join("000000"),
        false => folder.join("images"),
    };
    let mut bytes = fs::read(&file).unwrap();
    // Behind the head of a pack.
    let at = if is_bucket() { bytes.len() / 2 } else { 77 };
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let damaged = rerun(&mut ann, json!({"conf_thres": 1}), again);
    let damaged = ann.finished(damaged["job"].as_i64().unwrap());
    let reason = damaged["reason"].as_str().unwrap();
    assert!(reason.contains("send the images again"), "{reason}");
    // Without what it was made of.
    let delete = json!({"hash": hash_of(&first)}).to_string();
    ann.json(6, &delete);
    let refused = rerun(&mut ann, json!({}), job);
    assert_eq!(refused["error"], "ERROR_BAD_REQUEST", "{refused}");
    service.assert_nothing_left();
}

#[test]
fn warnings_reach_the_client_by_the_names_that_it_gave_and_the_file_without_them() {
    let service = Service::start(&["--no_cache"]);
    let mut ann = service.login("ann");
    // An image that is taller than wide is cropped.
    let tall = tall_picture();
    let names = json!({"names": ["first.png", "my tall one.png"]});
    ann.json(11, &names.to_string());
    let job = ann.submit(&[demo_images(1)[0], &tall]);
    let status = ann.finished(job);
    let kinds = |status: &Value| -> Vec<String> {
        let warnings = status["warnings"].as_array().unwrap();
        warnings
            .iter()
            .map(|w| w["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(kinds(&status), ["demo_weights", "cropped"], "{status}");
    let cropped = &status["warnings"][1];
    assert_eq!(cropped["name"], "my tall one.png");
    assert!(
        cropped["text"]
            .as_str()
            .unwrap()
            .contains("\"my tall one.png\""),
        "{status}"
    );
    let glb = ann.get(hash_of(&status)).glb().1;
    let text = String::from_utf8_lossy(&glb[20..4000]);
    assert!(
        text.contains("\"cropped\"") && !text.contains("tall one"),
        "{text}"
    );
    // A rerun knows the images by the same names, whatever it is called itself.
    ann.json(11, &json!({"name": "Again"}).to_string());
    let again = ann.json(15, &json!({ "job": job }).to_string());
    let again = ann.finished(again["job"].as_i64().unwrap());
    assert_eq!(again["warnings"][1]["name"], "my tall one.png", "{again}");
    assert_eq!(ann.json(14, "{}")["jobs"][0]["name"], "Again.glb");
    // Errors too, and all of it after a restart.
    ann.json(
        11,
        &json!({"names": ["a.png", "broken one.png"]}).to_string(),
    );
    let bad = ann.submit(&[demo_images(1)[0], b"no picture"]);
    let failed = ann.finished(bad);
    assert!(
        failed["reason"]
            .as_str()
            .unwrap()
            .contains("broken one.png"),
        "{failed}"
    );
    let service = Service::start_in(service.kill(), &["--no_cache"]);
    let mut ann = service.login("ann");
    assert_eq!(ann.status(job)["warnings"], status["warnings"]);
    assert_eq!(ann.status(bad), failed);
}

fn tall_picture() -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_fn(60, 100, |x, y| image::Rgb([x as u8, y as u8, 9]));
    image.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}
