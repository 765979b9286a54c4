//! What must hold: always, or whenever the world is at rest.

use std::fmt;

use crate::protocol::Protocol;
use crate::state::{Consumer, Mode, State, Stream, Writer};

/// One property, by its letter in the first model; `F` is ours.
///
/// C and E are about the writers, the stream and the operator, so they are judged as soon as those are at rest; B, D
/// and H when the consumers are, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// Each event is applied once, and only on the very prefix it was written after.
    A,
    /// At rest each consumer holds the producer's log, and two live writers hold the same.
    B,
    /// At rest each acknowledged write is in the log, in a set-aside list, or destroyed by a fault.
    C,
    /// At rest whatever a consumer held and the log lacks was reported by id.
    D,
    /// At rest stream and outbox agree on every number both keep, and on the head.
    E,
    /// No writer halts: a fault of the broker alone, or a restored file that is marked, needs no decision.
    F,
    /// No fault needs more than one decision.
    G,
    /// Two writers that both acknowledged writes are never both unalarmed at rest.
    H,
    /// No consumer leaves its log, as forked or trimmed, while the stream goes on from its position.
    I,
    /// From every state a good rest can be reached without further writes and faults. It speaks about paths:
    /// `rest_is_reachable` checks it, no single state shows it.
    L,
}

/// What every search with more than one fault must find true.
pub const SAFETY: [Property; 7] = [
    Property::A,
    Property::B,
    Property::C,
    Property::D,
    Property::E,
    Property::H,
    Property::I,
];

/// The same where the loser of a decision runs on, and that no fault needs a second one.
pub const DECIDED: [Property; 8] = [
    Property::A,
    Property::B,
    Property::C,
    Property::D,
    Property::E,
    Property::G,
    Property::H,
    Property::I,
];

impl Property {
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::E => "E",
            Self::F => "F",
            Self::G => "G",
            Self::H => "H",
            Self::I => "I",
            Self::L => "L",
        }
    }

    pub(crate) fn alone(self) -> &'static [Self] {
        match self {
            Self::A => &[Self::A],
            Self::B => &[Self::B],
            Self::C => &[Self::C],
            Self::D => &[Self::D],
            Self::E => &[Self::E],
            Self::F => &[Self::F],
            Self::G => &[Self::G],
            Self::H => &[Self::H],
            Self::I => &[Self::I],
            Self::L => &[Self::L],
        }
    }

    /// Does it hold here? The cheap look comes first: at most states nothing is wrong even if they were at rest.
    pub fn holds(self, protocol: &Protocol, state: &State) -> bool {
        match self {
            Self::A => !state.misapplied,
            Self::I => !state.misled,
            Self::F => state.live().all(|writer| writer.mode != Mode::Halted),
            Self::G => state.decisions <= protocol.bounds.faults - state.faults_left,
            Self::L => true,
            Self::B => converged(state) || !protocol.at_rest(state),
            Self::C => accounted(state) || !protocol.writers_rest(state),
            Self::D => reported(state) || !protocol.at_rest(state),
            Self::E => agreed(state) || !protocol.writers_rest(state),
            Self::H => alarmed(state) || !protocol.at_rest(state),
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

pub(crate) fn converged(state: &State) -> bool {
    let mut logs = state.live().map(|writer| writer.file.rows);
    logs.all(|log| state.readers().all(|it| it.table.applied == log))
}

fn accounted(state: &State) -> bool {
    let answered = state.logged().and(state.aside()).and(state.destroyed);
    (1..=state.known).all(|id| answered.contains(id))
}

fn reported(state: &State) -> bool {
    let logged = state.logged();
    let answered = |it: &Consumer| it.seen.without(logged).without(it.reported).is_empty();
    state.readers().all(answered)
}

fn agreed(state: &State) -> bool {
    let Some(stream) = &state.stream else {
        return false;
    };
    state.live().all(|writer| agrees(stream, writer))
}

fn agrees(stream: &Stream, writer: &Writer) -> bool {
    let file = &writer.file;
    let both = stream.first.max(file.oldest)..=stream.head();
    let same = |place: u8| stream.at(place) == file.kept(place);
    stream.head() == file.rows.len() && both.into_iter().all(same)
}

fn alarmed(state: &State) -> bool {
    let both_wrote = state.live().all(|writer| writer.acknowledged);
    !state.both_live() || !both_wrote || state.live().any(|writer| writer.alarmed)
}
