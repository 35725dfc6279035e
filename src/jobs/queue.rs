//! The order of the jobs: a bounded queue with two lanes, in each of which the users take turns. Pure: no threads, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::store::{Full, Places};

/// Number of VIP jobs that run in a row while others wait; then one of the others runs.
const VIP_IN_A_ROW: u32 = 3;

/// Number of users whose last turn is remembered; beyond it all of them are forgotten. 16 bytes each.
const REMEMBERED_TURNS: usize = 10_000;

/// A waiting job.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) key: u64,
    pub(super) user: i32,
    pub(super) vip: bool,
    /// The process died while it ran: jobs that wait already run first.
    pub(super) suspect: bool,
    pub(super) item: T,
}

/// Waiting jobs, with limits for all and for each user.
#[derive(Debug)]
pub(super) struct Queue<T> {
    places: Places,
    /// By arrival.
    waiting: BTreeMap<u64, Entry<T>>,
    arrivals: u64,
    /// Suspects, which join the others once `first` is empty.
    held: VecDeque<Entry<T>>,
    /// Keys of the jobs that run before the suspects.
    first: HashSet<u64>,
    /// Places reserved for jobs that are being stored: user, and whether a VIP.
    reserved: Vec<(i32, bool)>,
    /// Number of the last turn of each user, in each lane.
    turns: HashMap<(i32, bool), u64>,
    turn: u64,
    /// VIP jobs run in a row while others waited.
    vip_row: u32,
}

impl<T> Queue<T> {
    pub(super) fn new(places: Places) -> Self {
        Self {
            places,
            waiting: BTreeMap::new(),
            arrivals: 0,
            held: VecDeque::new(),
            first: HashSet::new(),
            reserved: Vec::new(),
            turns: HashMap::new(),
            turn: 0,
            vip_row: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.held.len()
    }

    /// Reserves a place for a job that is being stored, if [`Places::check`] finds one. [`Queue::release`] frees it. `aside` are jobs
    /// that wait elsewhere, which count too.
    pub(super) fn reserve(
        &mut self,
        user: i32,
        vip: bool,
        aside: &[(i32, bool)],
    ) -> Result<(), Full> {
        let waiting = self.entries().map(|e| (e.user, e.vip));
        let taken = waiting.chain(aside.iter().copied());
        let taken = taken.chain(self.reserved.iter().copied());
        let taken: Vec<_> = taken.map(|(user, vip)| (user, vip, 1)).collect();
        self.places.check(&taken, user, vip)?;
        self.reserved.push((user, vip));
        Ok(())
    }

    pub(super) fn release(&mut self, user: i32) {
        if let Some(at) = self.reserved.iter().position(|(of, _)| *of == user) {
            self.reserved.swap_remove(at);
        }
    }

    /// Appends a job regardless of the limits: its place was reserved, or it was accepted before a restart.
    pub(super) fn push(&mut self, entry: Entry<T>) {
        if entry.suspect && (!self.waiting.is_empty() || !self.held.is_empty()) {
            if self.held.is_empty() {
                self.first = self.waiting.values().map(|e| e.key).collect();
            }
            self.held.push_back(entry);
        } else {
            self.append(entry);
        }
    }

    fn append(&mut self, entry: Entry<T>) {
        self.arrivals += 1;
        self.waiting.insert(self.arrivals, entry);
    }

    /// Removes and returns the next job.
    pub(super) fn pop(&mut self) -> Option<Entry<T>> {
        let next = self.in_order().next()?.key;
        let others = self.waiting.values().filter(|e| !e.vip).count();
        let entry = self.remove(next)?;
        self.vip_row = row_after(entry.vip, others, self.vip_row);
        if self.turns.len() >= REMEMBERED_TURNS {
            self.turns.clear();
        }
        self.turn += 1;
        self.turns.insert((entry.user, entry.vip), self.turn);
        Some(entry)
    }

    /// Removes a job.
    pub(super) fn remove(&mut self, key: u64) -> Option<Entry<T>> {
        if let Some(at) = self.held.iter().position(|e| e.key == key) {
            return self.held.remove(at);
        }
        let arrival = *self.waiting.iter().find(|(_, e)| e.key == key)?.0;
        let entry = self.waiting.remove(&arrival);
        self.first.remove(&key);
        if self.first.is_empty() {
            while let Some(held) = self.held.pop_front() {
                self.append(held);
            }
        }
        entry
    }

    /// Returns the waiting jobs in the order in which they run if no others arrive.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &Entry<T>> {
        let mut lanes = Lanes::default();
        for entry in self.waiting.values() {
            lanes.add(entry, &self.turns);
        }
        let mut held = Some(&self.held);
        let mut first = self.first.len();
        let (mut row, mut turn) = (self.vip_row, self.turn);
        std::iter::from_fn(move || {
            if first == 0
                && let Some(held) = held.take()
            {
                for entry in held {
                    lanes.add(entry, &self.turns);
                }
            }
            turn += 1;
            let entry = lanes.next(&mut row, turn)?;
            first -= usize::from(self.first.contains(&entry.key));
            Some(entry)
        })
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        self.waiting.values().chain(&self.held)
    }
}

