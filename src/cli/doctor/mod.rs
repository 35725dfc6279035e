//! `vggt doctor`: whether this machine computes what it should, and how fast.
//!
//! What is checked is `vggt_model::check`. On the CPU the checks run here; on CUDA in a child of this program, since a
//! failed call spoils a card for the rest of its process.

mod machine;
mod outlook;
mod report;
mod supervisor;
mod weights;
mod worker;

use std::{env, path::Path, process::Command, time::Duration};

use anyhow::Context as _;
use candle_core::{DType, Device};
use vggt_model::check::Case;

use super::{UsageError, model_args::ModelArgs};
use crate::cli::terminal::say;
use crate::pipeline::DeviceChoice;
use machine::{Choice, Machine};
use outlook::Outlook;
use report::Findings;
use weights::WeightsState;
use worker::FailCase;

/// What the help says below the options.
const EXAMPLES: &str = "\
Examples:
  vggt doctor                                    this machine, the weights, and all checks
  vggt doctor --only attention                   some of the checks
  vggt doctor --json > doctor.json               for a report of a fault";

/// Runs every operation of the network on the device against its definition, in double precision on the CPU,
/// times them, and holds the weights to the hash they should have.
///
/// Exit code 0 when all is well, 1 when something is not: also when there is an NVIDIA driver that this program cannot use, and,
/// unless --only asks for certain checks, when there are no weights here.
/// Downloads nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Only the checks whose name contains this, such as "attention" or "bf16"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// For this program itself and its tests.
#[derive(Debug, clap::Args)]
struct WorkerArgs {
    /// Run the checks and write a line of JSON for each
    #[arg(long, hide = true)]
    worker: bool,
    /// The first check of a worker
    #[arg(long, hide = true, default_value_t = 0, requires = "worker")]
    from: usize,
    /// Run the checks in child processes on every device
    #[arg(long, hide = true, conflicts_with = "worker")]
    in_children: bool,
    /// Seconds that a check in a child may take
    #[arg(long, hide = true, default_value_t = supervisor::LIMIT_S)]
    limit_s: u64,
    /// A check that fails on purpose in a worker or child: NAME=error, panic, crash, hang or bad-line
    #[arg(long, hide = true, value_name = "NAME=HOW")]
    fail_case: Vec<FailCase>,
}

/// Prints what was found.
///
/// # Errors
/// When the device cannot be used, an operation is wrong or the weights are not what they should be.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    args.model.set_threads()?;
    let WorkerArgs {
        worker,
        in_children,
        ..
    } = args.worker;
    if !(worker || in_children || args.worker.fail_case.is_empty()) {
        return Err(UsageError("--fail-case is for workers and children".to_owned()).into());
    }
    if worker {
        return worker::run(&args);
    }
    let Plan {
        outlook,
        weights,
        machine,
        choice,
        dtypes,
        cases,
        on,
    } = Plan::of(&args)?;
    let results = if on == DeviceChoice::Cpu && !in_children {
        worker::run_here(&cases, &Device::Cpu)
    } else {
        let program = env::current_exe().context("cannot find this program's file")?;
        let limit = Duration::from_secs(args.worker.limit_s);
        supervisor::run(&cases, |from| args.child(&program, on, from), limit)
    };
    let found = Findings {
        outlook,
        complete: args.only.is_none(),
        machine,
        choice,
        dtypes: dtypes.into_iter().map(|dtype| dtype.as_str()).collect(),
        checks: cases.into_iter().zip(results).collect(),
        weights,
    };
    if args.json {
        say!("{}", found.json());
    } else {
        say!("{}", found.table().trim_end());
    }
    found.verdict()
}

/// What is to be done.
struct Plan {
    outlook: Outlook,
    weights: WeightsState,
    machine: Machine,
    choice: Choice,
    dtypes: Vec<DType>,
    cases: Vec<Case>,
    /// Never `Auto`: a child that took the CPU would pass for the card.
    on: DeviceChoice,
}

impl Plan {
    /// Opens the device, and closes it again: some cards are set to take one process at a time, and the children are next.
    fn of(args: &Args) -> anyhow::Result<Self> {
        let opened = args.model.device.open_or_fall_back()?;
        let device = &opened.device;
        let weights = WeightsState::find(&args.model)?;
        Ok(Self {
            outlook: Outlook::of(device, &args.model, &weights)?,
            weights,
            machine: Machine::of(device)?,
            choice: Choice::new(args.model.device, &opened),
            dtypes: worker::dtypes(args, device)?,
            cases: worker::cases(args, device)?,
            on: match (args.model.device, device.is_cpu()) {
                (DeviceChoice::Auto, true) => DeviceChoice::Cpu,
                (DeviceChoice::Auto, false) => DeviceChoice::Cuda(0),
                (asked, _) => asked,
            },
        })
    }
}

impl Args {
    /// The command of a worker that runs the same checks from number `from` on.
    fn child(&self, program: &Path, on: DeviceChoice, from: usize) -> Command {
        let mut command = Command::new(program);
        command.args(["doctor", "--worker", "--from", &from.to_string()]);
        command.args(["--device", &on.to_string()]);
        if let Some(dtype) = self.model.dtype {
            command.args(["--dtype", dtype.as_str()]);
        }
        if let Some(threads) = self.model.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        if let Some(text) = &self.only {
            command.args(["--only", text]);
        }
        for made in &self.worker.fail_case {
            command.args(["--fail-case", &made.to_string()]);
        }
        command
    }
}
