//! The checks in child processes, so that a check that fails, crashes or never ends does not disturb the others.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use vggt_model::check::Case;

use super::worker::{CaseResult, Message};

/// Seconds that a case may take. The first one of a child includes that the driver compiles candle's kernels, some ten seconds
/// of one core on a machine that has not done it before.
pub(super) const LIMIT_S: u64 = 120;

/// Cases that may exceed the limit before the rest is left out: with a card that hangs, each would take the limit.
const MOST_TIMEOUTS: usize = 3;

/// Bytes of a line at most; one that is longer is not a message.
const MOST_LINE: u64 = 64 << 10;

/// Bytes that are kept of the end of what a child writes to its standard error.
const KEPT_ERRORS: usize = 4 << 10;

/// Runs the cases in children: `child(n)` is the command of one that begins with case n. One is started for the first case,
/// and after each that fails.
pub(super) fn run(
    cases: &[Case],
    child: impl Fn(usize) -> Command,
    limit: Duration,
) -> Vec<CaseResult> {
    let mut results: Vec<CaseResult> = Vec::with_capacity(cases.len());
    let mut timeouts = 0;
    while results.len() < cases.len() {
        if timeouts == MOST_TIMEOUTS {
            let why = format!(
                "not run: {timeouts} others took longer than {} s",
                limit.as_secs()
            );
            results.push(Err(why));
            continue;
        }
        let mut worker = match Worker::start(child(results.len())) {
            Ok(worker) => worker,
            Err(e) => {
                results.push(Err(format!("cannot start a process for it: {e}")));
                continue;
            }
        };
        while let Some(case) = cases.get(results.len()) {
            let result = match worker.next(limit) {
                Ok(line) => read(&line, results.len(), case),
                Err(RecvTimeoutError::Timeout) => {
                    timeouts += 1;
                    Err(format!(
                        "took longer than {} s and was ended",
                        limit.as_secs()
                    ))
                }
                Err(RecvTimeoutError::Disconnected) => Err(worker.ending()),
            };
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
    }
    results
}

/// What a line says of the case it should be about.
fn read(line: &[u8], index: usize, case: &Case) -> CaseResult {
    match serde_json::from_slice::<Message>(line) {
        Ok(message) if message.index == index && message.label == case.label() => message.result(),
        Ok(message) => Err(format!(
            "its process answered for {:?}, number {}, instead",
            message.label, message.index
        )),
        Err(e) => {
            let line = String::from_utf8_lossy(line);
            Err(format!("its process wrote {:?}: {e}", line.trim_end()))
        }
    }
}

/// A child at work. Ends with this.
struct Worker {
    child: Child,
    lines: Receiver<Vec<u8>>,
    errors: Option<JoinHandle<Vec<u8>>>,
}

impl Worker {
    fn start(mut command: Command) -> std::io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (send, lines) = mpsc::sync_channel(1);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        thread::spawn(move || {
            let Some(out) = out else { return };
            let mut out = BufReader::new(out);
            loop {
                let mut line = Vec::new();
                let read = out.by_ref().take(MOST_LINE).read_until(b'\n', &mut line);
                if !matches!(read, Ok(n) if n > 0) || send.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = thread::spawn(move || err.map_or_else(Vec::new, the_end_of));
        Ok(Self {
            child,
            lines,
            errors: Some(errors),
        })
    }

    fn next(&self, limit: Duration) -> Result<Vec<u8>, RecvTimeoutError> {
        self.lines.recv_timeout(limit)
    }

    /// How it ended, and the last line that it wrote to its standard error.
    fn ending(&mut self) -> String {
        // It may still be there with its output closed.
        let _ = self.child.kill();
        let how = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        let errors = self.errors.take().and_then(|thread| thread.join().ok());
        let errors = errors.unwrap_or_default();
        let errors = String::from_utf8_lossy(&errors);
        match errors.lines().rfind(|line| !line.trim().is_empty()) {
            Some(last) => format!("its process ended ({how}): {}", last.trim()),
            None => format!("its process ended ({how})"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // In vain when it has ended, as most have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end and keeps the last of it.
fn the_end_of(mut from: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; KEPT_ERRORS]);
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..n]);
        let surplus = kept.len().saturating_sub(KEPT_ERRORS);
        kept.drain(..surplus);
    }
    kept
}

#[cfg(all(test, unix))]
mod tests {
    use candle_core::DType;
    use vggt_model::check::{self, Target};

    use super::*;

    fn cases(count: usize) -> Vec<Case> {
        let mut cases = check::cases(&[DType::F32], Target::Processor);
        cases.truncate(count);
        cases
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// A limit that nothing of these tests comes near.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_no_message_is_a_failure_of_that_case_alone() {
        let cases = cases(3);
        let good = |i: usize| {
            format!(
                r#"echo '{{"index":{i},"label":"{}","done":{{"error":0.0,"seconds":null}}}}'"#,
                cases[i].label()
            )
        };
        let results = run(
            &cases,
            |from| match from {
                0 => shell(&format!("{}; echo '{{'; exec sleep 60", good(0))),
                from => shell(&good(from)),
            },
            LONG,
        );
        assert_eq!(results[0].as_ref().unwrap().error, 0.0);
        let e = results[1].as_ref().unwrap_err();
        assert!(e.starts_with(r#"its process wrote "{""#), "{e}");
        assert!(results[2].is_ok());
    }

    #[test]
    fn an_answer_for_another_case_is_no_answer() {
        let cases = cases(1);
        let line = r#"echo '{"index":0,"label":"another","done":{"error":0.0,"seconds":null}}'"#;
        let results = run(&cases, |_| shell(line), LONG);
        let e = results[0].as_ref().unwrap_err();
        assert!(e.contains("another"), "{e}");
    }

    #[test]
    fn the_last_line_of_standard_error_is_in_the_failure() {
        let cases = cases(2);
        let script = "echo first >&2; echo no memory >&2; exit 7";
        for result in run(&cases, |_| shell(script), LONG) {
            let e = result.unwrap_err();
            assert!(e.contains("7") && e.ends_with("no memory"), "{e}");
        }
    }

    #[test]
    fn a_card_that_hangs_does_not_take_the_limit_for_every_case() {
        let cases = cases(6);
        let results = run(
            &cases,
            |_| shell("exec sleep 60"),
            Duration::from_millis(50),
        );
        let errors: Vec<String> = results.into_iter().map(Result::unwrap_err).collect();
        for (i, e) in errors.iter().enumerate() {
            let begins = if i < MOST_TIMEOUTS {
                "took longer"
            } else {
                "not run"
            };
            assert!(e.starts_with(begins), "{i}: {e}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_fails_every_case() {
        let results = run(&cases(2), |_| Command::new("/nowhere/vggt"), LONG);
        for result in results {
            assert!(result.unwrap_err().starts_with("cannot start"));
        }
    }
}
