//! The operator: adopts the stream's tail, begins a new epoch, or stops a writer for good.

use crate::actions::Who;
use crate::bounds::Doctrine;
use crate::ids::IdSet;
use crate::relay::{create, joins};
use crate::rules::Rule;
use crate::state::{Mode, State, View};
use crate::step::{Protocol, set_aside, writer};

/// The local tail is set aside, and the stream's is taken over. Refused without evidence where to join.
pub(crate) fn adopt(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    may_choose(protocol, state, who)?;
    if protocol.bounds.doctrine == Doctrine::SurvivorLives {
        return None;
    }
    let stream = state.stream?;
    let file = writer(state, who)?.file;
    let must_prove = protocol.has(Rule::AdoptEvidence);
    let place = (stream.first - 1..=stream.head().min(file.rows.len()))
        .rev()
        .find(|place| joins(&stream, &file, *place, &state.prev, must_prove))?;

    let mut rows = file.rows;
    rows.truncate(place);
    set_aside(state, file.rows, rows.set(), protocol.has(Rule::SaveFirst));
    for next in place + 1..=stream.head() {
        rows.push(stream.at(next)?);
    }
    let writer = writer(state, who)?;
    writer.file.rows = rows;
    writer.file.epoch = stream.epoch;
    writer.file.oldest = file.oldest.min(place + 1);
    writer.file.must_import = false;
    writer.mode = Mode::Open;
    writer.queue = None;
    writer.view = Some(View {
        token: stream.token,
        head: stream.head(),
    });
    Some(())
}

/// The stream's foreign tail is set aside, and the stream is made anew: the numbers and the bytes stay.
pub(crate) fn new_epoch(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    may_choose(protocol, state, who)?;
    let own = writer(state, who)?.file;
    let theirs = state.stream;
    if let Some(stream) = theirs {
        let save = protocol.has(Rule::SaveFirst);
        set_aside(state, stream.messages, own.rows.set(), save);
    }
    let writer = writer(state, who)?;
    writer.file.epoch = own.epoch.max(theirs.map_or(0, |stream| stream.epoch)) + 1;
    writer.queue = None;
    if protocol.bounds.doctrine == Doctrine::SurvivorLives {
        state.survivor = Some(who);
    }
    create(protocol, state, who)
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

/// One of two writers is stopped for good, once either has halted; what only its outbox holds is set aside.
pub(crate) fn kill(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let halted = state.live().any(|writer| writer.mode == Mode::Halted);
    let loses = match protocol.bounds.doctrine {
        Doctrine::SurvivorLives => state.survivor.is_some_and(|survivor| survivor != who),
        _ => true,
    };
    if !state.both_live() || !halted || !loses {
        return None;
    }
    let rows = writer(state, who)?.file.rows;
    let readable: IdSet = match (state.stream, protocol.has(Rule::SaveByMessages)) {
        (Some(stream), true) => stream.messages.iter().collect(),
        (Some(stream), false) => {
            // What the stream has trimmed counts as published.
            let mut trimmed = rows;
            trimmed.truncate(stream.first - 1);
            let either = stream.messages.iter().chain(trimmed.iter());
            either.collect()
        }
        (None, _) => IdSet::default(),
    };
    set_aside(state, rows, readable, protocol.has(Rule::SaveFirst));
    state.writers[usize::from(who)] = None;
    Some(())
}
