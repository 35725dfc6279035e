//! Places for connections: some are kept back for those who are logged in, and a newcomer takes the place of one who is not.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use super::{address::Block, limits::Limits};

/// One place of so many is kept back for connections that are logged in, or come from where somebody has logged in before.
const KEPT_BACK: usize = 4;

/// Maximum number of addresses that are remembered because somebody logged in from there.
const KNOWN: usize = 10_000;

/// Why there is no place, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    /// All are taken.
    #[error("{0} are open (--max-connections)")]
    All(usize),
    /// All of this address are taken.
    #[error("{0} of this address are open (--max-connections-per-address)")]
    Address(usize),
    /// All of event streams are taken.
    #[error("{0} event streams are open (--max-event-streams)")]
    Events(usize),
    /// All event streams of this user are taken.
    #[error("{0} event streams of this user are open (--max-event-streams-per-user)")]
    EventsOfUser(usize),
}

#[derive(Debug)]
struct Entry {
    /// None for a connection of a proxy whose client is not known yet, or that is the proxy's own.
    block: Option<Block>,
    logged_in: bool,
    /// True while a file is sent, which is not cut off.
    sending: bool,
    /// Wakes the connection when it has to make room.
    give_way: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    /// By number, so that the oldest comes first.
    open: BTreeMap<u64, Entry>,
    /// Number of connections of each address.
    blocks: HashMap<Block, usize>,
    /// Number of connections that are not logged in.
    strangers: usize,
    /// Connections that only tell of a job, and the user whose they are. They are not among those that are open.
    events: HashMap<u64, i32>,
    /// Addresses from which somebody has logged in.
    known: HashSet<Block>,
}

/// The places of all connections.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    per_address: usize,
    events: usize,
    events_per_user: usize,
    state: Mutex<State>,
}

impl Places {
    /// `known` are addresses from which somebody has logged in before.
    pub(crate) fn new(limits: &Limits, known: impl Iterator<Item = Block>) -> Arc<Self> {
        Arc::new(Self {
            max: limits.connections,
            per_address: limits.connections_per_address,
            events: limits.event_streams,
            events_per_user: limits.event_streams_per_user,
            state: Mutex::new(State {
                known: known.take(KNOWN).collect(),
                ..State::default()
            }),
        })
    }

