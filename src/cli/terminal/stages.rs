//! The progress of a reconstruction: one bar for all of it, a line for each stage, or events.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use vggt_model::progress::Stage as NetworkStage;

use super::{BARS, ProgressKind, events, may_show, remark, settings, tell_line, width};
use crate::{
    cli::cure,
    pipeline::{Overall, SkippedImages, Stage, Warning, Watcher, Work, in_words},
};

/// Length of a bar in steps: it moves by thousandths.
const BAR_STEPS: u64 = 1000;

/// Columns of the bar's line beside the bar itself: stage, percent and time left.
const BESIDE: usize = 48;

/// Longest and shortest bar in columns.
const BAR_COLUMNS: (usize, usize) = (40, 8);

/// Seconds that are not worth telling.
const A_MOMENT: f64 = 2.0;

/// Time between two events of a stage; those that begin or end it are always written.
const BETWEEN_EVENTS: Duration = Duration::from_millis(200);

/// Time between two lines of one stage: a log of an hour has sixty lines.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// Shows the progress of a reconstruction as the flags ask for.
pub(in crate::cli) struct StageBars {
    overall: Overall,
    /// When the network began, and the seconds that it was estimated to take.
    estimate: Option<(Instant, f64)>,
    bar: Option<ProgressBar>,
    /// The stage that was shown last, and when.
    shown: Option<(&'static str, Instant)>,
    /// For the summary: what was skipped at the start is forgotten at the end of a long run.
    skipped: Option<SkippedImages>,
}

impl Default for StageBars {
    fn default() -> Self {
        Self {
            overall: Overall::begin(),
            estimate: None,
            bar: None,
            shown: None,
            skipped: None,
        }
    }
}

impl Watcher for StageBars {
    fn step(&mut self, stage: Stage, done: usize, total: usize) -> bool {
        self.overall.step(stage, done, total);
        let Some(_shown) = may_show() else {
            return true;
        };
        match settings().progress {
            ProgressKind::Bar => self.move_bar(stage),
            ProgressKind::Lines => self.write_line(stage, total),
            ProgressKind::Json => self.write_event(stage, done, total),
            ProgressKind::Auto | ProgressKind::None => {}
        }
        true
    }

    fn begin(&mut self, work: &Work) {
        self.overall.restart();
        self.estimate = work.seconds.map(|seconds| (Instant::now(), seconds));
        let Some(_shown) = may_show() else { return };
        match settings().progress {
            ProgressKind::Json => events::start(work),
            _ => remark!("{work}"),
        }
    }

    fn warn(&mut self, warning: &Warning) {
        if let Warning::ImagesSkipped(images) = warning {
            self.skipped = Some(images.clone());
        }
        let cure = cure::of_warning(warning);
        let Some(_shown) = may_show() else { return };
        if events::are_wanted() {
            return events::warning(warning, cure.as_deref());
        }
        let cure = cure.map(|cure| format!(" ({cure})"));
        tracing::warn!("{warning}{}", cure.unwrap_or_default());
    }
}

impl StageBars {
    /// Returns the files of the folder that were not used, if any.
    pub(in crate::cli) fn skipped(&self) -> Option<&SkippedImages> {
        self.skipped.as_ref()
    }

    /// Takes the bar off the screen.
    pub(in crate::cli) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Seconds until all is done: by the pace so far, or by the estimate until there is one.
    fn seconds_left(&self) -> Option<f64> {
        let by_pace = self.overall.seconds_left().map(f64::from);
        by_pace.or_else(|| {
            let (begin, seconds) = self.estimate?;
            Some((seconds - begin.elapsed().as_secs_f64()).max(1.0))
        })
    }

    /// In words; nothing for what is done in a moment.
    fn time_left(&self) -> String {
        let left = self.seconds_left().filter(|s| *s > A_MOMENT);
        left.map_or_else(String::new, |s| format!("about {} left", in_words(s)))
    }

    fn move_bar(&mut self, stage: Stage) {
        let left = self.time_left();
        let bar = self.bar.get_or_insert_with(|| BARS.add(new_bar()));
        let name = words(stage);
        if self.shown.is_none_or(|(shown, _)| shown != name) {
            self.shown = Some((name, Instant::now()));
            bar.set_prefix(name);
        }
        bar.set_message(left);
        bar.set_position((f64::from(self.overall.fraction()) * BAR_STEPS as f64) as u64);
    }

    fn write_line(&mut self, stage: Stage, total: usize) {
        let name = words(stage);
        let same = self.shown.filter(|(shown, _)| *shown == name);
        if same.is_some_and(|(_, at)| at.elapsed() < BETWEEN_LINES) {
            return;
        }
        let (count, left) = (counted(stage, total), self.time_left());
        let left = match left.as_str() {
            "" => String::new(),
            left => format!(", {left}"),
        };
        let percent = 100.0 * self.overall.fraction();
        tell_line(format_args!("{percent:>3.0} % {name}{count}{left}"));
        self.shown = Some((name, Instant::now()));
    }

    fn write_event(&mut self, stage: Stage, done: usize, total: usize) {
        let name = events::stage_name(stage);
        let same = self.shown.filter(|(shown, _)| *shown == name);
        // Frame and global blocks alternate; the last of the frame blocks is not the end of both.
        let ends = done == total && stage != Stage::Network(NetworkStage::FrameBlocks);
        if same.is_some_and(|(_, at)| at.elapsed() < BETWEEN_EVENTS) && !ends {
            return;
        }
        let fraction = (f64::from(self.overall.fraction()) * 1e4).round() / 1e4;
        let left = self.seconds_left().map(|s| (s * 10.0).round() / 10.0);
        events::write(
            "step",
            json!({
                "stage": name,
                "done": done,
                "total": total,
                "fraction": fraction,
                "seconds_left": left,
            }),
        );
        self.shown = Some((name, Instant::now()));
    }
}

impl Drop for StageBars {
    fn drop(&mut self) {
        self.finish();
    }
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new(BAR_STEPS);
    let columns = width()
        .saturating_sub(BESIDE)
        .clamp(BAR_COLUMNS.1, BAR_COLUMNS.0);
    let color = match settings().color_err {
        true => ".cyan/dim",
        false => "",
    };
    let template = format!("{{prefix:<16}} {{bar:{columns}{color}}} {{percent:>3}} % {{msg}}");
    // With an invalid template indicatif's own style stays, which is good enough.
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar
}

/// What a stage does, in at most 16 letters: frame and global blocks alternate and are one.
fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Decode => "reading images",
        Stage::Describe => "choosing anchors",
        Stage::Network(NetworkStage::PatchEmbed) => "image features",
        Stage::Network(NetworkStage::FrameBlocks | NetworkStage::GlobalBlocks) => "matching images",
        Stage::Network(NetworkStage::Camera) => "cameras",
        Stage::Network(NetworkStage::Depth) => "depth",
        Stage::Network(NetworkStage::Point) => "points",
        Stage::Network(NetworkStage::Track) => "tracks",
        Stage::Frames => "frames",
        Stage::Sky => "sky",
        Stage::Refine => "refine",
        Stage::Write => "writing files",
    }
}

/// What is counted in a stage, where that says something.
fn counted(stage: Stage, total: usize) -> String {
    match stage {
        Stage::Decode | Stage::Frames | Stage::Sky | Stage::Refine | Stage::Write if total > 0 => {
            format!(", {total}")
        }
        _ => String::new(),
    }
}
