//! `vggt monitor`: with questions in a pseudo-terminal, without them through pipes.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use rexpect::{
    process::WaitStatus,
    session::{PtySession, spawn_command},
};
use serde_json::Value;

use crate::support::{command, fail, files, run, text};

/// The longest wait for an answer of the program: a machine busy with other tests is slow.
const PATIENCE_MS: u64 = 60_000;

/// Share of the samples that were due and that a busy machine must still have taken.
const TAKEN: f64 = 0.5;

fn in_terminal(dir: &Path, args: &[&str]) -> PtySession {
    let mut call = command(dir);
    call.arg("monitor").args(args).env("NO_COLOR", "");
    spawn_command(call, Some(PATIENCE_MS)).unwrap()
}

/// What the terminal showed up to the end of the program, and its exit code.
fn end(mut session: PtySession) -> (String, i32) {
    // rexpect takes each byte for a character.
    let bytes = session
        .exp_eof()
        .unwrap()
        .chars()
        .map(|c| c as u8)
        .collect();
    let rest = String::from_utf8(bytes).unwrap();
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, code) => (rest, code),
        other => panic!("{other:?}: {rest}"),
    }
}

/// Numbers read back from JSON may differ in the last bit, and so may their differences.
const READ_BACK: f64 = 1e-9;

/// The numbers of a CSV row.
fn numbers(row: &str) -> Vec<f64> {
    row.split(',').map(|n| n.parse().unwrap()).collect()
}

#[test]
fn enter_starts_and_stops_each_session_of_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let mut person = in_terminal(dir.path(), &["--plot", "two.svg"]);
    let before = person.exp_string("Number of sessions:").unwrap();
    let gpu = !before.contains("GPU and VRAM stay zero");
    person.send_line("many").unwrap();
    person.exp_string("from 1 to 64").unwrap();
    person.send_line("2").unwrap();
    for session in ["Session 1 of 2", "Session 2 of 2"] {
        person.exp_string(session).unwrap();
        person.send_line("").unwrap();
        // The line that shows the recording is running comes with the first samples.
        person.exp_string("CPU").unwrap();
        person.exp_string("CPU").unwrap();
        person.send_line("").unwrap();
    }
    let (shown, code) = end(person);
    assert_eq!(code, 0, "{shown}");
    for part in ["session 1: ", "session 2: ", "min", "mean", "max", "change"] {
        assert!(shown.contains(part), "no {part:?}: {shown}");
    }
    // Panels of what is not there are left out.
    for (panel, drawn) in [
        ("CPU %", true),
        ("GPU %", gpu),
        ("VRAM GB", gpu),
        ("RAM GB", true),
    ] {
        // Titles stand above the panels, right of the numbers.
        let title = format!("           {panel}");
        assert_eq!(shown.contains(&title), drawn, "{panel:?}: {shown}");
    }
    assert!(shown.contains('└') && shown.contains("\x1b[33m"), "{shown}");
    assert_eq!(files(dir.path()), ["two.svg"]);
}

#[test]
fn ctrl_c_hands_over_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let mut person = in_terminal(dir.path(), &["--seconds", "1000", "--plot", "cut.png"]);
    person.exp_string("CPU").unwrap();
    person.exp_string("CPU").unwrap();
    person.send_control('c').unwrap();
    let (shown, code) = end(person);
    assert_eq!(code, 130, "{shown}");
    assert!(shown.contains("session 1: "), "{shown}");
    assert!(shown.trim_end().ends_with("interrupted"), "{shown}");
    assert_eq!(files(dir.path()), ["cut.png"]);
}

#[test]
fn ctrl_c_at_a_question_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut person = in_terminal(dir.path(), &["--plot", "none.svg"]);
    person.exp_string("Number of sessions:").unwrap();
    person.send_control('c').unwrap();
    let (shown, code) = end(person);
    assert_eq!(code, 130, "{shown}");
    assert!(files(dir.path()).is_empty());
}

