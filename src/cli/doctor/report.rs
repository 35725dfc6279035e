//! What was found, for a person or a script.

use std::fmt::Write as _;

use anyhow::bail;
use serde_json::{Value, json};
use vggt_model::check::{Case, Purpose};

use super::{
    machine::{Choice, Machine},
    outlook::{Outlook, line},
    weights::WeightsState,
    worker::CaseResult,
};

/// All of it.
pub(super) struct Findings {
    pub(super) outlook: Outlook,
    /// All that there is was checked, and not only what --only asks for.
    pub(super) complete: bool,
    pub(super) machine: Machine,
    pub(super) choice: Choice,
    /// The types that the transformers were checked in.
    pub(super) dtypes: Vec<&'static str>,
    pub(super) checks: Vec<(Case, CaseResult)>,
    pub(super) weights: WeightsState,
}

/// What a case came to, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    Failed,
}

fn verdict(case: &Case, result: &CaseResult) -> Verdict {
    match result {
        Ok(outcome) if case.passed(outcome.error) => Verdict::Right,
        Ok(_) => Verdict::Wrong,
        Err(_) => Verdict::Failed,
    }
}

/// Columns of a line of the table.
const WIDTH: usize = 80;

/// Those of the name of a check.
const NAME: usize = 39;

/// Those of the name of an operation that is timed.
const TIMED: usize = 34;

impl Findings {
    /// # Errors
    /// When anything is wrong: what.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let labels = |which: Verdict| -> Vec<String> {
            let these = self.checks.iter();
            let these = these.filter(|(case, result)| verdict(case, result) == which);
            these.map(|(case, _)| case.label()).collect()
        };
        let (wrong, failed) = (labels(Verdict::Wrong), labels(Verdict::Failed));
        let mut faults = Vec::new();
        let of = self.checks.len();
        if !wrong.is_empty() {
            let names = wrong.join("; ");
            faults.push(format!("{} of {of} checks are wrong: {names}", wrong.len()));
        }
        if !failed.is_empty() {
            let names = failed.join("; ");
            faults.push(format!("{} of {of} checks failed: {names}", failed.len()));
        }
        if !faults.is_empty() {
            bail!(
                "{}. Results of this device cannot be trusted; --device cpu or VGGT_CPU=plain may be right",
                faults.join(". ")
            )
        }
        if let Some(damage) = self.weights.damage() {
            bail!(damage)
        }
        if let Some(why) = self.choice.fault() {
            bail!("only the CPU was checked, since CUDA cannot be used: {why}")
        }
        if !self.complete {
            return Ok(());
        }
        if let Some(why) = self.weights.missing() {
            bail!(
                "there are no weights here: {why}; `vggt fetch` downloads them, --demo needs none"
            )
        }
        let missing = self.outlook.missing();
        if !missing.is_empty() {
            bail!(
                "this program cannot read videos of phones: FFmpeg has no decoder for {}",
                missing.join(", ")
            )
        }
        Ok(())
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        text.push_str(&self.outlook.lines(&self.machine, &self.weights));
        if let Some(why) = &self.choice.fallback {
            line(
                &mut text,
                "note",
                &format!("--device auto took the CPU: {why}"),
            );
        }
        line(&mut text, "types", &self.dtypes.join(", "));
        text.push('\n');
        self.correctness(&mut text);
        self.speed(&mut text);
        text.push('\n');
        text + &self.weights.lines()
    }

    fn of_purpose(&self, speed: bool) -> impl Iterator<Item = &(Case, CaseResult)> {
        let all = self.checks.iter();
        all.filter(move |(case, _)| (case.purpose == Purpose::Speed) == speed)
    }

    fn correctness(&self, text: &mut String) {
        if self.of_purpose(false).next().is_none() {
            return;
        }
        let (error, allowed) = ("error", "allowed");
        let _ = writeln!(text, "{:<NAME$} type {error:>9} {allowed:>9}", "operation");
        for (case, result) in self.of_purpose(false) {
            // A longer name takes the space behind its type.
            let head = format!("{:<NAME$} {}", case.name, case.dtype.as_str());
            let _ = write!(text, "{head:<width$}", width = NAME + 5);
            let _ = match result {
                Ok(outcome) => writeln!(
                    text,
                    " {:>9.1e} {:>9.1e}  {}",
                    outcome.error,
                    case.tolerance(),
                    match verdict(case, result) {
                        Verdict::Right => "ok",
                        _ => "WRONG",
                    }
                ),
                Err(why) => writeln!(text, " {}", failure(case, why)),
            };
        }
    }

    fn speed(&self, text: &mut String) {
        if self.of_purpose(true).next().is_none() {
            return;
        }
        let (ms, bytes, flops, share) = ("ms", "GB/s", "GFLOP/s", "share");
        let _ = writeln!(
            text,
            "\n{:<TIMED$} type {ms:>8} {bytes:>6} {flops:>7}  {share}",
            "speed"
        );
        for (case, result) in self.of_purpose(true) {
            let _ = write!(text, "{:<TIMED$} {:<4}", case.name, case.dtype.as_str());
            let _ = match result {
                Ok(outcome) => {
                    let (work, seconds) = (case.work(), outcome.seconds.unwrap_or(f64::NAN));
                    let rate = |count: u64| match count as f64 / seconds / 1e9 {
                        0.0 => "-".to_owned(),
                        rate if rate < 100.0 => format!("{rate:.1}"),
                        rate => format!("{rate:.0}"),
                    };
                    let share = self.machine.share(&work, seconds);
                    let share = share.map_or_else(
                        || "-".to_owned(),
                        |(part, of)| format!("{:.0} % {of}", 100.0 * part),
                    );
                    let wrong = match verdict(case, result) {
                        Verdict::Right => "",
                        _ => "\n   WRONG: not finite",
                    };
                    writeln!(
                        text,
                        " {:>8.3} {:>6} {:>7}  {share}{wrong}",
                        1e3 * seconds,
                        rate(work.bytes),
                        rate(work.flops),
                    )
                }
                Err(why) => writeln!(text, " {}", failure(case, why)),
            };
        }
        let _ = writeln!(text, "\nshares   {}", self.machine.shares_are_of());
    }

    pub(super) fn json(&self) -> Value {
        let of_purpose = |speed: bool| -> Vec<Value> {
            let these = self.of_purpose(speed);
            these
                .map(|(case, result)| self.check_json(case, result))
                .collect()
        };
        let mut report = json!({
            "device_asked": self.choice.asked.to_string(),
            "fallback": self.choice.fallback.as_ref().map(ToString::to_string),
            "dtypes": self.dtypes,
            "operations": of_purpose(false),
            "speeds": of_purpose(true),
            "weights": self.weights.json(),
            "passed": self.verdict().is_ok(),
        });
        self.machine.describe(&mut report);
        self.outlook.describe(&mut report);
        report
    }

    fn check_json(&self, case: &Case, result: &CaseResult) -> Value {
        let work = case.work();
        let mut check = json!({
            "name": case.name,
            "operation": work.name,
            "dtype": case.dtype.as_str(),
            "passed": verdict(case, result) == Verdict::Right,
        });
        match result {
            Err(why) => check["failed"] = json!(why),
            Ok(outcome) => {
                // NaN is null in JSON.
                check["error"] = json!(outcome.error);
                check["tolerance"] = json!(case.tolerance());
                if let Some(seconds) = outcome.seconds {
                    let share = self.machine.share(&work, seconds);
                    check["seconds"] = json!(seconds);
                    check["bytes"] = json!(work.bytes);
                    check["flops"] = json!(work.flops);
                    check["bytes_per_s"] = json!(work.bytes as f64 / seconds);
                    check["flop_per_s"] = json!(work.flops as f64 / seconds);
                    check["share"] = json!(share.map(|(part, _)| part));
                    check["limit"] = json!(share.map(|(_, of)| of));
                }
            }
        }
        check
    }
}

