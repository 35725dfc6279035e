//! `/metrics`: in the format of Prometheus, read strictly, with numbers that move; and who may read it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::support::{
    http::request,
    service::{Client, Service, demo_images, wait_for},
};

/// Samples by name and labels, as they are written.
type Samples = BTreeMap<String, f64>;

fn text(service: &Service) -> String {
    let answer = request("GET", "/metrics").send(service.http());
    assert_eq!(answer.status, 200);
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    String::from_utf8(answer.body).unwrap()
}

fn metrics(service: &Service) -> Samples {
    parsed(&text(service))
}

/// Reads the text strictly: each family once, with its help, its type and then its samples; each sample once, with a number; names and
/// labels of permitted characters; buckets that grow up to the count.
fn parsed(text: &str) -> Samples {
    assert!(text.ends_with('\n'));
    let mut samples = Samples::new();
    let mut families = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let help = line
            .strip_prefix("# HELP ")
            .unwrap_or_else(|| panic!("{line}"));
        let (name, help) = help.split_once(' ').unwrap();
        assert!(!help.is_empty() && is_name(name), "{line}");
        assert!(families.insert(name.to_owned()), "{name} twice");
        let line = lines.next().unwrap();
        let kind = line.strip_prefix(&format!("# TYPE {name} ")).unwrap();
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        let mut last: Option<(String, f64)> = None;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (sample, labels, value) = split(line);
            let of = sample
                .strip_prefix(name)
                .unwrap_or_else(|| panic!("{line}"));
            match kind {
                "counter" | "gauge" => assert_eq!(of, "", "{line}"),
                "histogram" => last = Some(bucket(of, &labels, value, last)),
                other => panic!("{other}"),
            }
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            let key = line.rsplit_once(' ').unwrap().0.to_owned();
            assert!(samples.insert(key, value).is_none(), "{line} twice");
        }
    }
    samples
}

/// Checks one line of a histogram after the one before.
fn bucket(
    of: &str,
    labels: &[(String, String)],
    value: f64,
    last: Option<(String, f64)>,
) -> (String, f64) {
    let le = labels.iter().find(|(name, _)| name == "le");
    match (of, le) {
        ("_bucket", Some((_, bound))) => {
            let before = last.filter(|(bound, _)| bound != "sum" && bound != "+Inf");
            if let Some((before, count)) = before {
                let number = |text: &str| text.parse::<f64>().unwrap();
                assert!(bound == "+Inf" || number(&before) < number(bound));
                assert!(count <= value);
            }
            (bound.clone(), value)
        }
        ("_sum", None) => {
            let (bound, count) = last.unwrap();
            assert_eq!(bound, "+Inf");
            ("sum".to_owned(), count)
        }
        ("_count", None) => {
            let (bound, count) = last.unwrap();
            assert_eq!((bound.as_str(), count), ("sum", value));
            ("sum".to_owned(), count)
        }
        other => panic!("{other:?}"),
    }
}

fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(known)
}

/// Name, labels and value of a sample.
fn split(line: &str) -> (&str, Vec<(String, String)>, f64) {
    let (name, mut rest) = line.split_at(line.find(['{', ' ']).unwrap());
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            let end = after.find('"').unwrap();
            // No label of this service needs escaping.
            assert!(!after[..end].contains('\\'), "{line}");
            labels.push((label.to_owned(), after[..end].to_owned()));
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    let value = rest.strip_prefix(' ').unwrap();
    (name, labels, value.parse().unwrap())
}

/// The value of a sample, 0 where there is none yet.
fn of(samples: &Samples, key: &str) -> f64 {
    samples.get(key).copied().unwrap_or(0.0)
}

