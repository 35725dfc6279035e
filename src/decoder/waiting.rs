//! Reading from the other process with an eye on the clock and on the caller.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use crate::system::Channel;

/// How often a waiting reader asks whether it is to go on.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Asked now and then; `false` ends the work.
pub(super) type GoOn<'a> = dyn FnMut() -> bool + 'a;

/// Why a reader stopped waiting.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    Cancelled,
    TimeOver,
}

/// A stream that is read with an eye on the clock and on the caller.
pub(super) struct Waiting<'a, 'g> {
    /// Its reads return after a [`TICK`].
    pub(super) stream: &'a Channel,
    pub(super) deadline: Option<Instant>,
    pub(super) last_tick: &'a mut Instant,
    pub(super) go_on: &'a mut GoOn<'g>,
    pub(super) stopped: Option<Stop>,
}

impl Waiting<'_, '_> {
    /// Looks at the clock, and each [`TICK`] at the caller.
    fn tick(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.stopped = Some(Stop::TimeOver);
        } else if now.duration_since(*self.last_tick) >= TICK {
            *self.last_tick = now;
            if !(self.go_on)() {
                self.stopped = Some(Stop::Cancelled);
            }
        }
        match self.stopped {
            Some(_) => Err(io::ErrorKind::Other.into()),
            None => Ok(()),
        }
    }
}

impl Read for Waiting<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.tick()?;
            match self.stream.read(buffer) {
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                read => return read,
            }
        }
    }
}
