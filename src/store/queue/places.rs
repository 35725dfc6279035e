//! How many jobs may wait. Pure.

use std::collections::HashSet;

/// How many jobs may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// For everybody.
    pub all: usize,
    /// Beyond these, for VIPs only.
    pub vip: usize,
    /// Of one user.
    pub per_user: usize,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Waiting jobs, all or the user's own, depending on the limit that was reached.
    pub waiting: usize,
    /// True when the limit per user was reached.
    pub own: bool,
}

impl Places {
    /// Checks that one more job of a user may wait beside those that do: user, whether a VIP, and how many.
    ///
    /// A user of whom no job waits is taken even beyond the number of places, unless that many users wait: so nobody can
    /// keep others out, and at most twice as many jobs wait.
    ///
    /// # Errors
    /// When there is no place.
    pub fn check(&self, waiting: &[(i32, bool, usize)], user: i32, vip: bool) -> Result<(), Full> {
        let count = |of: &dyn Fn(i32, bool) -> bool| -> usize {
            let of = waiting.iter().filter(|(user, vip, _)| of(*user, *vip));
            of.map(|(.., count)| count).sum()
        };
        let own = count(&|of, _| of == user);
        if own >= self.per_user {
            return Err(Full {
                waiting: own,
                own: true,
            });
        }
        let vips = count(&|_, vip| vip);
        let all = count(&|_, _| true);
        // VIPs that found none of their own places have taken others.
        let others = all - vips + vips.saturating_sub(self.vip);
        let free = others < self.all || (vip && vips < self.vip);
        let same_lane = waiting.iter().filter(|(_, of_vip, _)| *of_vip == vip);
        let users: HashSet<i32> = same_lane.map(|(of, ..)| *of).collect();
        let places = self.all + if vip { self.vip } else { 0 };
        if !free && (own > 0 || users.len() >= places) {
            return Err(Full {
                waiting: all,
                own: false,
            });
        }
        Ok(())
    }
}
