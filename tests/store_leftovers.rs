//! What a process leaves when it is killed or cannot go on, and who removes it.

use std::{fs, io, path::Path};

use vggt::store::{GlbFile, WriteSeek};

use crate::support::{
    command,
    files::only_for_folders,
    service::{
        Answer, PASSWORD, Service, demo_images, images_payload, refs, store, varied, wait_for,
    },
    store::{GLB, House, connect, day_of, house, save},
};

#[test]
fn half_written_files_of_any_process_are_swept_and_found_by_check() {
    only_for_folders!();
    let House { dir, store } = house();
    let kept = save(&store, 1);
    let day = dir.path().join("out").join(day_of(&kept));
    let hash = "d".repeat(64);
    // As an earlier version left it in a container, as process 1 or as this one, and as this version does.
    let own = std::process::id();
    let mut left = vec![
        format!(".{hash}.glb.{own}.tmp"),
        format!(".{hash}.glb.{own}-3.tmp"),
        format!(".{hash}.glb.0123456789abcdef.tmp"),
    ];
    if Path::new("/proc/self").exists() {
        left.push(format!(".{hash}.glb.4294967295.tmp"));
    }
    let plant = || {
        for name in &left {
            fs::write(day.join(name), b"gl").unwrap();
        }
    };
    plant();
    fs::write(day.join(".notes.glb.0123456789abcdef.tmp"), b"mine").unwrap();
    // What is being written meanwhile is nobody's leftover.
    let mut write = |out: &mut dyn WriteSeek| {
        let report = store.check(false).map_err(io::Error::other)?;
        assert_eq!(report.temporary.len(), left.len(), "{report:?}");
        assert_eq!(store.check(true).unwrap().temporary.len(), left.len());
        plant();
        assert_eq!(store.sweep_temporary().unwrap(), left.len());
        out.write_all(GLB)
    };
    let row = store.save_glb(1, "x.glb", &mut write).unwrap();
    assert_eq!(fs::read(store.glb_path(&row)).unwrap(), GLB);
    assert_eq!(fs::read_dir(&day).unwrap().count(), 3);
    assert_eq!(store.check(false).unwrap().problems(), 0);
}

#[test]
fn a_file_whose_row_was_not_written_is_removed_and_a_strangers_is_not() {
    only_for_folders!();
    let House { dir, store } = house();
    let row = save(&store, 1);
    let path = store.glb_path(&row);
    let temporary = |hash: &str| path.with_file_name(format!(".{hash}.glb.0123456789abcdef.tmp"));
    // Killed between the row and the removal of the temporary name: the file stays.
    fs::hard_link(&path, temporary(&row.hashed_name)).unwrap();
    // Killed before the row: both names go.
    let lost = "e".repeat(64);
    fs::write(temporary(&lost), GLB).unwrap();
    let named = path.with_file_name(format!("{lost}.glb"));
    fs::hard_link(temporary(&lost), &named).unwrap();
    // Of another origin.
    let stranger = path.with_file_name(format!("{}.glb", "f".repeat(64)));
    fs::write(&stranger, GLB).unwrap();
    let report = store.check(false).unwrap();
    assert_eq!((report.unclaimed.len(), report.temporary.len()), (1, 2));
    store.sweep_temporary().unwrap();
    assert!(path.exists() && stranger.exists() && !named.exists());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    assert!(dir.path().join("out").is_dir());
}

#[test]
fn a_deleted_file_that_was_not_removed_goes_with_the_next_start() {
    only_for_folders!();
    let House { dir, store } = house();
    let bob = store.add_user("bob", "p", false).unwrap().id;
    let (first, second, his) = (save(&store, 1), save(&store, 1), save(&store, bob));
    let paths = [&first, &second, &his].map(|row| store.glb_path(row));
    // As after a kill between the row and the file.
    let delete_row = |row: &GlbFile, path: &Path| {
        fs::rename(path, path.with_extension("away")).unwrap();
        fs::create_dir_all(path.join("in the way")).unwrap();
        assert!(store.delete_glb(row.user_id, &row.hashed_name).unwrap());
        fs::remove_dir_all(path).unwrap();
        fs::rename(path.with_extension("away"), path).unwrap();
    };
    delete_row(&first, &paths[0]);
    delete_row(&his, &paths[2]);
    // It is known that they go.
    assert_eq!(store.check(false).unwrap().problems(), 0);
    // One of them was brought back with its row.
    let mut conn = connect(dir.path());
    conn.batch_execute(&format!(
        "INSERT INTO glb_files (hashed_name, original_name, file_path, user_id, file_size, created_at)
         VALUES ('{}', 'x', '{}', {bob}, 12, '')",
        his.hashed_name, his.file_path
    ))
    .unwrap();
    assert!(store.sweep_temporary().unwrap() > 0);
    let there = paths.each_ref().map(|path| path.exists());
    assert_eq!(there, [false, true, true]);
    assert_eq!(store.sweep_temporary().unwrap(), 0);
    assert_eq!(store.check(false).unwrap().problems(), 0);
    // All files of a removed user.
    assert_eq!(store.remove_user("bob").unwrap(), 1);
    assert_eq!(store.check(false).unwrap().files, 1);
    // A repair removes it, too, and sets nothing aside that its user has deleted.
    delete_row(&second, &paths[1]);
    assert_eq!(store.check(true).unwrap().problems(), 0);
    assert!(!paths[1].exists());
    assert!(!store.out_root().join(".unclaimed").exists());
}

/// Without a free file handle nothing is left of an upload once there are handles again.
#[cfg(unix)]
#[test]
fn too_many_open_files_leave_no_upload() {
    only_for_folders!();
    let service = Service::start(&[]);
    let dir = service.kill();
    let vggt = command(dir.path());
    let mut shell = std::process::Command::new("sh");
    shell.current_dir(dir.path());
    shell.args(["-c", "ulimit -n 44; exec \"$0\" \"$@\""]);
    shell.arg(vggt.get_program());
    let service = Service::start_with(dir, shell, &[]);
    let mut client = service.login("ann");
    // Others hold what is left of the handles, more and more of them, while uploads are tried.
    let mut refused = 0;
    for held in (0..24).step_by(2) {
        let others: Vec<_> = (0..held).map(|_| service.connect()).collect();
        client.send(2, &images_payload(&refs(&varied(held))));
        let name = client.try_read_blob();
        let glb = name.and_then(|name| Ok((name, client.try_read_blob()?)));
        drop(others);
        refused += usize::from(!matches!(&glb, Ok((name, _)) if !name.is_empty()));
        if glb.is_err() {
            client = wait_for("a login", || {
                let mut client = service.connect();
                let login = serde_json::json!({"u": "ann", "p": PASSWORD}).to_string();
                client.send(1, login.as_bytes());
                let reply = client.try_read_blob().ok()?;
                reply.starts_with(b"[true").then_some(client)
            });
        }
    }
    println!("{refused} of 12 were refused");
    wait_for("free handles", || {
        matches!(client.images(&demo_images(1)), Answer::Glb { .. }).then_some(())
    });
    service.assert_nothing_left();
    assert_eq!(
        store(service.dir.path()).check(false).unwrap().problems(),
        0
    );
}
