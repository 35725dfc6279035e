//! The order of the jobs: a bounded queue with two lanes. Pure: no threads, no clock.

use std::collections::{HashMap, VecDeque};

/// Number of VIP jobs that run in a row while others wait; then one of the others runs.
const VIP_IN_A_ROW: u32 = 3;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// Waiting jobs, all or the user's own, depending on the limit that was reached.
    pub(super) waiting: usize,
    /// True when the limit per user was reached.
    pub(super) own: bool,
}

/// A waiting job.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) key: u64,
    pub(super) user: i32,
    pub(super) vip: bool,
    pub(super) item: T,
}

/// Waiting jobs, with limits for all and for each user.
#[derive(Debug)]
pub(super) struct Queue<T> {
    max: usize,
    max_per_user: usize,
    vip: VecDeque<Entry<T>>,
    plain: VecDeque<Entry<T>>,
    /// Places reserved for jobs that are being stored, by user.
    reserved: HashMap<i32, usize>,
    /// VIP jobs run in a row while others waited.
    vip_row: u32,
}

impl<T> Queue<T> {
    pub(super) fn new(max: usize, max_per_user: usize) -> Self {
        Self {
            max,
            max_per_user,
            vip: VecDeque::new(),
            plain: VecDeque::new(),
            reserved: HashMap::new(),
            vip_row: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.vip.len() + self.plain.len()
    }

    /// Reserves a place for a job that is being stored. [`Queue::release`] frees it.
    pub(super) fn reserve(&mut self, user: i32) -> Result<(), Full> {
        let all = self.len() + self.reserved.values().sum::<usize>();
        if all >= self.max {
            return Err(Full {
                waiting: all,
                own: false,
            });
        }
        let waiting = self.entries().filter(|e| e.user == user).count();
        let own = waiting + self.reserved.get(&user).copied().unwrap_or(0);
        if own >= self.max_per_user {
            return Err(Full {
                waiting: own,
                own: true,
            });
        }
        *self.reserved.entry(user).or_insert(0) += 1;
        Ok(())
    }

    pub(super) fn release(&mut self, user: i32) {
        if let Some(n) = self.reserved.get_mut(&user) {
            *n -= 1;
            if *n == 0 {
                self.reserved.remove(&user);
            }
        }
    }

    /// Appends a job regardless of the limits: its place was reserved, or it was accepted before a restart.
    pub(super) fn push(&mut self, entry: Entry<T>) {
        if entry.vip {
            self.vip.push_back(entry);
        } else {
            self.plain.push_back(entry);
        }
    }

    /// Removes and returns the next job.
    pub(super) fn pop(&mut self) -> Option<Entry<T>> {
        let vip = next_is_vip(self.vip.len(), self.plain.len(), &mut self.vip_row)?;
        if vip {
            self.vip.pop_front()
        } else {
            self.plain.pop_front()
        }
    }

    /// Removes a job.
    pub(super) fn remove(&mut self, key: u64) -> Option<Entry<T>> {
        for lane in [&mut self.vip, &mut self.plain] {
            if let Some(at) = lane.iter().position(|e| e.key == key) {
                return lane.remove(at);
            }
        }
        None
    }

    /// Returns the waiting jobs in the order in which they run if no others arrive.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Entry<T>> {
        let (mut vip, mut plain) = (self.vip.iter(), self.plain.iter());
        let mut row = self.vip_row;
        std::iter::from_fn(move || {
            if next_is_vip(vip.len(), plain.len(), &mut row)? {
                vip.next()
            } else {
                plain.next()
            }
        })
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        self.vip.iter().chain(&self.plain)
    }
}

/// Returns true when the VIP lane is next; `None` when both are empty.
fn next_is_vip(vip: usize, plain: usize, row: &mut u32) -> Option<bool> {
    let is_vip = match (vip, plain) {
        (0, 0) => return None,
        (0, _) => false,
        (_, 0) => true,
        _ => *row < VIP_IN_A_ROW,
    };
    // A VIP job counts only while other jobs wait.
    *row = if is_vip && plain > 0 { *row + 1 } else { 0 };
    Some(is_vip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: u64, user: i32, vip: bool) -> Entry<()> {
        Entry {
            key,
            user,
            vip,
            item: (),
        }
    }

    fn drained(mut queue: Queue<()>) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop().map(|e| e.key)).collect()
    }

    #[test]
    fn vip_jobs_go_first_but_every_fourth_place_is_for_others() {
        let mut queue = Queue::new(16, 16);
        for key in 0..3 {
            queue.push(entry(key, 1, false));
        }
        for key in 10..18 {
            queue.push(entry(key, 2, true));
        }
        let order: Vec<u64> = queue.in_order().map(|e| e.key).collect();
        let expected = [10, 11, 12, 0, 13, 14, 15, 1, 16, 17, 2];
        assert_eq!(order, expected);
        assert_eq!(drained(queue), expected);
    }

    #[test]
    fn vip_jobs_that_nobody_waits_behind_are_not_counted() {
        let mut queue = Queue::new(16, 16);
        for key in 0..5 {
            queue.push(entry(key, 1, true));
            assert_eq!(queue.pop().map(|e| e.key), Some(key));
        }
        queue.push(entry(5, 2, false));
        queue.push(entry(6, 1, true));
        assert_eq!(drained(queue), [6, 5]);
    }

    #[test]
    fn both_limits_hold_and_a_released_place_is_free_again() {
        let mut queue = Queue::new(3, 2);
        queue.reserve(1).unwrap();
        queue.push(entry(0, 1, false));
        queue.release(1);
        queue.reserve(1).unwrap();
        let full = queue.reserve(1).unwrap_err();
        assert!(full.own && full.waiting == 2, "{full:?}");
        queue.reserve(2).unwrap();
        let full = queue.reserve(3).unwrap_err();
        assert!(!full.own && full.waiting == 3, "{full:?}");
        queue.release(2);
        queue.reserve(3).unwrap();
    }

    #[test]
    fn a_removed_job_leaves_its_place() {
        let mut queue = Queue::new(1, 1);
        queue.push(entry(7, 1, true));
        assert!(queue.reserve(2).is_err());
        assert!(queue.remove(8).is_none());
        assert_eq!(queue.remove(7).map(|e| e.key), Some(7));
        assert_eq!(queue.len(), 0);
        queue.reserve(2).unwrap();
    }

    #[test]
    fn jobs_from_before_a_restart_are_taken_whatever_the_limits() {
        let mut queue = Queue::new(1, 1);
        for key in 0..5 {
            queue.push(entry(key, 1, false));
        }
        assert_eq!(drained(queue), [0, 1, 2, 3, 4]);
    }
}
