//! Stored files over the wire: lists of any length, and files that another program changed.

use std::{fs, io::Read};

use serde_json::json;

use crate::support::{
    database::is_postgres,
    files::{is_bucket, stored_at},
    service::{Client, PASSWORD, Service, demo_images, wait_for},
    store::connect,
};

const NOT_LOGGED_IN: &str = "ERROR_NOT_LOGGED_IN";

/// Rows as the store has them, of a user who has stored `n` files; the files are not there.
fn insert_rows(dir: &std::path::Path, user: i32, n: usize) {
    let hash = match is_postgres() {
        true => "lpad(to_hex(i), 64, '0')",
        false => "printf('%064x', i)",
    };
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n})
         INSERT INTO glb_files (hashed_name, original_name, file_path, user_id, file_size, created_at, is_public)
         SELECT {hash}, 'images_' || i || '.glb', 'out/2026-01-01/x.glb', {user}, 1000,
         '2026-01-01 00:00:00.000000', FALSE FROM n;"
    );
    connect(dir).batch_execute(&sql).unwrap();
}

#[test]
fn a_list_of_any_length_comes_in_pages_and_the_older_command_is_bounded() {
    let service = Service::start(&["--max_user_files", "100000"]);
    let mut ann = service.login("ann");
    insert_rows(service.dir.path(), 1, 30_000);
    let list = ann.json(5, "");
    assert_eq!(list["files"].as_array().unwrap().len(), 1000);
    assert_eq!(list["more"], true);
    let first = format!("{:064x}", 30_000);
    assert_eq!(list["files"][0]["hash"], *first);
    // Files that are deleted and stored between two pages move no others.
    let page = |client: &mut Client, payload: serde_json::Value| {
        let page = client.json(13, &payload.to_string());
        let files = page["files"].as_array().unwrap_or_else(|| panic!("{page}"));
        let hashes: Vec<String> = files.iter().map(|f| f["hash"].to_string()).collect();
        (hashes, page["next"].clone())
    };
    let (mut all, mut next) = page(&mut ann, json!({"limit": 777}));
    assert_eq!(all.len(), 777);
    ann.json(6, &json!({"hash": all[776].trim_matches('"')}).to_string());
    let new = ann.images(&demo_images(1)).glb().0;
    let mut pages = 1;
    while !next.is_null() {
        let (hashes, after) = page(&mut ann, json!({"before": next}));
        assert!(hashes.len() <= 1000);
        all.extend(hashes);
        next = after;
        pages += 1;
    }
    assert_eq!((all.len(), pages), (30_000, 31));
    assert!(all.is_sorted_by(|a, b| a > b));
    let (newest, _) = page(&mut ann, json!({"before": null, "limit": 1}));
    assert_eq!(newest, [format!("\"{}\"", new.trim_end_matches(".glb"))]);
    // Absurd numbers are bounded, and another user sees nothing of it.
    for payload in [
        json!({"limit": u32::MAX}),
        json!({"limit": 0, "before": i64::MAX}),
    ] {
        assert_eq!(page(&mut ann, payload).0.len(), 1000);
    }
    assert!(page(&mut ann, json!({"before": i64::MIN})).0.is_empty());
    assert_eq!(
        ann.json(13, r#"{"limit": -1}"#)["error"],
        "ERROR_BAD_REQUEST"
    );
    assert!(page(&mut service.login("ben"), json!({})).0.is_empty());
    assert_eq!(service.connect().json(13, "")["error"], NOT_LOGGED_IN);
}

#[test]
fn the_own_client_lists_all_pages() {
    let service = Service::start(&[]);
    insert_rows(service.dir.path(), 1, 2500);
    let run = |args: &[&str]| {
        let output = crate::support::command(service.dir.path())
            .env("VGGT_PASSWORD", PASSWORD)
            .args(["client", "list", "--user", "ann"])
            .args(["--port", &service.address.port().to_string()])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&[]).lines().count(), 2500);
    let all: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 2500);
}

