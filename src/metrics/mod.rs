//! What the service counts, for operators: as text in the format of Prometheus, version 0.0.4.
//!
//! Counting is an atomic addition, or a short lock once a request or a stage. Labels have few values each: names of this program's
//! own, never what a peer sent. What has a value at any time, such as the queue, is asked for when the text is made. Written by hand:
//! the crates for it register each name at run time, which can fail, and one of them writes another format.

mod causes;
mod text;
mod value;
mod write;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

pub use self::causes::Cause;
pub(crate) use self::value::Counter;
use self::value::Histogram;

/// Bounds of the time that a job waits or runs, in seconds: from an answer of the cache to four hours, the longest that one may run by
/// default.
const JOB_SECONDS: &[f64] = &[
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0,
];

/// Bounds of the time for a request, in seconds: from a look at a job to an upload of hundreds of megabytes.
const REQUEST_SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];

/// A port, by what is spoken on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Http,
    Tcp,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Failed(Cause),
    Cancelled,
}

/// Why a login was not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginFailure {
    /// The name or the password was wrong.
    Wrong,
    /// It was refused unchecked, after too many that were wrong.
    Refused,
}

/// What is counted of one port.
#[derive(Debug, Default)]
pub(crate) struct PortCounts {
    opened: Counter,
    closed: Counter,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
}

/// Requests of one route, method and class of status.
type Requests = BTreeMap<(String, &'static str, &'static str), Histogram>;

/// All counters of a service.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    pub(crate) http: PortCounts,
    pub(crate) tcp: PortCounts,
    requests: Mutex<Requests>,
    logins_wrong: Counter,
    logins_refused: Counter,
    waits: Histogram,
    runs: Histogram,
    /// Microseconds by stage.
    stages: Mutex<BTreeMap<&'static str, u64>>,
    done: Counter,
    failed: [Counter; Cause::ALL.len()],
    cancelled: Counter,
    retries: Counter,
    pub(crate) frames: Counter,
    pub(crate) points: Counter,
}

/// What has a value at any time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauges {
    /// Jobs that wait, of VIPs and of others.
    pub(crate) waiting_vip: usize,
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) uploads: usize,
    pub(crate) event_streams: usize,
    pub(crate) resident_bytes: Option<u64>,
    /// Free and all bytes of the disk of the files.
    pub(crate) disk: Option<(u64, u64)>,
    /// Used and all bytes of each GPU.
    pub(crate) gpus: Vec<(u64, u64)>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            http: PortCounts::default(),
            tcp: PortCounts::default(),
            requests: Mutex::default(),
            logins_wrong: Counter::default(),
            logins_refused: Counter::default(),
            waits: Histogram::new(JOB_SECONDS),
            runs: Histogram::new(JOB_SECONDS),
            stages: Mutex::default(),
            done: Counter::default(),
            failed: Default::default(),
            cancelled: Counter::default(),
            retries: Counter::default(),
            frames: Counter::default(),
            points: Counter::default(),
        }
    }
}

/// A connection that is counted as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection<'a>(&'a PortCounts);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.closed.add(1);
    }
}

impl Metrics {
    pub(crate) fn port(&self, port: Port) -> &PortCounts {
        match port {
            Port::Http => &self.http,
            Port::Tcp => &self.tcp,
        }
    }

    pub(crate) fn connection(&self, port: Port) -> OpenConnection<'_> {
        let counts = self.port(port);
        counts.opened.add(1);
        OpenConnection(counts)
    }

    /// Counts a request that was answered. `route` is a template, `method` what the peer sent.
    pub(crate) fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        // A peer may invent methods.
        let method = METHODS.into_iter().find(|known| *known == method);
        let class = CLASSES.get(usize::from(status / 100).wrapping_sub(1));
        let key = (
            route.to_owned(),
            method.unwrap_or("other"),
            class.copied().unwrap_or("5xx"),
        );
        let mut requests = lock(&self.requests);
        let of = requests
            .entry(key)
            .or_insert_with(|| Histogram::new(REQUEST_SECONDS));
        of.observe(took);
    }

    pub(crate) fn login_failed(&self, how: LoginFailure) {
        match how {
            LoginFailure::Wrong => self.logins_wrong.add(1),
            LoginFailure::Refused => self.logins_refused.add(1),
        }
    }

    /// Counts a job that leaves the queue to run.
    pub(crate) fn job_waited(&self, time: Duration) {
        self.waits.observe(time);
    }

    /// Counts a job that leaves the worker, however it ended.
    pub(crate) fn job_ran(&self, time: Duration) {
        self.runs.observe(time);
    }

    pub(crate) fn stage_took(&self, stage: &'static str, time: Duration) {
        *lock(&self.stages).entry(stage).or_insert(0) += time.as_micros() as u64;
    }

    pub(crate) fn job_ended(&self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.done.add(1),
            Outcome::Failed(cause) => self.failed[cause as usize].add(1),
            Outcome::Cancelled => self.cancelled.add(1),
        }
    }

    /// Counts a job that is put aside for another try.
    pub(crate) fn job_put_aside(&self) {
        self.retries.add(1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one call: it is whole after a panic elsewhere.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_a_peer_invents_are_one_and_a_connection_is_open_until_it_ends() {
        let metrics = Metrics::default();
        for method in ["GET", "BREW", "X", "get"] {
            metrics.request("/health", method, 200, Duration::from_millis(7));
        }
        assert_eq!(lock(&metrics.requests).len(), 2);
        let open = metrics.connection(Port::Tcp);
        let text = |metrics: &Metrics| metrics.to_text(&Gauges::default());
        assert!(text(&metrics).contains("vggt_connections_open{port=\"tcp\"} 1\n"));
        drop(open);
        assert!(text(&metrics).contains("vggt_connections_open{port=\"tcp\"} 0\n"));
        let bucket = "vggt_http_request_seconds_bucket{route=\"/health\",method=\"other\",status=\"2xx\",le=\"0.025\"} 3\n";
        assert!(text(&metrics).contains(bucket), "{}", text(&metrics));
    }
}
