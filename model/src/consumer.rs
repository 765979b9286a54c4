//! The consumer: does what comes next really follow what was applied?
//!
//! It reads by three doors: a look at the stream, gets, and live copies of what the stream has stored. Neither a get nor a
//! copy says of which incarnation of the stream it is, and both may be of an older one.

use crate::actions::{Reader, Who};
use crate::ids::{Id, Ids};
use crate::protocol::{Protocol, reader};
use crate::rules::Rule;
use crate::state::{Consumer, Link, Mode, State, Stream, Table};

/// Looks at the stream: at a connect, or again on the timer.
pub(crate) fn connect(protocol: &Protocol, state: &mut State, k: Reader) -> Option<()> {
    let consumer = *reader(state, k)?;
    if !consumer.unsaved && !looks_again(protocol, state, consumer.link) {
        return None;
    }
    let link = look(protocol, state, consumer.table, None);
    settle(protocol, state, k, link)
}

/// The same, with the get at the offset answered by a replica that is out of date: it has nothing yet, or what once was
/// there (`Gone`, counted from 1). The rest of what the reader learns comes from the stream's leader.
pub(crate) fn look_behind(
    protocol: &Protocol,
    state: &mut State,
    k: Reader,
    nth: u8,
) -> Option<()> {
    let Consumer { table, link, .. } = *reader(state, k)?;
    if table.seq == 0 || !looks_again(protocol, state, link) {
        return None;
    }
    let link = match nth {
        0 if protocol.has(Rule::NothingYet) => return None,
        0 if state.stream?.at(table.seq).is_some() => Link::Trimmed,
        0 => return None,
        _ => match state.gone.at(nth)? {
            (seq, id) if seq == table.seq => look(protocol, state, table, Some(id)),
            _ => return None,
        },
    };
    settle(protocol, state, k, link)
}

fn settle(protocol: &Protocol, state: &mut State, k: Reader, link: Link) -> Option<()> {
    leave(protocol, state, k, link)?;
    reader(state, k)?.unsaved = false;
    Some(())
}

/// The new state of the connection. Does the reader leave its log although the stream goes on from where it is?
fn leave(protocol: &Protocol, state: &mut State, k: Reader, link: Link) -> Option<()> {
    let leaves = matches!(link, Link::Forked | Link::Trimmed);
    let table = reader(state, k)?.table;
    state.misled |= leaves && matches!(look(protocol, state, table, None), Link::Open(_));
    reader(state, k)?.link = link;
    Some(())
}

/// Is there a reason to look (K6)?
fn looks_again(protocol: &Protocol, state: &State, link: Link) -> bool {
    let Link::Open(token) = link else {
        return true;
    };
    let same = state.stream.is_some_and(|stream| stream.token == token);
    protocol.has(Rule::LookAgain) && (protocol.has(Rule::OffsetAgain) || !same)
}

/// Its incarnation is remembered only where that decides whether to look again.
fn open(protocol: &Protocol, stream: &Stream) -> Link {
    Link::Open(match protocol.has(Rule::OffsetAgain) {
        true => 0,
        false => stream.token,
    })
}

/// What the stream holds does not follow what was applied. The producer knows whether that is so (K4).
fn differs(protocol: &Protocol) -> Link {
    match protocol.has(Rule::AskFirst) {
        true => Link::Waiting,
        false => Link::Forked,
    }
}

/// The check at the offset (K2, K4, K5). `past`: what an out-of-date replica says is there.
fn look(protocol: &Protocol, state: &State, table: Table, past: Option<Id>) -> Link {
    let Table { seq, id, .. } = table;
    let Some(stream) = &state.stream else {
        return Link::Waiting;
    };
    if stream.head() < seq {
        return Link::Waiting;
    }
    if stream.first > seq + 1 {
        return Link::Trimmed;
    }
    if seq == 0 {
        return open(protocol, stream);
    }
    match past.or(stream.at(seq)) {
        None => look_at_edge(protocol, state, stream, id),
        Some(there) if there != id && protocol.has(Rule::OffsetItself) => differs(protocol),
        Some(_) => open(protocol, stream),
    }
}

/// The stream is trimmed exactly up to the offset, where `id` was applied.
fn look_at_edge(protocol: &Protocol, state: &State, stream: &Stream, id: Id) -> Link {
    let Some(first) = stream.messages.at(1) else {
        return match protocol.has(Rule::NothingThere) {
            true => Link::Waiting,
            false => open(protocol, stream),
        };
    };
    if !protocol.has(Rule::Edge) {
        return open(protocol, stream);
    }
    if !protocol.has(Rule::Prev) {
        return Link::Trimmed;
    }
    match state.prev[usize::from(first)] == id {
        true => open(protocol, stream),
        false => differs(protocol),
    }
}

/// Reads the next event by get, and applies it (K1, K3, K7).
pub(crate) fn apply(protocol: &Protocol, state: &mut State, k: Reader) -> Option<()> {
    let Consumer { link, table, .. } = *reader(state, k)?;
    let stream = state.stream?;
    if !matches!(link, Link::Open(_)) || !protocol.has(Rule::ReadOn) {
        return None;
    }
    if stream.first > table.seq + 1 && protocol.has(Rule::NextNumber) {
        return leave(protocol, state, k, Link::Trimmed);
    }
    let seq = stream.first.max(table.seq + 1);
    let id = stream.at(seq)?;
    if follows(protocol, state, table, (seq, id)) {
        return take(protocol, state, k, (seq, id));
    }
    leave(protocol, state, k, differs(protocol))
}