#[test]
fn clients_that_ask_and_do_not_read_hold_little_memory() {
    let service = Service::start(&[]);
    insert_rows(service.dir.path(), 1, 100_000);
    service.login("ann").json(5, "");
    let before = memory_kib(&service);
    let held: Vec<_> = (0..28)
        .map(|i| {
            let mut client = service.login("ann");
            client.send(if i % 2 == 0 { 5 } else { 13 }, b"");
            client
        })
        .collect();
    // All have been answered as far as the buffers take it once another request is.
    service.login("ann").json(13, "");
    let grown = memory_kib(&service).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    drop(held);
}

fn memory_kib(service: &Service) -> u64 {
    let path = format!("/proc/{}/status", service.process.id());
    let status = fs::read_to_string(path).unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_file_that_was_cut_or_grown_is_missing_and_never_sent() {
    let service = Service::start(&[]);
    let mut ann = service.login("ann");
    let (name, bytes) = ann.images(&demo_images(1)).glb();
    let hash = name.trim_end_matches(".glb");
    let store = service.store();
    let path = stored_at(&store, &store.find_glb(hash).unwrap().unwrap());
    let longer = [&bytes[..], b"more"].concat();
    let mut other_length = bytes.clone();
    other_length[8] ^= 1;
    let mut other_kind = bytes.clone();
    other_kind[0] = b'x';
    for broken in [
        &bytes[..1000],
        &bytes[..bytes.len() - 1],
        &bytes[..7],
        b"",
        &longer,
        &other_length,
        &other_kind,
    ] {
        fs::write(&path, broken).unwrap();
        if is_bucket() && broken.len() == bytes.len() {
            // It is not sent as a whole: the end of the connection comes before its last bytes.
            let mut reader = service.login("ann");
            reader.send(4, hash.as_bytes());
            reader.try_read_blob().unwrap_err();
            continue;
        }
        assert_eq!(ann.get(hash).error(), "ERROR_FILE_MISSING");
        // Nor is it the cached result of the same images: they are reconstructed again, under another name.
        assert_ne!(ann.images(&demo_images(1)).glb().0, name);
    }
    // Neither size in the row nor length in the header alone are believed.
    connect(service.dir.path())
        .batch_execute(&format!(
            "UPDATE glb_files SET file_size = 1000 WHERE hashed_name = '{hash}'"
        ))
        .unwrap();
    for broken in [&bytes[..1000], &bytes] {
        fs::write(&path, broken).unwrap();
        assert_eq!(ann.get(hash).error(), "ERROR_FILE_MISSING");
    }
    fs::remove_file(&path).unwrap();
    if is_bucket() {
        assert_eq!(ann.get(hash).error(), "ERROR_FILE_MISSING");
        return;
    }
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert_eq!(ann.get(hash).error(), "ERROR_FILE_MISSING");
    wait_for("the log", || {
        service.log().contains("1000 were stored").then_some(())
    });
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_closes_the_connection() {
    let service = Service::start(&[]);
    // Longer than what the buffers of two sockets take.
    let size = 64u32 << 20;
    let header = [b"glTF\x02\0\0\0", &size.to_le_bytes()[..]].concat();
    let row = service.store().save_glb(1, "big.glb", &mut |out| {
        out.write_all(&header)?;
        out.write_all(&vec![0; size as usize - header.len()])
    });
    let row = row.unwrap();
    let mut ann = service.login("ann");
    ann.send(4, row.hashed_name.as_bytes());
    let mut len = [0; 4];
    ann.stream.read_exact(&mut len).unwrap();
    assert_eq!(u32::from_be_bytes(len), size);
    // The server is at it.
    let mut begin = vec![0; header.len()];
    ann.stream.read_exact(&mut begin).unwrap();
    assert_eq!(begin, header);
    let path = stored_at(&service.store(), &row);
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let mut rest = Vec::new();
    let _ = ann.stream.read_to_end(&mut rest);
    assert!(begin.len() + rest.len() < size as usize);
    assert_eq!(
        service.login("ann").get(&row.hashed_name).error(),
        "ERROR_FILE_MISSING"
    );
}