/// Returns the number of VIP jobs in a row after one that ran while `others` waited. Counts only while other jobs wait.
fn row_after(vip: bool, others: usize, row: u32) -> u32 {
    if vip && others > 0 { row + 1 } else { 0 }
}

/// The jobs of VIPs and of others.
struct Lanes<'a, T> {
    vip: Lane<'a, T>,
    other: Lane<'a, T>,
    /// Turns that were taken in this order.
    taken: HashMap<(i32, bool), u64>,
}

impl<T> Default for Lanes<'_, T> {
    fn default() -> Self {
        Self {
            vip: Lane::default(),
            other: Lane::default(),
            taken: HashMap::new(),
        }
    }
}

impl<'a, T> Lanes<'a, T> {
    fn add(&mut self, entry: &'a Entry<T>, turns: &HashMap<(i32, bool), u64>) {
        let of = (entry.user, entry.vip);
        let last = self.taken.get(&of).or(turns.get(&of));
        let lane = if entry.vip {
            &mut self.vip
        } else {
            &mut self.other
        };
        lane.add(entry, last.copied().unwrap_or(0));
    }

    fn next(&mut self, row: &mut u32, turn: u64) -> Option<&'a Entry<T>> {
        let vip = match (self.vip.left, self.other.left) {
            (0, 0) => return None,
            (0, _) => false,
            (_, 0) => true,
            _ => *row < VIP_IN_A_ROW,
        };
        *row = row_after(vip, self.other.left, *row);
        let lane = if vip { &mut self.vip } else { &mut self.other };
        let entry = lane.next(turn)?;
        self.taken.insert((entry.user, vip), turn);
        Some(entry)
    }
}

/// The jobs of one lane: the user whose last turn is the longest ago is next, with the oldest job.
struct Lane<'a, T> {
    jobs: HashMap<i32, VecDeque<&'a Entry<T>>>,
    /// Last turn, arrival of the first job, user.
    next: BTreeSet<(u64, u64, i32)>,
    arrivals: u64,
    left: usize,
}

impl<T> Default for Lane<'_, T> {
    fn default() -> Self {
        Self {
            jobs: HashMap::new(),
            next: BTreeSet::new(),
            arrivals: 0,
            left: 0,
        }
    }
}

impl<'a, T> Lane<'a, T> {
    fn add(&mut self, entry: &'a Entry<T>, last_turn: u64) {
        self.arrivals += 1;
        self.left += 1;
        let jobs = self.jobs.entry(entry.user).or_default();
        if jobs.is_empty() {
            self.next.insert((last_turn, self.arrivals, entry.user));
        }
        jobs.push_back(entry);
    }

    fn next(&mut self, turn: u64) -> Option<&'a Entry<T>> {
        let (_, arrival, user) = self.next.pop_first()?;
        let jobs = self.jobs.get_mut(&user)?;
        let entry = jobs.pop_front()?;
        if !jobs.is_empty() {
            self.next.insert((turn, arrival, user));
        }
        self.left -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
