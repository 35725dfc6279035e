//! The checks themselves, in this process: for a report, or as the child that writes a line for each.

use std::{
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use vggt_model::check::{self, Case, Outcome, Target};

use super::Args;
use crate::cli::terminal::say;
use crate::{cli::UsageError, pipeline::transformer_dtype};

/// The outcome of a case, or why there is none.
pub(super) type CaseResult = Result<Outcome, String>;

/// A line of a child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message {
    /// Which of the cases.
    pub(super) index: usize,
    /// Its name and type.
    pub(super) label: String,
    #[serde(flatten)]
    result: Reported,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reported {
    Done {
        /// `None` for NaN, which JSON does not have.
        error: Option<f64>,
        seconds: Option<f64>,
    },
    Failed(String),
}

impl Message {
    fn new(index: usize, case: &Case, result: CaseResult) -> Self {
        let result = match result {
            Ok(outcome) => Reported::Done {
                error: Some(outcome.error).filter(|e| e.is_finite()),
                seconds: outcome.seconds,
            },
            Err(why) => Reported::Failed(why),
        };
        Self {
            index,
            label: case.label(),
            result,
        }
    }

    pub(super) fn result(self) -> CaseResult {
        match self.result {
            Reported::Done { error, seconds } => Ok(Outcome {
                error: error.unwrap_or(f64::NAN),
                seconds,
            }),
            Reported::Failed(why) => Err(why),
        }
    }
}

/// A failure that is made, so that a test sees what comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FailCase {
    /// Name and type of a case.
    pub(super) label: String,
    pub(super) how: MadeFailure,
}

/// How a case fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeFailure {
    Error,
    Panic,
    Crash,
    Hang,
    BadLine,
}

/// The ways of [`MadeFailure`] by their names.
const WAYS: [(&str, MadeFailure); 5] = [
    ("error", MadeFailure::Error),
    ("panic", MadeFailure::Panic),
    ("crash", MadeFailure::Crash),
    ("hang", MadeFailure::Hang),
    ("bad-line", MadeFailure::BadLine),
];

impl std::str::FromStr for FailCase {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let parts = s.rsplit_once('=');
        let how = parts.and_then(|(_, name)| WAYS.iter().find(|(way, _)| *way == name));
        match (parts, how) {
            (Some((label, _)), Some((_, how))) => Ok(Self {
                label: label.to_owned(),
                how: *how,
            }),
            _ => Err(format!(
                "{s:?} is not NAME=error, panic, crash, hang or bad-line"
            )),
        }
    }
}

impl std::fmt::Display for FailCase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = WAYS.iter().find(|(_, how)| *how == self.how);
        write!(f, "{}={}", self.label, name.map_or("", |(name, _)| name))
    }
}

/// The types that are checked: the one that is asked for, or all of the device.
pub(super) fn dtypes(args: &Args, device: &Device) -> anyhow::Result<Vec<DType>> {
    Ok(match args.model.dtype {
        Some(_) => vec![transformer_dtype(args.model.dtype, device)?],
        None => check::dtypes(device)?,
    })
}

/// The cases for `device`; a child of the same arguments has the same.
pub(super) fn cases(args: &Args, device: &Device) -> anyhow::Result<Vec<Case>> {
    let mut cases = check::cases(&dtypes(args, device)?, Target::of(device));
    if let Some(text) = &args.only {
        cases.retain(|case| case.label().contains(text.as_str()));
        if cases.is_empty() {
            return Err(UsageError(format!("no check has {text:?} in its name")).into());
        }
    }
    Ok(cases)
}

/// Runs all cases here, one after the other, whatever comes of them.
pub(super) fn run_here(cases: &[Case], device: &Device) -> Vec<CaseResult> {
    cases
        .iter()
        .map(|case| attempt(case, device, None))
        .collect()
}

/// The child: runs the cases from `--from` on and writes a line for each, until one fails. What a failed call leaves behind on
/// a card would fail the next ones too.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let device = args.model.device.open()?;
    let cases = cases(args, &device)?;
    for (index, case) in cases.iter().enumerate().skip(args.worker.from) {
        let made = args
            .worker
            .fail_case
            .iter()
            .find(|made| made.label == case.label());
        let how = made.map(|made| made.how);
        if how == Some(MadeFailure::BadLine) {
            say!("this is no JSON");
        }
        let message = Message::new(index, case, attempt(case, &device, how));
        // Not println, which panics when nobody reads any more.
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&message)?)?;
        out.flush()?;
        if message.result().is_err() {
            break;
        }
    }
    Ok(())
}

fn attempt(case: &Case, device: &Device, made: Option<MadeFailure>) -> CaseResult {
    let done = catch_unwind(AssertUnwindSafe(|| match made {
        Some(MadeFailure::Error) => candle_core::bail!("an error that was asked for"),
        #[allow(clippy::panic, reason = "a test asks for it")]
        Some(MadeFailure::Panic) => panic!("a panic that was asked for"),
        Some(MadeFailure::Crash) => std::process::abort(),
        Some(MadeFailure::Hang) => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        Some(MadeFailure::BadLine) | None => check::run(case, device),
    }));
    match done {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(e)) => Err(e.to_string()),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(format!("panicked: {}", text.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_every_outcome() {
        let case = check::cases(&[DType::F32], Target::Processor).remove(0);
        let there_and_back = |result: CaseResult| {
            let line = serde_json::to_string(&Message::new(7, &case, result)).unwrap();
            let message: Message = serde_json::from_str(&line).unwrap();
            assert_eq!((message.index, &message.label), (7, &case.label()));
            message.result()
        };
        let outcome = Outcome {
            error: 1e-7,
            seconds: Some(0.25),
        };
        assert_eq!(there_and_back(Ok(outcome)), Ok(outcome));
        for missing in [f64::NAN, f64::INFINITY] {
            let outcome = Outcome {
                error: missing,
                seconds: None,
            };
            assert!(there_and_back(Ok(outcome)).unwrap().error.is_nan());
        }
        let why = "CUDA_ERROR_ILLEGAL_ADDRESS\nand more".to_owned();
        assert_eq!(there_and_back(Err(why.clone())), Err(why));
    }

    #[test]
    fn errors_and_panics_are_results() {
        let case = check::cases(&[DType::F32], Target::Processor).remove(0);
        for (made, text) in [
            (MadeFailure::Error, "an error that was asked for"),
            (MadeFailure::Panic, "panicked: a panic that was asked for"),
        ] {
            let e = attempt(&case, &Device::Cpu, Some(made)).unwrap_err();
            assert!(e.contains(text), "{e}");
        }
        assert!(attempt(&case, &Device::Cpu, None).is_ok());
    }

    #[test]
    fn made_failures_are_written_as_they_are_read() {
        for text in ["layer norm, one row [f32]=hang", "a=b=crash"] {
            assert_eq!(text.parse::<FailCase>().unwrap().to_string(), text);
        }
        assert!("layer norm".parse::<FailCase>().is_err());
        assert!("layer norm=loudly".parse::<FailCase>().is_err());
    }
}