/// A live copy of what the stream holds at this place.
pub(crate) fn live(protocol: &Protocol, state: &mut State, k: Reader, seq: u8) -> Option<()> {
    let id = state.stream?.at(seq)?;
    hear(protocol, state, k, (seq, id))
}

/// A live copy of what the stream held once, of whichever incarnation; or a get, answered by a replica that still holds it.
pub(crate) fn late(protocol: &Protocol, state: &mut State, k: Reader, nth: u8) -> Option<()> {
    let copy = state.gone.at(nth)?;
    hear(protocol, state, k, copy)
}

/// A copy is the next event, or it says nothing: lower is a repeat, higher a gap, and the stream itself is read (K8).
fn hear(protocol: &Protocol, state: &mut State, k: Reader, copy: (u8, Id)) -> Option<()> {
    let Consumer { link, table, .. } = *reader(state, k)?;
    let is_next = copy.0 == table.seq + 1;
    if !matches!(link, Link::Open(_)) || (protocol.has(Rule::NextNumber) && !is_next) {
        return None;
    }
    if follows(protocol, state, table, copy) {
        return take(protocol, state, k, copy);
    }
    match protocol.has(Rule::CopyProvesNothing) {
        true => None,
        false => leave(protocol, state, k, Link::Forked),
    }
}

/// Does the event name the applied one as the one before it (K3)?
fn follows(protocol: &Protocol, state: &State, table: Table, (seq, id): (u8, Id)) -> bool {
    let at_edge = seq > 1 && state.stream.is_some_and(|stream| stream.first == seq);
    let unchecked = !protocol.has(Rule::Prev) || (at_edge && !protocol.has(Rule::Edge));
    unchecked || state.prev[usize::from(id)] == table.id
}

fn take(protocol: &Protocol, state: &mut State, k: Reader, (seq, id): (u8, Id)) -> Option<()> {
    let before = state.prev[usize::from(id)];
    let consumer = reader(state, k)?;
    if consumer.unsaved {
        return None;
    }
    let applied = &mut consumer.table.applied;
    let on_its_prefix = applied.last().unwrap_or_default() == before;
    let wrong = applied.set().contains(id) || !on_its_prefix;
    applied.push(id);
    match protocol.has(Rule::OneTransaction) {
        true => (consumer.table.seq, consumer.table.id) = (seq, id),
        false => consumer.unsaved = true,
    }
    state.misapplied |= wrong;
    Some(())
}

/// Stores the position in a transaction of its own.
pub(crate) fn save(state: &mut State, k: Reader) -> Option<()> {
    let consumer = reader(state, k)?;
    if !consumer.unsaved {
        return None;
    }
    consumer.unsaved = false;
    consumer.table.seq += 1;
    consumer.table.id = consumer.table.applied.last()?;
    Some(())
}

/// "Is (n, id) in your log?" No means fork; yes means that the stream will be filled again (K4).
pub(crate) fn ask(protocol: &Protocol, state: &mut State, k: Reader, who: Who) -> Option<()> {
    let log = answers(state, who)?;
    let consumer = reader(state, k)?;
    let Table { seq, id, .. } = consumer.table;
    let waits = consumer.link == Link::Waiting && protocol.has(Rule::Ask);
    if !waits || seq == 0 || log.at(seq) == Some(id) {
        return None;
    }
    consumer.link = Link::Forked;
    Some(())
}

/// Reports by id what was applied and is not in the producer's log, and loads its snapshot.
pub(crate) fn fork(state: &mut State, k: Reader, who: Who) -> Option<()> {
    let log = answers(state, who)?;
    let consumer = reader(state, k)?;
    if consumer.link != Link::Forked {
        return None;
    }
    load(consumer, log, true);
    Some(())
}

/// A snapshot because the stream begins after the next event (K5).
pub(crate) fn snapshot(protocol: &Protocol, state: &mut State, k: Reader, who: Who) -> Option<()> {
    let log = answers(state, who)?;
    let consumer = reader(state, k)?;
    if consumer.link != Link::Trimmed || !protocol.has(Rule::Snapshot) {
        return None;
    }
    load(consumer, log, protocol.has(Rule::PositionTold));
    Some(())
}

/// Only a service that is open answers for its log.
fn answers(state: &State, who: Who) -> Option<Ids> {
    let writer = state.writers[usize::from(who)].as_ref()?;
    (writer.mode == Mode::Open).then_some(writer.file.rows)
}

fn load(consumer: &mut Consumer, log: Ids, report: bool) {
    if report {
        let missing = consumer.table.applied.set().without(log.set());
        consumer.reported = consumer.reported.and(missing);
    }
    consumer.table = Table {
        applied: log,
        seq: log.len(),
        id: log.last().unwrap_or_default(),
    };
    consumer.link = Link::Down;
    consumer.unsaved = false;
}
