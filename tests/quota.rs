//! What one user may hold: bytes, files, uploads that arrive; and what stays free on the disk.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::{
    service::{Client, Service, assert_glb, demo_images, images_payload, refs, varied, wait_for},
    store::connect,
};

const MIB: usize = 1 << 20;

/// Sends the head of a video and the first of its bytes.
fn begin_video(client: &mut Client, len: usize, sent: usize) {
    let mut bytes = vec![3];
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend(vec![0; sent]);
    client.stream.write_all(&bytes).unwrap();
}

/// Waits until the server has so many folders of uploads.
fn wait_for_uploads(service: &Service, n: usize) {
    wait_for("uploads to begin", || {
        (service.uploads().len() == n).then_some(())
    });
}

fn refused(client: &mut Client) -> String {
    client.images(&demo_images(1)).error()
}

#[test]
fn bytes_of_files_uploads_and_jobs_count_together_and_nothing_is_deleted() {
    let service = Service::start(&["--max_user_bytes", "2", "--no_cache"]);
    let mut ann = service.login("ann");
    let (name, bytes) = ann.images(&demo_images(1)).glb();
    assert!(bytes.len() < MIB);
    // A job of command 8 and an upload that has only begun.
    let mut other = service.login("ann");
    begin_video(&mut other, 3 * MIB / 2, 1);
    wait_for_uploads(&service, 1);
    let images = demo_images(8).repeat(3);
    let error = ann.images(&images).error();
    assert!(
        error.starts_with("ERROR_IMAGE_REQUEST: you hold"),
        "{error}"
    );
    assert!(
        error.contains("of 2 MiB") && error.contains("delete files"),
        "{error}"
    );
    let mut payload = vec![2];
    payload.extend(images_payload(&images));
    ann.send(8, &payload);
    let reply: Value = serde_json::from_slice(&ann.read_blob()).unwrap();
    assert_eq!(reply["error"], "ERROR_IMAGE_REQUEST");
    // Other users are not concerned; the same one goes on as soon as the upload is gone.
    assert_glb(&service.login("ben").images(&demo_images(1)).glb().1);
    other.close();
    wait_for_uploads(&service, 0);
    assert_glb(&ann.images(&demo_images(2)).glb().1);
    assert_eq!(ann.get(name.trim_end_matches(".glb")).glb().1, bytes);
    service.assert_nothing_left();
}

#[test]
fn files_are_limited_and_deleting_makes_room() {
    let service = Service::start(&["--max_user_files", "2", "--no_cache"]);
    let mut ann = service.login("ann");
    let first = ann.images(&demo_images(1)).glb().0;
    ann.images(&demo_images(1)).glb();
    let error = refused(&mut ann);
    assert!(error.contains("you hold 2 files and jobs of 2"), "{error}");
    ann.json(
        6,
        &json!({"hash": first.trim_end_matches(".glb")}).to_string(),
    );
    ann.images(&demo_images(1)).glb();
    assert_eq!(ann.json(5, "")["files"].as_array().unwrap().len(), 2);
}

#[test]
fn jobs_count_as_files_also_after_a_restart() {
    let service = Service::start(&[
        "--max_user_files",
        "3",
        "--no_cache",
        "--queue_per_user",
        "16",
    ]);
    let mut ann = service.login("ann");
    let long: Vec<&[u8]> = demo_images(8).repeat(30);
    let job = ann.submit(&long);
    ann.submit(&refs(&varied(1)));
    ann.submit(&refs(&varied(2)));
    assert!(refused(&mut ann).contains("you hold 3 files and jobs of 3"));
    let dir = service.kill();
    let service = Service::start_in(dir, &["--max_user_files", "3"]);
    let mut ann = service.login("ann");
    assert!(refused(&mut ann).contains("you hold 3 files and jobs of 3"));
    ann.json(10, &format!("{{\"job\": {job}}}"));
    ann.finished(job);
    wait_for("the cancelled job to count no more", || {
        (!matches!(
            ann.images(&demo_images(1)),
            crate::support::service::Answer::Error(_)
        ))
        .then_some(())
    });
}

#[test]
fn a_result_beyond_the_quota_fails_its_job_with_the_reason() {
    let service = Service::start(&["--max_user_bytes", "1", "--no_cache"]);
    // What is stored meanwhile, as by another process.
    let mut ann = service.login("ann");
    let job = ann.submit(&demo_images(8));
    connect(service.dir.path())
        .batch_execute(
            "INSERT INTO glb_files (hashed_name, original_name, file_path, user_id, file_size, created_at, is_public)
             VALUES ('x', 'x.glb', 'out/x.glb', 1, 1048576, '2026-01-01 00:00:00.000000', FALSE);",
        )
        .unwrap();
    let end = ann.finished(job);
    assert_eq!(end["state"], "failed", "{end}");
    assert!(
        end["reason"]
            .as_str()
            .unwrap()
            .starts_with("you hold 1 of 1 MiB"),
        "{end}"
    );
    service.assert_nothing_left();
}

#[test]
fn uploads_that_arrive_are_limited_and_slow_ones_end() {
    let service = Service::start(&["--max_user_uploads", "2", "--stall_timeout", "1"]);
    let mut held: Vec<Client> = (0..2).map(|_| service.login("ann")).collect();
    for client in &mut held {
        // Fast at first: that earns no hours for the rest.
        begin_video(client, 8 * MIB, 4 * MIB);
    }
    wait_for_uploads(&service, 2);
    let mut ann = service.login("ann");
    let error = refused(&mut ann);
    assert!(error.contains("2 of your uploads are arriving"), "{error}");
    assert_glb(&service.login("ben").images(&demo_images(1)).glb().1);
    // A byte now and then holds none of them.
    wait_for("slow uploads to end", || {
        held.retain_mut(|client| client.stream.write_all(&[0]).is_ok());
        held.is_empty().then_some(())
    });
    wait_for_uploads(&service, 0);
    assert_glb(&ann.images(&demo_images(1)).glb().1);
    service.assert_nothing_left();
}

#[test]
fn uploads_leave_space_on_the_disk() {
    let service = Service::start(&["--min_free_space", "1000000000"]);
    let error = refused(&mut service.login("ann"));
    assert!(
        error.contains("the server's disk is full") && error.contains("keeps 1000000000 free"),
        "{error}"
    );
    service.assert_nothing_left();
}

#[test]
fn absurd_sizes_are_refused_when_the_options_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let huge = u64::MAX.to_string();
    for option in ["--max_user_bytes", "--min_free_space"] {
        let err = crate::support::fail(dir.path(), 2, &["serve", "--demo", option, &huge]);
        assert!(err.contains(&huge), "{option}: {err}");
    }
}