#[test]
fn numbers_move_with_jobs_logins_and_requests() {
    let service = Service::start_http(&["--no_cache", "--login-delay", "0"]);
    let token = service.token("ann");
    let before = metrics(&service);
    assert_eq!(of(&before, "vggt_jobs_running"), 0.0);
    assert_eq!(of(&before, "vggt_frames_total"), 0.0);
    let version = format!(
        "vggt_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(of(&before, &version), 1.0);

    let images = demo_images(2);
    let good = service.submit_http(&token, &images);
    assert_eq!(service.finished_job(&token, good)["state"], "done");
    let bad = service.submit_http(&token, &[b"no picture"]);
    assert_eq!(service.finished_job(&token, bad)["state"], "failed");
    let login = json!({"username": "ann", "password": "wrong"});
    let wrong = request("POST", "/api/v1/sessions").json(&login);
    wrong.send(service.http()).problem(401, "wrong_login");
    let mut tcp = service.connect();
    assert_eq!(tcp.log_in("ann", "wrong")[0], false);
    let (_, glb) = {
        let mut tcp = service.login("ann");
        tcp.images(&images).glb()
    };
    request("GET", "/never/heard/of").send(service.http());

    // The job is told to be done a moment before the worker is, and counted a moment before it has left the device.
    let after = wait_for("the jobs", || {
        let now = metrics(&service);
        let counted = of(&now, "vggt_job_run_seconds_count") == 3.0;
        (counted && of(&now, "vggt_jobs_running") == 0.0).then_some(now)
    });
    let grown = |key: &str| of(&after, key) - of(&before, key);
    for (key, by) in [
        ("vggt_jobs_total{outcome=\"done\",cause=\"\"}", 2.0),
        ("vggt_jobs_total{outcome=\"failed\",cause=\"input\"}", 1.0),
        ("vggt_jobs_total{outcome=\"failed\",cause=\"bug\"}", 0.0),
        ("vggt_logins_failed_total{reason=\"wrong\"}", 2.0),
        ("vggt_job_wait_seconds_count", 3.0),
        ("vggt_job_wait_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("vggt_frames_total", 4.0),
        ("vggt_jobs_running", 0.0),
        ("vggt_jobs_waiting{vip=\"false\"}", 0.0),
        ("vggt_jobs_waiting{vip=\"true\"}", 0.0),
        ("vggt_uploads_in_progress", 0.0),
        (
            "vggt_http_request_seconds_count{route=\"/api/v1/jobs\",method=\"POST\",status=\"2xx\"}",
            2.0,
        ),
        (
            "vggt_http_request_seconds_count{route=\"/api/v1/sessions\",method=\"POST\",status=\"4xx\"}",
            1.0,
        ),
        (
            "vggt_http_request_seconds_count{route=\"none\",method=\"GET\",status=\"4xx\"}",
            1.0,
        ),
    ] {
        assert!((grown(key) - by).abs() < 1e-9, "{key}: {after:#?}");
    }
    let sent: usize = images.iter().map(|image| image.len()).sum();
    for (key, at_least) in [
        ("vggt_received_bytes_total{port=\"http\"}", sent),
        ("vggt_received_bytes_total{port=\"tcp\"}", sent),
        ("vggt_sent_bytes_total{port=\"tcp\"}", glb.len()),
        ("vggt_sent_bytes_total{port=\"http\"}", 1000),
        ("vggt_points_total", 1000),
        ("process_resident_memory_bytes", 0),
        ("vggt_job_stage_seconds_total{stage=\"decode\"}", 0),
    ] {
        assert!(after.contains_key(key), "{key}: {after:#?}");
        assert!(
            key.starts_with("process_") || grown(key) >= at_least as f64,
            "{key}: {after:#?}"
        );
    }
    assert!(of(&after, "process_resident_memory_bytes") > 1e6);
    assert!(of(&after, "process_start_time_seconds") > 1.7e9);
    assert!(of(&after, "vggt_disk_free_bytes") <= of(&after, "vggt_disk_size_bytes"));
    // Ids never become labels.
    let all = text(&service);
    assert!(all.contains("route=\"/api/v1/jobs/{id}\""));
    assert!(!all.contains(&format!("jobs/{good}\"")) && !all.contains("never"));
    assert!(!all.contains("ann"), "{all}");
}

#[test]
fn what_is_open_or_waits_is_seen_while_it_does() {
    let service = Service::start_http(&[]);
    let token = service.token("ann");
    let mut tcp = service.login("vic");
    let ann = service.submit_http(&token, &crate::support::service::long_job());
    let other = service.submit_http(&token, &demo_images(3));
    let vip = tcp.submit(&demo_images(3));
    let now = metrics(&service);
    assert!(of(&now, "vggt_connections_open{port=\"tcp\"}") >= 1.0);
    assert!(of(&now, "vggt_connections_open{port=\"http\"}") >= 1.0);
    let jobs = [
        of(&now, "vggt_jobs_running"),
        of(&now, "vggt_jobs_waiting{vip=\"false\"}"),
        of(&now, "vggt_jobs_waiting{vip=\"true\"}"),
    ];
    // The first may have ended by now; VIPs go first.
    assert!(
        jobs[0] <= 1.0 && jobs.iter().sum::<f64>() <= 3.0,
        "{jobs:?}"
    );
    if service.job(&token, ann)["state"] == "running" {
        assert_eq!(jobs, [1.0, 1.0, 1.0]);
    }
    let path = format!("/api/v1/jobs/{other}");
    let cancelled = request("DELETE", &path).bearer(&token).send(service.http());
    if cancelled.status == 200 {
        wait_for("the count", || {
            let key = "vggt_jobs_total{outcome=\"cancelled\",cause=\"\"}";
            (of(&metrics(&service), key) == 1.0).then_some(())
        });
    }
    tcp.finished(vip);
}

#[test]
fn metrics_are_for_this_machine_and_whom_the_operator_allows_and_never_through_a_proxy() {
    let service = Service::start_http(&[]);
    // No secrets, no login.
    assert!(text(&service).contains("vggt_jobs_running 0\n"));
    for header in [
        "X-Forwarded-For",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Forwarded-Host",
    ] {
        let told = request("GET", "/metrics").header(header, "127.0.0.1");
        told.send(service.http()).problem(403, "forbidden");
    }
    drop(service);

    // A proxy on this machine speaks for the world, whatever it says.
    let service = Service::start_http(&["--trusted-proxy", "127.0.0.1"]);
    for asked in [
        request("GET", "/metrics"),
        request("GET", "/metrics").header("X-Forwarded-For", "127.0.0.1"),
    ] {
        asked.send(service.http()).problem(403, "forbidden");
    }
    // Another address of this machine is not it.
    let mut other = Client::from("127.0.0.2", service.http()).stream;
    let answer = request("GET", "/metrics").send_on(&mut other);
    assert_eq!(answer.status, 200);
}

/// An address of this machine that is not a loopback one, if there is any.
fn outward() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn another_network_needs_the_operators_word() {
    let Some(own) = outward() else {
        eprintln!("skipped: this machine has no other address");
        return;
    };
    let network = format!("{own}/32");
    for (args, is_allowed) in [
        (vec![], false),
        (vec!["--metrics-from", "2001:db8::/32"], false),
        (
            vec![
                "--metrics-from",
                "2001:db8::/32",
                "--metrics-from",
                &network,
            ],
            true,
        ),
    ] {
        let any = format!("{own}:0");
        let service = Service::start(&[&["--http", &any], &args[..]].concat());
        let answer = request("GET", "/metrics").send(service.http());
        match is_allowed {
            true => assert!(!parsed(&String::from_utf8(answer.body).unwrap()).is_empty()),
            false => drop(answer.problem(403, "forbidden")),
        }
    }
}
