//! The consumer: does what comes next really follow what was applied?

use crate::actions::{Reader, Who};
use crate::ids::{Id, Ids};
use crate::rules::Rule;
use crate::state::{Consumer, Link, Mode, State, Stream, Table};
use crate::step::{Protocol, reader};

/// Connects, or repeats the check on a timer.
pub(crate) fn connect(protocol: &Protocol, state: &mut State, k: Reader) -> Option<()> {
    let consumer = *reader(state, k)?;
    let reads_on = matches!(consumer.link, Link::Open(_)) && !protocol.has(Rule::OneIncarnation);
    if reads_on && !consumer.unsaved {
        return None;
    }
    let link = look(protocol, state, consumer.table);
    let consumer = reader(state, k)?;
    consumer.link = link;
    consumer.unsaved = false;
    Some(())
}

/// The check at the offset (K2, K4, K5).
fn look(protocol: &Protocol, state: &State, table: Table) -> Link {
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
        return Link::Open(stream.token);
    }
    if stream.first == seq + 1 {
        return look_at_edge(protocol, state, stream, id);
    }
    match stream.at(seq) == Some(id) || !protocol.has(Rule::OffsetItself) {
        true => Link::Open(stream.token),
        false => Link::Forked,
    }
}

/// The stream is trimmed exactly up to the offset, where `id` was applied.
fn look_at_edge(protocol: &Protocol, state: &State, stream: &Stream, id: Id) -> Link {
    let Some(first) = stream.messages.at(1) else {
        return match protocol.has(Rule::NothingThere) {
            true => Link::Waiting,
            false => Link::Open(stream.token),
        };
    };
    if !protocol.has(Rule::Edge) {
        return Link::Open(stream.token);
    }
    if !protocol.has(Rule::Prev) {
        return Link::Trimmed;
    }
    match state.prev[usize::from(first)] == id {
        true => Link::Open(stream.token),
        false => Link::Forked,
    }
}

/// Reads and applies one event (K1, K3, K6).
pub(crate) fn apply(protocol: &Protocol, state: &mut State, k: Reader) -> Option<()> {
    let Consumer {
        link,
        table,
        unsaved,
        ..
    } = *reader(state, k)?;
    let Link::Open(token) = link else {
        return None;
    };
    let alive = state.stream.is_some_and(|stream| stream.token == token);
    if protocol.has(Rule::OneIncarnation) && !alive {
        reader(state, k)?.link = Link::Down;
        return Some(());
    }
    let stream = state.stream?;
    if unsaved {
        return None;
    }
    if stream.first > table.seq + 1 && protocol.has(Rule::NextNumber) {
        reader(state, k)?.link = Link::Trimmed;
        return Some(());
    }
    let seq = stream.first.max(table.seq + 1);
    let id = stream.at(seq)?;
    let before = state.prev[usize::from(id)];
    let at_edge = seq == stream.first && seq > 1;
    let unchecked = !protocol.has(Rule::Prev) || (at_edge && !protocol.has(Rule::Edge));
    if before != table.id && !unchecked {
        reader(state, k)?.link = Link::Forked;
        return Some(());
    }
    let on_its_prefix = table.applied.last().unwrap_or_default() == before;
    state.misapplied |= table.applied.set().contains(id) || !on_its_prefix;
    take(protocol, reader(state, k)?, seq, id);
    Some(())
}

fn take(protocol: &Protocol, consumer: &mut Consumer, seq: u8, id: Id) {
    consumer.table.applied.push(id);
    match protocol.has(Rule::OneTransaction) {
        true => (consumer.table.seq, consumer.table.id) = (seq, id),
        false => consumer.unsaved = true,
    }
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
