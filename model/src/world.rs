//! The world as a test sees it after each action of a walk: the library must show the same when the walk is replayed in it.
//!
//! Nothing is renamed here. An event is the how-many-th write of the walk, a creation the how-many-th stream, both from
//! 1; the stream at the beginning is creation 1.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::actions::Action;
use crate::protocol::Protocol;
use crate::state::{self, Mode, State};

/// Everything to be compared, and nothing that exists only in the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    pub writers: [Option<Writer>; 2],
    pub stream: Option<Stream>,
    pub consumers: Vec<Consumer>,
    /// What any incarnation of the stream once stored and none holds now, place and event, as `KLate` and `KPast` count it.
    /// The library does not store this; a test needs it to send late copies.
    pub gone: Vec<(u8, u8)>,
}

/// A service process and its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    pub mode: Mode,
    pub epoch: u8,
    pub must_import: bool,
    /// The number of the first of `rows`.
    pub oldest: u8,
    /// The events kept in the outbox, oldest first.
    pub rows: Vec<u8>,
    /// The events in the file's set-aside list, ascending.
    pub set_aside: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub creation: u8,
    pub epoch: u8,
    /// The epoch of the writer that is about to replace it: it takes no more messages.
    pub closed_by: Option<u8>,
    /// The number of the first of `messages`.
    pub first: u8,
    pub messages: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {
    /// The events whose effects the tables hold, in order.
    pub applied: Vec<u8>,
    /// The position: number and event.
    pub seq: u8,
    pub last: Option<u8>,
    /// The events reported as missing from the producer's log, ascending.
    pub reported: Vec<u8>,
}

impl Protocol {
    /// The world at the beginning of a walk, and after each of its actions.
    ///
    /// # Panics
    /// If an action is not possible where it stands, or after more than 14 writes.
    pub fn worlds(&self, walk: &[Action]) -> Vec<World> {
        let mut state = State::first(&self.bounds);
        let mut worlds = vec![World::of(&state)];
        for (count, action) in (1..).zip(walk) {
            let next = self.untidied(&state, *action);
            state = next.unwrap_or_else(|| panic!("step {count}, {action}, is not possible"));
            worlds.push(World::of(&state));
        }
        worlds
    }
}

impl World {
    /// `state` has never been tidied.
    fn of(state: &State) -> Self {
        let writers = state.writers.map(|writer| writer.map(|it| Writer::of(&it)));
        Self {
            writers,
            stream: state.stream.as_ref().map(Stream::of),
            consumers: state.readers().map(Consumer::of).collect(),
            gone: state.gone.iter().collect(),
        }
    }
}

impl Writer {
    fn of(writer: &state::Writer) -> Self {
        let file = &writer.file;
        let mut rows = file.rows;
        rows.skip(file.oldest - 1);
        Self {
            mode: writer.mode,
            epoch: file.epoch,
            must_import: file.must_import,
            oldest: file.oldest,
            rows: rows.iter().collect(),
            set_aside: file.aside.iter().collect(),
        }
    }
}

impl Stream {
    fn of(stream: &state::Stream) -> Self {
        Self {
            creation: stream.token,
            epoch: stream.epoch,
            closed_by: stream.closed_by,
            first: stream.first,
            messages: stream.messages.iter().collect(),
        }
    }
}

impl Consumer {
    fn of(consumer: &state::Consumer) -> Self {
        let table = &consumer.table;
        Self {
            applied: table.applied.iter().collect(),
            seq: table.seq,
            last: table.applied.at(table.seq),
            reported: consumer.reported.iter().collect(),
        }
    }
}

/// Numbers in the order in which names were first seen: the library's ids in the model's terms.
#[derive(Clone, Debug)]
pub struct Numbers<K>(HashMap<K, u8>);

impl<K: Eq + Hash> Numbers<K> {
    pub fn of(&mut self, name: K) -> u8 {
        let next = self.0.len() + 1;
        let next = u8::try_from(next).expect("a walk names no more than 255 things");
        *self.0.entry(name).or_insert(next)
    }
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{ANYTHING, Bounds};
    use crate::rules::Rules;
    use crate::walk::Walk;

    /// The searches take equal worlds for one by renaming ids in each state. This test shows what that must not change.
    #[test]
    fn names_do_not_matter() {
        let bounds = Bounds::new(8, 4, ANYTHING).consumers(2);
        let protocol = Protocol::new(Rules::ALL, bounds);
        for seed in 0..300 {
            let walk = Walk::draw(seed, bounds, 60).then_rest(seed, bounds);
            let mut never = State::first(&bounds);
            for (tidied, action) in protocol.replay(&walk.0)[1..].iter().zip(&walk.0) {
                never = protocol.untidied(&never, *action).unwrap();
                assert_eq!(never.clone().tidy(), *tidied, "seed {seed}: {walk}");
            }
        }
    }
}