#[test]
fn json_holds_figures_that_fit_their_curve() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["monitor", "--sessions", "2", "--seconds", "0.5", "--json"];
    let all: Value = serde_json::from_str(&run(dir.path(), &args)).unwrap();
    assert_eq!(all["period_seconds"], 0.1);
    let sessions = all["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    for session in sessions {
        assert_eq!(session["end"], "time_up");
        let samples = session["samples"].as_u64().unwrap();
        assert!(samples as f64 >= TAKEN * 5.0 && samples <= 5, "{session}");
        for metric in ["cpu_percent", "gpu_percent", "vram_gb", "ram_gb"] {
            let curve: Vec<f64> = serde_json::from_value(session["curve"][metric].clone()).unwrap();
            assert_eq!(curve.len() as u64, samples);
            let figures = &session[metric];
            let figure = |name: &str| figures[name].as_f64().unwrap();
            let max = curve.iter().copied().fold(f64::MIN, f64::max);
            let min = curve.iter().copied().fold(f64::MAX, f64::min);
            assert_eq!((figure("min"), figure("max")), (min, max));
            assert!(figure("min") <= figure("mean") && figure("mean") <= figure("max"));
            let change = curve[curve.len() - 1] - curve[0];
            assert!((figure("change") - change).abs() < READ_BACK, "{session}");
        }
        assert!(session["ram_gb"]["min"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn csv_rows_lie_on_the_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let csv = run(dir.path(), &["monitor", "--seconds", "1", "--csv"]);
    let mut lines = csv.lines();
    let header = "session,seconds,cpu_percent,gpu_percent,vram_gb,ram_gb";
    assert_eq!(lines.next(), Some(header));
    let rows: Vec<_> = lines.map(numbers).collect();
    assert!(rows.len() as f64 >= TAKEN * 10.0 && rows.len() <= 10);
    let mut periods: Vec<_> = rows
        .iter()
        .map(|row| (row[1] * 1e6).round() as u64 / 100_000)
        .collect();
    assert!(rows.iter().all(|row| row[0] == 1.0 && row.len() == 6));
    assert!(periods[0] >= 1, "a sample before it was due: {rows:?}");
    periods.dedup();
    assert_eq!(periods.len(), rows.len(), "two samples in one period");
}

#[test]
fn a_reader_of_csv_may_leave_early() {
    let dir = tempfile::tempdir().unwrap();
    let mut call = command(dir.path());
    call.args(["monitor", "--seconds", "1000", "--csv"]);
    let mut child = call.stdout(Stdio::piped()).spawn().unwrap();
    let mut start = [0; 8];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut start).unwrap();
    drop(out);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_process_is_watched_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    // Waits until its standard input closes.
    let mut watched = Command::new("sh")
        .args(["-c", "read line"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = watched.id().to_string();
    let mut call = command(dir.path());
    call.args(["monitor", "--csv", "--pid", &pid]);
    let mut monitor = call
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = monitor.stdout.take().unwrap();
    let header = "session,seconds,cpu_percent,ram_gb\n";
    let mut start = vec![0; header.len() + 1];
    out.read_exact(&mut start).unwrap();
    assert!(String::from_utf8(start).unwrap().starts_with(header));

    // The watched process ends, and nobody waits for it before the monitor has noticed.
    drop(watched.stdin.take());
    let output = monitor.wait_with_output().unwrap();
    watched.wait().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("process {pid} has ended")), "{said}");
}

#[test]
fn a_busy_process_is_seen_busy() {
    let dir = tempfile::tempdir().unwrap();
    let mut busy = Command::new("sh")
        .args(["-c", "while :; do :; done"])
        .spawn()
        .unwrap();
    let pid = busy.id().to_string();
    let args = ["monitor", "--json", "--seconds", "1", "--pid", &pid];
    let said = run(dir.path(), &args);
    busy.kill().unwrap();
    busy.wait().unwrap();
    let all: Value = serde_json::from_str(&said).unwrap();
    let session = &all["sessions"][0];
    // However busy the machine: a loop gets some of it, and no more than the one CPU it can use. A tick of rounding
    // in a tenth of a second is 10 %.
    let mean = session["cpu_percent"]["mean"].as_f64().unwrap();
    assert!(mean > 1.0 && mean < 115.0, "{mean}");
    assert!(session["ram_gb"]["max"].as_f64().unwrap() > 0.0);
    assert!(session.get("gpu_percent").is_none());
}

#[test]
fn plots_are_whole_pictures_with_a_line_for_each_session() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.svg");
    let args = ["monitor", "--sessions", "3", "--seconds", "0.3", "--plot"];
    run(dir.path(), &[&args[..], &[text(&path)]].concat());
    let svg = fs::read_to_string(&path).unwrap();
    assert!(svg.trim_end().ends_with("</svg>"));
    for title in ["CPU, %", "GPU, %", "VRAM, GB", "RAM, GB"] {
        assert!(svg.contains(title), "no panel {title}");
    }
    let first = colorous::TABLEAU10[0];
    let color = format!("#{:02X}{:02X}{:02X}", first.r, first.g, first.b);
    let lines = svg
        .lines()
        .filter(|l| l.contains("<polyline") && l.contains(&color));
    assert_eq!(
        lines.count(),
        4,
        "a line of the first session in each panel"
    );
    assert!(svg.contains("session 3") && !svg.contains("session 4"));

    run(dir.path(), &[&args[..], &["b.PNG"]].concat());
    let png = image::open(dir.path().join("b.PNG")).unwrap().into_rgb8();
    assert_eq!(png.dimensions(), (2400, 1560));
    for i in 0..3 {
        let c = colorous::TABLEAU10[i];
        let seen = png.pixels().any(|p| p.0 == [c.r, c.g, c.b]);
        assert!(seen, "session {} has no line", i + 1);
    }
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (args, part) in [
        (&["--sessions", "0"][..], "1..=64"),
        (&["--sessions", "65"], "1..=64"),
        (&["--seconds", "0"], "number of seconds"),
        (&["--seconds", "NaN"], "number of seconds"),
        (&["--seconds=-1"], "number of seconds"),
        (&["--pid", "0"], "--pid"),
        (&["--plot", "a.jpg"], ".svg or .png"),
        (&["--csv", "--json"], "cannot be used with"),
        (&["--pid", "1", "--sessions", "2"], "--seconds"),
    ] {
        let said = fail(dir.path(), 2, &[&["monitor"], args].concat());
        assert!(said.contains(part), "{args:?}: {said}");
    }
    assert!(files(dir.path()).is_empty());
}

#[test]
fn what_cannot_be_watched_or_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // Above the highest number that Linux gives (2^22).
    let said = fail(dir.path(), 1, &["monitor", "--pid", "1073741824"]);
    assert!(said.contains("process 1073741824"), "{said}");
    std::fs::write(dir.path().join("file"), "mine").unwrap();
    let args = ["monitor", "--seconds", "1000", "--plot", "file/no/a.svg"];
    let said = fail(dir.path(), 1, &args);
    assert!(said.contains("file/no/a.svg"), "{said}");
}

#[test]
fn nobody_to_ask_is_a_mistake_in_the_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut call = command(dir.path());
    let output = call.arg("monitor").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--sessions and --seconds"), "{said}");
}
