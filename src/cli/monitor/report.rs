//! The result of a recording as text for people and as CSV and JSON for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::cli::terminal::{settings, width};
use crate::monitor::{
    End, GpuState, Metric, PERIOD, Sample, Session, Stats,
    plot::{self, Ink},
};

pub(super) struct Report<'a> {
    pub(super) pid: Option<u32>,
    pub(super) gpu: Option<GpuState>,
    pub(super) metrics: &'static [Metric],
    pub(super) sessions: &'a [Session],
}

/// Name and value of each figure, in the order they are printed.
type Figure = (&'static str, fn(&Stats) -> f64);
const FIGURES: [Figure; 4] = [
    ("min", Stats::min),
    ("mean", Stats::mean),
    ("max", Stats::max),
    ("change", Stats::change),
];

impl Report<'_> {
    /// A table for each session, then the plots; in color where that is wanted.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (i, session) in self.sessions.iter().enumerate() {
            let (samples, seconds) = (session.samples(), session.seconds);
            let number = i + 1;
            let _ = writeln!(out, "session {number}: {samples} samples in {seconds:.1} s");
            if samples > 0 {
                self.table(&mut out, session);
            }
        }
        if self.sessions.iter().any(|s| s.samples() > 0) {
            let ink = match settings().color_out {
                true => Ink::Color,
                false => Ink::Plain,
            };
            let drawn: Vec<Metric> = self
                .metrics
                .iter()
                .copied()
                .filter(|m| !self.is_empty(*m))
                .collect();
            out.push('\n');
            out.push_str(&plot::text(self.sessions, &drawn, ink, width()));
        }
        out
    }

    /// Whether there is nothing to measure: panels of zeros would push the others off the screen.
    fn is_empty(&self, metric: Metric) -> bool {
        let absent = matches!(self.gpu, Some(GpuState::Absent(_)));
        absent && matches!(metric, Metric::Gpu | Metric::Vram)
    }

    fn table(&self, out: &mut String, session: &Session) {
        let _ = write!(out, "{:9}", "");
        for (name, _) in FIGURES {
            let _ = write!(out, "{name:>10}");
        }
        out.push('\n');
        for metric in self.metrics {
            let stats = session.stats(*metric);
            let _ = write!(out, "  {:4} {:2}", metric.name(), metric.unit());
            let decimals = metric.decimals();
            for (name, figure) in FIGURES {
                let value = figure(stats);
                let _ = match name {
                    "change" => write!(out, "{value:>+10.decimals$}"),
                    _ => write!(out, "{value:>10.decimals$}"),
                };
            }
            out.push('\n');
        }
    }

    /// One object: how it was measured, then for each session its figures and its curve as columns.
    pub(super) fn json(&self) -> String {
        let (gpus, gpu_note) = match &self.gpu {
            None => (Value::Null, Value::Null),
            Some(GpuState::Present(count)) => (json!(count), Value::Null),
            Some(GpuState::Absent(why)) => (json!(0), json!(why)),
        };
        let sessions: Vec<Value> = self
            .sessions
            .iter()
            .enumerate()
            .map(|(i, session)| self.session(i + 1, session))
            .collect();
        let all = json!({
            "pid": self.pid,
            "period_seconds": PERIOD.as_secs_f64(),
            "gpus": gpus,
            "gpu_note": gpu_note,
            "sessions": sessions,
        });
        format!("{all}\n")
    }

    fn session(&self, number: usize, session: &Session) -> Value {
        let points = session.curve.points();
        let seconds: Vec<f64> = points.iter().map(|p| p.seconds).collect();
        let mut curve = Map::new();
        curve.insert(
            "samples_per_point".to_owned(),
            json!(session.curve.samples_per_point()),
        );
        curve.insert("seconds".to_owned(), json!(seconds));
        let mut all = Map::new();
        for metric in self.metrics {
            let values: Vec<f64> = points.iter().map(|p| p.get(*metric)).collect();
            curve.insert(metric.key().to_owned(), json!(values));
            let stats = session.stats(*metric);
            let figures: Map<String, Value> = FIGURES
                .iter()
                .map(|(name, figure)| ((*name).to_owned(), json!(figure(stats))))
                .collect();
            all.insert(metric.key().to_owned(), Value::Object(figures));
        }
        let end = match session.end {
            End::Stopped => "stopped",
            End::TimeUp => "time_up",
            End::ProcessEnded => "process_ended",
        };
        all.insert("session".to_owned(), json!(number));
        all.insert("samples".to_owned(), json!(session.samples()));
        all.insert("seconds".to_owned(), json!(session.seconds));
        all.insert("end".to_owned(), json!(end));
        all.insert("curve".to_owned(), Value::Object(curve));
        Value::Object(all)
    }
}

/// A line of CSV with the columns session, seconds, and one for each metric.
pub(super) fn csv_row(session: u8, metrics: &[Metric], sample: &Sample) -> String {
    let mut row = format!("{session},{:.6}", sample.seconds);
    for metric in metrics {
        let _ = write!(row, ",{:.*}", metric.decimals(), sample.get(*metric));
    }
    row.push('\n');
    row
}
