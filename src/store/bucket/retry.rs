//! Attempts: how often, how long, and what is said in the end.

use std::{
    error::Error,
    future::Future,
    time::{Duration, Instant},
};

use super::{
    BucketLimits,
    error::{Failure, Verdict, verdict_of},
};

/// Attempts when the answer is none of S3, or when there are no credentials.
const FEW: u32 = 3;

/// Attempts after faults that may pass, however long each took: a part of an upload may take longer than the time for all others.
const LEAST: u32 = 3;

/// Why an operation failed in the end.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) verdict: Verdict,
    pub(super) source: Box<dyn Error + Send + Sync>,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
}

/// The attempts of one operation.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    limits: &'a BucketLimits,
    /// The bucket's server; others are asked for credentials.
    host: &'a str,
    start: Instant,
    /// Time that waiting for others took, which is not the server's.
    excused: Duration,
    made: u32,
    strange: u32,
    /// What went wrong the last time.
    last: Option<String>,
    /// What the operation has moved so far, which extends its time.
    moved: u64,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(limits: &'a BucketLimits, host: &'a str) -> Self {
        Self {
            limits,
            host,
            start: Instant::now(),
            excused: Duration::ZERO,
            made: 0,
            strange: 0,
            last: None,
            moved: 0,
        }
    }

    /// Counts bytes that have arrived.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.moved += bytes;
    }

    /// Does not count time in which the server had nothing to do.
    pub(super) fn excuse(&mut self, time: Duration) {
        self.excused += time;
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed().saturating_sub(self.excused)
    }

    /// Returns the time that is left.
    pub(super) fn left(&self) -> Duration {
        let all = self.limits.of_transfer(self.moved);
        all.saturating_sub(self.elapsed())
    }

    /// As [`Attempts::pause`], when the time is over: what went wrong before says more than that.
    pub(super) async fn pause_when_late(&mut self) -> Result<(), Fault> {
        let late = "the transfer is too slow".to_owned();
        let source = self.last.take().unwrap_or(late);
        self.pause_after(Verdict::Passing, false, source.into())
            .await
    }

    /// Pauses before the next attempt.
    ///
    /// # Errors
    /// When there is none: the fault would come again, or the time is over.
    pub(super) async fn pause(&mut self, e: object_store::Error) -> Result<(), Fault> {
        let (verdict, foreign) = match Failure::find(&e) {
            // No credentials.
            Some(failure) if failure.host != self.host => (
                match failure.verdict {
                    Verdict::Passing => Verdict::Passing,
                    _ => Verdict::Denied,
                },
                true,
            ),
            _ => (verdict_of(&e), false),
        };
        let source: Box<dyn Error + Send + Sync> = match Failure::find(&e) {
            Some(failure) if foreign => format!(
                "cannot get credentials: {failure}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
            .into(),
            Some(failure) => Box::new(failure.clone()),
            None => Box::new(e),
        };
        self.pause_after(verdict, foreign, source).await
    }

    /// As [`Attempts::pause`], after something that only this module calls a fault.
    pub(super) async fn pause_after(
        &mut self,
        verdict: Verdict,
        few: bool,
        source: Box<dyn Error + Send + Sync>,
    ) -> Result<(), Fault> {
        self.made += 1;
        let few = few || verdict == Verdict::Strange;
        self.strange += u32::from(few);
        let pause = self.next_pause();
        let again = matches!(verdict, Verdict::Passing | Verdict::Strange)
            && (!few || self.strange < FEW)
            && (pause < self.left() || self.made < LEAST);
        if !again {
            return Err(Fault {
                verdict,
                source,
                attempts: self.made,
                elapsed: self.elapsed(),
            });
        }
        self.last = Some(source.to_string());
        tracing::debug!(
            attempt = self.made,
            "a bucket is asked again in {} ms: {source}",
            pause.as_millis()
        );
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Twice as long with each attempt, and then shortened by chance to as little as half: many callers that failed together shall
    /// not come back together.
    fn next_pause(&self) -> Duration {
        let doubled = self.made.saturating_sub(1).min(16);
        let longest = self.limits.pause.saturating_mul(1 << doubled);
        let longest = longest.min(self.limits.longest_pause);
        let mut random = [0; 1];
        // Without random numbers of the system, the whole pause.
        let part = match getrandom::fill(&mut random) {
            Ok(()) => 0.5 + f64::from(random[0]) / 512.0,
            Err(_) => 1.0,
        };
        longest.mul_f64(part)
    }
}

/// Runs an operation until it succeeds, its fault is one that would come again, or its time is over. `body` is the number of bytes that
/// each attempt sends.
pub(super) async fn retried<T, F>(
    limits: &BucketLimits,
    host: &str,
    body: u64,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Fault>
where
    F: Future<Output = object_store::Result<T>>,
{
    let mut attempts = Attempts::new(limits, host);
    loop {
        // An answer that comes byte by byte is none in time either.
        let limit = limits.of_transfer(body);
        match tokio::time::timeout(limit, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(e)) => attempts.pause(e).await?,
            Err(_) => {
                let text = format!("{host} was not done within {} s", limit.as_secs_f32());
                attempts
                    .pause_after(Verdict::Passing, false, text.into())
                    .await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BucketLimits = BucketLimits {
        connect: Duration::from_secs(1),
        silence: Duration::from_secs(1),
        total: Duration::from_secs(60),
        slowest: 1000,
        pause: Duration::from_millis(100),
        longest_pause: Duration::from_secs(2),
    };

    #[test]
    fn pauses_double_up_to_the_longest_and_vary() {
        let mut attempts = Attempts::new(&LIMITS, "s3.test");
        for (made, longest) in [
            (1, 100),
            (2, 200),
            (3, 400),
            (5, 1600),
            (6, 2000),
            (400, 2000),
        ] {
            attempts.made = made;
            let all: Vec<_> = (0..64).map(|_| attempts.next_pause().as_millis()).collect();
            assert!(
                all.iter()
                    .all(|pause| (longest / 2..=longest).contains(pause)),
                "{made}: {all:?}"
            );
            assert!(all.iter().any(|pause| *pause != all[0]), "{made}: {all:?}");
        }
    }

    #[test]
    fn bytes_that_arrive_and_waits_of_others_extend_the_time() {
        let mut attempts = Attempts::new(&LIMITS, "s3.test");
        attempts.start = Instant::now() - Duration::from_secs(50);
        assert!((9..=10).contains(&attempts.left().as_secs()));
        attempts.moved(20_000);
        assert!((29..=30).contains(&attempts.left().as_secs()));
        attempts.excuse(Duration::from_secs(10));
        assert!((39..=40).contains(&attempts.left().as_secs()));
        attempts.start = Instant::now() - Duration::from_secs(500);
        assert_eq!(attempts.left(), Duration::ZERO);
    }
}
