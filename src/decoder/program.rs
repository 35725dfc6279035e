//! The program that is started to decode: this one.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{Allowance, Session, WorkerError};

/// The process that decodes, as it is started for each job.
#[derive(Debug, Clone)]
pub struct Worker {
    program: PathBuf,
    /// Bytes of memory that decoding may take.
    pub max_memory: u64,
}

impl Worker {
    /// Finds this program's own file and tries it. Returns also what the kernel lacks to lock the process in.
    ///
    /// # Errors
    /// When it cannot be started again.
    pub fn find(max_memory: u64) -> Result<(Self, Vec<String>), WorkerError> {
        let mut failed = WorkerError::NoProgram;
        for program in candidates() {
            let worker = Self::at(program, max_memory);
            match worker.try_out() {
                Ok(missing) => return Ok((worker, missing)),
                Err(e) => failed = e,
            }
        }
        Err(failed)
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

    /// Starts the process once, without work. Returns what the kernel lacks to lock it in.
    fn try_out(&self) -> Result<Vec<String>, WorkerError> {
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
    // The file itself, also when it was replaced or removed since.
    let proc = Path::new("/proc/self/exe");
    let proc = proc.exists().then(|| proc.to_owned());
    // Without /proc: what the kernel was asked to start. A change of the working folder must not lead elsewhere.
    proc.into_iter()
        .chain(started_as())
        .chain(env::current_exe())
}

#[cfg(target_os = "linux")]
fn started_as() -> Option<PathBuf> {
    let path = rustix::param::linux_execfn().to_str().ok()?;
    let absolute = std::path::absolute(path).ok()?;
    absolute.is_file().then_some(absolute)
}

#[cfg(not(target_os = "linux"))]
fn started_as() -> Option<PathBuf> {
    None
}
