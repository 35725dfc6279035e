//! All counters as text: names, types and what they mean.

use std::time::SystemTime;

use super::{Cause, Gauges, Metrics, lock, text::Page, value::seconds};

impl Metrics {
    /// Returns all of it as text.
    pub(crate) fn to_text(&self, now: &Gauges) -> String {
        let mut page = Page::default();
        self.write_process(&mut page, now);
        self.write_jobs(&mut page, now);
        self.write_ports(&mut page, now);
        page.into_text()
    }

    fn write_process(&self, page: &mut Page, now: &Gauges) {
        page.family("vggt_build_info", "gauge", "Always 1, of this version");
        page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        page.family(
            "process_start_time_seconds",
            "gauge",
            "When the service started, in seconds since 1970",
        );
        page.sample(&[], started.unwrap_or_default().as_secs_f64());
        if let Some(bytes) = now.resident_bytes {
            page.family(
                "process_resident_memory_bytes",
                "gauge",
                "Memory of the service, without the processes that decode",
            );
            page.sample(&[], bytes);
        }
        if let Some((free, total)) = now.disk {
            page.family(
                "vggt_disk_free_bytes",
                "gauge",
                "Free space of the disk of the files",
            );
            page.sample(&[], free);
            page.family(
                "vggt_disk_size_bytes",
                "gauge",
                "Size of the disk of the files",
            );
            page.sample(&[], total);
        }
        self.write_gpus(page, now);
    }

    fn write_gpus(&self, page: &mut Page, now: &Gauges) {
        if now.gpus.is_empty() {
            return;
        }
        page.family(
            "vggt_gpu_memory_used_bytes",
            "gauge",
            "Memory in use on a GPU, by whichever process",
        );
        for (i, (used, _)) in now.gpus.iter().enumerate() {
            page.sample(&[("gpu", &i.to_string())], used);
        }
        page.family("vggt_gpu_memory_size_bytes", "gauge", "Memory of a GPU");
        for (i, (_, size)) in now.gpus.iter().enumerate() {
            page.sample(&[("gpu", &i.to_string())], size);
        }
    }

    fn write_jobs(&self, page: &mut Page, now: &Gauges) {
        page.family(
            "vggt_jobs_waiting",
            "gauge",
            "Jobs that wait, also for another try",
        );
        page.sample(&[("vip", "false")], now.waiting);
        page.sample(&[("vip", "true")], now.waiting_vip);
        page.family("vggt_jobs_running", "gauge", "Jobs that run");
        page.sample(&[], now.running);
        page.family("vggt_uploads_in_progress", "gauge", "Uploads that arrive");
        page.sample(&[], now.uploads);
        page.family(
            "vggt_job_wait_seconds",
            "histogram",
            "Time in the queue of a job that begins to run",
        );
        page.histogram(&[], &self.waits);
        page.family(
            "vggt_job_run_seconds",
            "histogram",
            "Time for which a job ran, however it ended",
        );
        page.histogram(&[], &self.runs);
        page.family(
            "vggt_job_stage_seconds_total",
            "counter",
            "Time of jobs in each of their stages",
        );
        for (stage, micros) in &*lock(&self.stages) {
            page.sample(&[("stage", stage)], seconds(*micros));
        }
        page.family(
            "vggt_jobs_total",
            "counter",
            "Jobs that ended; cause says why one failed",
        );
        page.sample(&[("outcome", "done"), ("cause", "")], self.done.get());
        page.sample(
            &[("outcome", "cancelled"), ("cause", "")],
            self.cancelled.get(),
        );
        for cause in Cause::ALL {
            let count = self.failed[cause as usize].get();
            page.sample(&[("outcome", "failed"), ("cause", cause.word())], count);
        }
        page.family(
            "vggt_job_retries_total",
            "counter",
            "Times that a passing fault put a job aside",
        );
        page.sample(&[], self.retries.get());
        page.family(
            "vggt_frames_total",
            "counter",
            "Frames of the results that the network made",
        );
        page.sample(&[], self.frames.get());
        page.family(
            "vggt_points_total",
            "counter",
            "Points of the GLBs that were stored",
        );
        page.sample(&[], self.points.get());
    }

    fn write_ports(&self, page: &mut Page, now: &Gauges) {
        let ports = [("http", &self.http), ("tcp", &self.tcp)];
        page.family(
            "vggt_connections_open",
            "gauge",
            "Open connections, event streams included",
        );
        for (port, counts) in ports {
            // Both may grow in between: none below zero.
            let closed = counts.closed.get();
            let open = counts.opened.get().saturating_sub(closed);
            page.sample(&[("port", port)], open);
        }
        page.family(
            "vggt_event_streams_open",
            "gauge",
            "Streams of events that are open",
        );
        page.sample(&[], now.event_streams);
        page.family(
            "vggt_received_bytes_total",
            "counter",
            "Bytes received, heads included",
        );
        for (port, counts) in ports {
            page.sample(&[("port", port)], counts.received.get());
        }
        page.family("vggt_sent_bytes_total", "counter", "Bytes sent");
        for (port, counts) in ports {
            page.sample(&[("port", port)], counts.sent.get());
        }
        page.family(
            "vggt_logins_failed_total",
            "counter",
            "Logins with a wrong name or password, and those refused unchecked",
        );
        page.sample(&[("reason", "wrong")], self.logins_wrong.get());
        page.sample(&[("reason", "refused")], self.logins_refused.get());
        page.family(
            "vggt_http_request_seconds",
            "histogram",
            "Time until the head of an answer, by route",
        );
        for ((route, method, status), times) in &*lock(&self.requests) {
            let labels = [
                ("route", route.as_str()),
                ("method", *method),
                ("status", *status),
            ];
            page.histogram(&labels, times);
        }
    }
}
