//! Why jobs fail, in few words.

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its files or options cannot be used.
    Input,
    /// The memory did not suffice.
    OutOfMemory,
    /// It, or decoding its files, took too long.
    Timeout,
    /// Its user holds too much.
    Quota,
    /// A fault that could have passed did not.
    Fault,
    /// The server cannot run it, for a reason that is not the job's.
    Server,
    /// A panic.
    Bug,
}

impl Cause {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 7] = [
        Self::Input,
        Self::OutOfMemory,
        Self::Timeout,
        Self::Quota,
        Self::Fault,
        Self::Server,
        Self::Bug,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::OutOfMemory => "out_of_memory",
            Self::Timeout => "timeout",
            Self::Quota => "quota",
            Self::Fault => "fault",
            Self::Server => "server",
            Self::Bug => "bug",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_the_number_of_its_place() {
        for (i, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, i, "{cause:?}");
        }
    }
}
