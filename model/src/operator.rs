//! The operator: adopts the stream's tail, begins a new epoch, or stops a writer for good.
//!
//! Each command is one transaction of one outbox file. What follows from it is done by the contacts of the process
//! that then starts on the file.

use crate::actions::Who;
use crate::bounds::Doctrine;
use crate::ids::IdSet;
use crate::protocol::{Protocol, writer};
use crate::relay::joins;
use crate::rules::Rule;
use crate::state::{File, Mode, State, Stream, Writer};

/// The local tail is quarantined, and the file is marked: its next contacts import the stream's. Refused without
/// evidence where to join, and when a later epoch is about to replace the stream.
pub(crate) fn adopt(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    may_choose(protocol, state, who)?;
    if protocol.bounds.doctrine == Doctrine::SurvivorLives {
        return None;
    }
    let stream = state.stream.filter(|it| it.latest() == it.epoch)?;
    let mut file = writer(state, who)?.file;
    let must_prove = protocol.has(Rule::AdoptEvidence);
    let place = (stream.first - 1..=stream.head().min(file.rows.len()))
        .rev()
        .find(|place| joins(&stream, &file, *place, &state.prev, must_prove))?;

    let all = file.rows.set();
    file.rows.truncate(place);
    if protocol.has(Rule::SaveFirst) {
        file.aside = file.aside.and(all.without(file.rows.set()));
    }
    file.epoch = stream.epoch;
    file.oldest = file.oldest.min(place + 1);
    file.must_import = true;
    restart(writer(state, who)?, file);
    Some(())
}

/// A higher epoch than any seen: the next contact finds a stream of a lower one, and replaces it.
pub(crate) fn new_epoch(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    may_choose(protocol, state, who)?;
    let theirs = match protocol.has(Rule::NewIsAbove) {
        true => state.stream.map_or(0, |stream| stream.latest()),
        false => 0,
    };
    let writer = writer(state, who)?;
    let mut file = writer.file;
    file.epoch = file.epoch.max(theirs) + 1;
    restart(writer, file);
    if protocol.bounds.doctrine == Doctrine::SurvivorLives {
        state.survivor = Some(who);
    }
    Some(())
}

/// A process starts on this file.
pub(crate) fn restart(writer: &mut Writer, file: File) {
    *writer = Writer {
        acknowledged: writer.acknowledged,
        alarmed: writer.alarmed,
        ..Writer::start(file)
    };
}

/// Only a halted writer asks for a decision, and only as the doctrine allows.
fn may_choose(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    if writer(state, who)?.mode != Mode::Halted {
        return None;
    }
    let may = match protocol.bounds.doctrine {
        Doctrine::StopFirst => !state.both_live(),
        Doctrine::Free(most) => state.decisions < most,
        Doctrine::SurvivorLives => state.survivor.is_none_or(|survivor| survivor == who),
    };
    may.then_some(())
}

/// One of two writers is stopped for good, once either has halted or was chosen; what only its file holds is handed to
/// the other's.
pub(crate) fn kill(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let halted = state.live().any(|writer| writer.mode == Mode::Halted);
    let needed = halted || state.decisions > 0;
    let loses = match protocol.bounds.doctrine {
        Doctrine::SurvivorLives => state.survivor.is_some_and(|survivor| survivor != who),
        _ => true,
    };
    if !state.both_live() || !needed || !loses {
        return None;
    }
    let stopped = state.writers[usize::from(who)].take()?.file;
    let left = state.writers.iter_mut().flatten().next()?;
    let safe = published(protocol, state.stream.as_ref(), &stopped);
    if protocol.has(Rule::SaveFirst) {
        let rows = stopped.rows.set().without(safe);
        left.file.aside = left.file.aside.and(rows);
    }
    if protocol.has(Rule::HandOver) {
        left.file.aside = left.file.aside.and(stopped.aside);
    }
    Some(())
}

/// What a stopped writer held and the stream holds as well.
fn published(protocol: &Protocol, stream: Option<&Stream>, stopped: &File) -> IdSet {
    let Some(stream) = stream else {
        return IdSet::default();
    };
    let readable = stream.messages.set();
    if protocol.has(Rule::SaveByMessages) {
        return readable;
    }
    // What the stream has trimmed counts as published.
    let mut trimmed = stopped.rows;
    trimmed.truncate(stream.first - 1);
    readable.and(trimmed.set())
}
