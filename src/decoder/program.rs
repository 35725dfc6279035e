//! The program that is started to decode: this one.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{Allowance, Session, WorkerError};
use crate::system;

/// This program's own file, also when it was replaced or removed since.
const PROC: &str = "/proc/self/exe";

/// The process that decodes, as it is started for each job.
#[derive(Debug, Clone)]
pub struct Worker {
    program: PathBuf,
    /// Bytes of memory that decoding may take.
    pub max_memory: u64,
}

impl Worker {
    /// Finds this program's own file and tries it, for a service, which has to know at its start.
    ///
    /// # Errors
    /// When it cannot be started again.
    pub fn find(max_memory: u64) -> Result<Self, WorkerError> {
        if !system::HAS_CHANNELS {
            return Err(WorkerError::NotHere);
        }
        let mut failed = WorkerError::NoProgram;
        for program in candidates() {
            let worker = Self::at(program, max_memory);
            match worker.try_out() {
                Ok(()) => return Ok(worker),
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }

    /// Finds this program's own file for one run, which meets at once what is wrong with it. A start takes some 30 ms if FFmpeg
    /// is a shared library, so the surest file is not tried.
    ///
    /// # Errors
    /// When no file can be started.
    pub fn untried(max_memory: u64) -> Result<Self, WorkerError> {
        match candidates().next() {
            Some(program) if program == Path::new(PROC) && system::HAS_CHANNELS => {
                Ok(Self::at(program, max_memory))
            }
            _ => Self::find(max_memory),
        }
    }

    /// Takes a file that is the program.
    pub fn at(program: impl Into<PathBuf>, max_memory: u64) -> Self {
        Self {
            program: program.into(),
            max_memory,
        }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts the process once, without work.
    fn try_out(&self) -> Result<(), WorkerError> {
        let greeted = Session::start(self, &Allowance::default())?.greeted();
        greeted.map_err(|e| match e {
            WorkerError::Ended { end, .. } => WorkerError::NotAgain {
                program: self.program.clone(),
                end,
            },
            e => e,
        })
    }
}

/// Where this program's own file may be, the surest first.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let proc = Path::new(PROC);
    let proc = proc.exists().then(|| proc.to_owned());
    // Without /proc: what the kernel was asked to start. A change of the working folder must not lead elsewhere.
    proc.into_iter()
        .chain(system::started_as())
        .chain(env::current_exe())
}