    /// Takes a place for a new connection, from one that is not logged in where necessary.
    pub(crate) fn enter(self: &Arc<Self>, block: Option<Block>) -> Result<Place, NoPlace> {
        let mut state = self.lock();
        if let Some(block) = block {
            self.make_room_of(&mut state, block)?;
        }
        self.make_room(&mut state, block)?;
        if let Some(block) = block {
            *state.blocks.entry(block).or_insert(0) += 1;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.strangers += 1;
        let give_way = Arc::new(Notify::new());
        let entry = Entry {
            block,
            logged_in: false,
            sending: false,
            give_way: give_way.clone(),
        };
        state.open.insert(id, entry);
        Ok(Place {
            places: self.clone(),
            id,
            give_way,
        })
    }

    pub(crate) fn event_streams(&self) -> usize {
        self.lock().events.len()
    }

    fn make_room(&self, state: &mut State, block: Option<Block>) -> Result<(), NoPlace> {
        let known = block.is_some_and(|block| state.known.contains(&block));
        let for_strangers = self.max - self.max / KEPT_BACK;
        let full = state.open.len() >= self.max;
        let strangers_full = !known && state.strangers >= for_strangers;
        if (full || strangers_full) && !state.push_out_any() {
            return Err(NoPlace::All(state.open.len()));
        }
        Ok(())
    }

    fn make_room_of(&self, state: &mut State, block: Block) -> Result<(), NoPlace> {
        let open = state.blocks.get(&block).copied().unwrap_or(0);
        if open >= self.per_address && !state.push_out(|entry| entry.block == Some(block)) {
            return Err(NoPlace::Address(open));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The counts are consistent after a panic elsewhere.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Entry {
    fn may_give_way(&self) -> bool {
        !self.logged_in && !self.sending
    }
}

impl State {
    /// Ends the oldest connection that is not logged in, of the address that has most of them: an address with few is not
    /// pushed out by one with many.
    fn push_out_any(&mut self) -> bool {
        let mut counts: HashMap<Option<Block>, usize> = HashMap::new();
        for entry in self.open.values().filter(|entry| entry.may_give_way()) {
            *counts.entry(entry.block).or_insert(0) += 1;
        }
        let Some(most) = counts.values().max().copied() else {
            return false;
        };
        self.push_out(|entry| counts.get(&entry.block) == Some(&most))
    }

    /// Ends the oldest of these connections that is not logged in.
    fn push_out(&mut self, which: impl Fn(&Entry) -> bool) -> bool {
        let mut open = self.open.iter();
        let found = open.find(|(_, entry)| entry.may_give_way() && which(entry));
        let Some(id) = found.map(|(id, _)| *id) else {
            return false;
        };
        if let Some(entry) = self.remove(id) {
            entry.give_way.notify_one();
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        self.strangers -= usize::from(!entry.logged_in);
        if let Some(block) = entry.block {
            self.leave(block);
        }
        Some(entry)
    }

    fn leave(&mut self, block: Block) {
        if let Some(count) = self.blocks.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                self.blocks.remove(&block);
            }
        }
    }
}

/// The place of one connection, free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    give_way: Arc<Notify>,
}

impl Place {
    /// Returns when the connection has to end for another one.
    pub(crate) async fn give_way(&self) {
        self.give_way.notified().await;
    }

    /// Counts the connection for the address of the client, which a proxy has told.
    pub(crate) fn belongs_to(&self, block: Block) -> Result<(), NoPlace> {
        let mut state = self.places.lock();
        if !state.open.contains_key(&self.id) {
            return Ok(());
        }
        self.places.make_room_of(&mut state, block)?;
        if let Some(entry) = state.open.get_mut(&self.id) {
            entry.block = Some(block);
            *state.blocks.entry(block).or_insert(0) += 1;
        }
        Ok(())
    }

    /// Exchanges the place for one of the event streams of a user, until the connection ends. It is free again for its address then, and
    /// has to give way to nobody.
    pub(crate) fn follow_job(&self, user: i32) -> Result<(), NoPlace> {
        let mut state = self.places.lock();
        if !state.open.contains_key(&self.id) {
            // It has to end for another one already, or follows a job.
            return Ok(());
        }
        let all = state.events.len();
        if all >= self.places.events {
            return Err(NoPlace::Events(all));
        }
        let own = state.events.values().filter(|of| **of == user).count();
        if own >= self.places.events_per_user {
            return Err(NoPlace::EventsOfUser(own));
        }
        state.remove(self.id);
        state.events.insert(self.id, user);
        Ok(())
    }

    pub(crate) fn set_logged_in(&self, logged_in: bool) {
        let mut guard = self.places.lock();
        let state = &mut *guard;
        let Some(entry) = state.open.get_mut(&self.id) else {
            return;
        };
        if entry.logged_in != logged_in {
            entry.logged_in = logged_in;
            if logged_in {
                state.strangers -= 1;
            } else {
                state.strangers += 1;
            }
        }
        if logged_in
            && let Some(block) = entry.block
            && state.known.len() < KNOWN
        {
            state.known.insert(block);
        }
    }

    pub(crate) fn set_sending(&self, sending: bool) {
        if let Some(entry) = self.places.lock().open.get_mut(&self.id) {
            entry.sending = sending;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.remove(self.id);
        state.events.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: usize, per_address: usize) -> Arc<Places> {
        let limits = Limits {
            connections: max,
            connections_per_address: per_address,
            ..Limits::default()
        };
        Places::new(&limits, std::iter::empty())
    }

    fn block(n: u8) -> Option<Block> {
        Some(Block::of([192, 0, 2, n].into()))
    }

    fn is_out(place: &Place) -> bool {
        !place.places.lock().open.contains_key(&place.id)
    }

    #[test]
    fn an_address_has_so_many_places_and_leaves_no_trace() {
        let places = places(100, 2);
        let one = places.enter(block(1)).unwrap();
        let two = places.enter(block(1)).unwrap();
        two.set_logged_in(true);
        // The oldest that is not logged in makes room.
        let three = places.enter(block(1)).unwrap();
        assert!(is_out(&one) && !is_out(&two));
        three.set_logged_in(true);
        assert_eq!(places.enter(block(1)).unwrap_err(), NoPlace::Address(2));
        drop(places.enter(block(2)).unwrap());
        drop((one, two, three));
        assert!(places.enter(block(1)).is_ok());
        assert!(places.lock().open.is_empty() && places.lock().blocks.is_empty());
        assert_eq!(places.lock().strangers, 0);
    }

    #[test]
    fn strangers_leave_places_for_those_who_are_logged_in() {
        let places = places(8, 8);
        let strangers: Vec<_> = (0..20).map(|_| places.enter(block(1)).unwrap()).collect();
        let left = strangers.iter().filter(|place| !is_out(place)).count();
        assert_eq!(left, 6);
        // An address with one connection stays, one with many gives way.
        let owner = places.enter(block(2)).unwrap();
        drop(places.enter(block(1)).unwrap());
        assert!(!is_out(&owner));
        owner.set_logged_in(true);
        let more: Vec<_> = (0..20)
            .map(|i| places.enter(block(10 + i)).unwrap())
            .collect();
        assert!(!is_out(&owner));
        assert!(places.lock().open.len() <= 8 && more.iter().any(is_out));
    }

    #[test]
    fn who_comes_from_where_somebody_logged_in_has_a_place_kept_back() {
        let places = places(8, 8);
        places.enter(block(1)).unwrap().set_logged_in(true);
        let flood: Vec<_> = (10..30).map(|i| places.enter(block(i)).unwrap()).collect();
        flood.iter().for_each(|place| place.set_sending(true));
        // Files that are being sent are not cut off.
        assert!(matches!(places.enter(block(9)), Err(NoPlace::All(_))));
        assert!(places.enter(block(1)).is_ok());
    }

    #[test]
    fn a_proxys_connection_is_counted_for_its_client_once_that_is_known() {
        let places = places(100, 2);
        let all: Vec<_> = (0..10).map(|_| places.enter(None).unwrap()).collect();
        assert!(all[0].belongs_to(Block::of([192, 0, 2, 1].into())).is_ok());
        assert!(all[1].belongs_to(Block::of([192, 0, 2, 1].into())).is_ok());
        all[0].set_logged_in(true);
        all[1].set_logged_in(true);
        assert!(all[2].belongs_to(Block::of([192, 0, 2, 1].into())).is_err());
        assert!(all[2].belongs_to(Block::of([192, 0, 2, 2].into())).is_ok());
        drop(all);
        assert!(places.lock().blocks.is_empty());
    }

    #[test]
    fn event_streams_leave_their_places_to_others_and_have_limits_of_their_own() {
        let limits = Limits {
            connections: 8,
            connections_per_address: 2,
            event_streams: 6,
            event_streams_per_user: 4,
            ..Limits::default()
        };
        let places = Places::new(&limits, std::iter::empty());
        let logged_in = || {
            let place = places.enter(block(1)).unwrap();
            place.set_logged_in(true);
            place
        };
        let mut streams = Vec::new();
        for _ in 0..4 {
            let place = logged_in();
            place.follow_job(7).unwrap();
            // Once more changes nothing.
            place.follow_job(7).unwrap();
            place.set_sending(true);
            place.set_logged_in(false);
            streams.push(place);
        }
        let refused = logged_in();
        assert_eq!(refused.follow_job(7), Err(NoPlace::EventsOfUser(4)));
        // It is as it was.
        assert!(!is_out(&refused));
        drop(refused);
        for user in [8, 9] {
            let place = logged_in();
            place.follow_job(user).unwrap();
            streams.push(place);
        }
        let [one, two] = [logged_in(), logged_in()];
        assert_eq!(one.follow_job(10), Err(NoPlace::Events(6)));
        assert_eq!(places.enter(block(1)).unwrap_err(), NoPlace::Address(2));
        streams.remove(0);
        one.follow_job(10).unwrap();
        assert!(places.enter(block(1)).is_ok());
        drop((one, two, streams));
        let state = places.lock();
        assert!(state.open.is_empty() && state.events.is_empty() && state.blocks.is_empty());
        assert_eq!(state.strangers, 0);
    }
}