/// The row of a case that failed: the first line of its error, wrapped where it is long.
fn failure(case: &Case, why: &str) -> String {
    let first = why.lines().next().unwrap_or_default();
    let mut text = "FAILED:".to_owned();
    let mut column = case.name.chars().count().max(NAME) + 6 + text.len();
    for word in first.split_whitespace() {
        let length = word.chars().count() + 1;
        if column + length > WIDTH {
            text.push_str("\n   ");
            column = 3;
        }
        text.push(' ');
        text.push_str(word);
        column += length;
    }
    text
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use vggt_model::{
        check::{Operation, Outcome},
        cuda::{self, ComputeCapability, CudaError},
        demo,
    };

    use super::*;
    use crate::pipeline::DeviceChoice;

    fn case(name: &str, purpose: Purpose) -> Case {
        let operation = Operation::LayerNorm {
            rows: 1 << 10,
            channels: 1 << 10,
        };
        Case {
            name: name.to_owned(),
            operation,
            dtype: DType::BF16,
            purpose,
        }
    }

    fn checked(name: &str, error: f64) -> (Case, CaseResult) {
        let case = case(name, Purpose::Correctness { tolerance: 1e-6 });
        let seconds = None;
        (case, Ok(Outcome { error, seconds }))
    }

    fn timed(name: &str, seconds: f64) -> (Case, CaseResult) {
        let outcome = Outcome {
            error: 0.0,
            seconds: Some(seconds),
        };
        (case(name, Purpose::Speed), Ok(outcome))
    }

    fn failed(name: &str, why: &str) -> (Case, CaseResult) {
        (checked(name, 0.0).0, Err(why.to_owned()))
    }

    fn findings(checks: Vec<(Case, CaseResult)>) -> Findings {
        Findings {
            outlook: Outlook::example(),
            complete: true,
            machine: Machine::Cuda(cuda::Description {
                name: "NVIDIA A10".to_owned(),
                capability: ComputeCapability::new(8, 6),
                memory_bytes: 24 << 30,
            }),
            choice: Choice {
                asked: DeviceChoice::Auto,
                fallback: None,
            },
            dtypes: vec!["bf16", "f16", "f32"],
            checks,
            weights: WeightsState::Bundled {
                sha256: demo::WEIGHTS_SHA256.to_owned(),
            },
        }
    }

    #[test]
    fn a_card_is_named() {
        let found = findings(vec![checked("good", 0.0), timed("fast", 2e-3)]);
        let table = found.table();
        let line = "device   cuda, NVIDIA A10, compute capability 8.6, 24.0 GiB\n";
        assert!(
            table.starts_with("vggt     ") && table.contains(line),
            "{table}"
        );
        assert!(table.contains("types    bf16, f16, f32\n"), "{table}");
        assert!(table.contains("which this card is not"), "{table}");
        let json = found.json();
        assert_eq!(json["card"], "NVIDIA A10");
        assert_eq!(json["compute_capability"], "8.6");
        assert_eq!(json["device_asked"], "auto");
        assert_eq!(json["fallback"], Value::Null);
        let speed = &json["speeds"][0];
        let bytes = speed["bytes"].as_f64().unwrap();
        let rate = speed["bytes_per_s"].as_f64().unwrap();
        assert!((rate / (bytes / 2e-3) - 1.0).abs() < 1e-12);
        assert_eq!(speed["limit"], "memory");
        found.verdict().unwrap();
    }

    #[test]
    fn a_damaged_program_is_not_in_order() {
        let mut found = findings(vec![checked("good", 0.0)]);
        found.weights = WeightsState::Bundled {
            sha256: "aa".to_owned(),
        };
        let e = found.verdict().unwrap_err().to_string();
        assert!(e.contains("install it again"), "{e}");
        assert!(found.table().contains("NOT what they were"));
        assert_eq!(found.json()["passed"], false);
    }

    #[test]
    fn wrong_and_failed_operations_are_named() {
        for error in [1e-3, f64::NAN] {
            let checks = vec![
                checked("good", 1e-7),
                checked("bad", error),
                failed("worse", "an illegal memory access"),
            ];
            let found = findings(checks);
            let e = found.verdict().unwrap_err().to_string();
            let begins =
                "1 of 3 checks are wrong: bad [bf16]. 1 of 3 checks failed: worse [bf16]. ";
            assert!(e.starts_with(begins), "{e}");
            let table = found.table();
            assert!(table.contains("WRONG"), "{table}");
            assert!(
                table.contains("FAILED: an illegal memory access\n"),
                "{table}"
            );
            let json = found.json();
            assert_eq!(json["passed"], false);
            assert_eq!(json["operations"][0]["passed"], true);
            assert_eq!(json["operations"][1]["passed"], false);
            assert_eq!(json["operations"][2]["failed"], "an illegal memory access");
        }
    }

    #[test]
    fn what_is_missing_is_a_fault_unless_only_some_checks_were_asked_for() {
        let mut found = findings(vec![checked("good", 0.0)]);
        found.weights = WeightsState::Absent("no file".to_owned());
        let e = found.verdict().unwrap_err().to_string();
        assert!(e.contains("vggt fetch"), "{e}");
        assert!(found.table().contains("weights  none here"));
        found.complete = false;
        found.verdict().unwrap();
        let mut found = findings(vec![checked("good", 0.0)]);
        found.outlook = Outlook::without_codecs();
        let e = found.verdict().unwrap_err().to_string();
        assert!(e.ends_with("H.264"), "{e}");
    }

    #[test]
    fn no_line_is_wider_than_the_table() {
        let long = format!("{} and more", "DriverError(CUDA_ERROR) ".repeat(20));
        let found = findings(vec![
            checked("good", f64::NAN),
            failed("self-attention, heads of 20, no norms, ever", &long),
            timed("slow", 12_345.678),
            timed("fast", 1e-6),
        ]);
        for line in found.table().lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn a_driver_that_cannot_be_used_is_a_fault_and_none_at_all_is_not() {
        let fallback = |why: CudaError| {
            let mut found = findings(vec![checked("good", 0.0)]);
            found.machine = Machine::Cpu {
                instructions: "avx2",
                peak: None,
                fast: None,
            };
            found.choice.fallback = Some(why);
            found
        };
        let old = fallback(CudaError::OldDriver {
            driver: 11070,
            needed: 13000,
        });
        let e = old.verdict().unwrap_err().to_string();
        assert!(e.starts_with("only the CPU was checked"), "{e}");
        let none = fallback(CudaError::NoDriver("libcuda.so.1: not found".to_owned()));
        none.verdict().unwrap();
        for (found, why) in [(old, "CUDA 11.7"), (none, "no NVIDIA driver")] {
            let table = found.table();
            let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
            let note = words.split("--device auto took the CPU: ").nth(1);
            assert!(note.is_some_and(|note| note.contains(why)), "{table}");
            let json = found.json();
            assert_eq!(json["device"], "cpu");
            assert!(json["fallback"].as_str().unwrap().contains(why), "{json}");
        }
    }
}
