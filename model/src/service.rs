//! The service: writes, and whether it may write yet.

use crate::actions::{Fault, Who};
use crate::bounds::Early;
use crate::ids::{MOST, NONE};
use crate::protocol::{Protocol, writer};
use crate::rules::Rule;
use crate::state::{Mode, State, View};

/// One event into the outbox, acknowledged.
pub(crate) fn commit(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    state.commits_left = state.commits_left.checked_sub(1)?;
    if state.known == MOST {
        return None;
    }
    let id = state.known + 1;
    let writer = writer(state, who)?;
    let shut = writer.looks && protocol.has(Rule::GateFirst);
    if shut || !matches!(writer.mode, Mode::Early | Mode::Open) {
        return None;
    }
    let before = writer.file.rows.last().unwrap_or(NONE);
    writer.file.rows.push(id);
    writer.acknowledged = true;
    state.prev[usize::from(id)] = before;
    state.known = id;
    Some(())
}

/// Opens for writes although the stream could not be asked yet.
pub(crate) fn open_early(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let writer = writer(state, who)?;
    let may = match protocol.bounds.early {
        Early::Never => false,
        Early::Reachable => {
            !writer.file.must_import && writer.looks && !protocol.has(Rule::GateFirst)
        }
        Early::Unmarked => !writer.file.must_import,
        Early::Always => true,
    };
    if writer.mode != Mode::Started || !may {
        return None;
    }
    writer.mode = Mode::Early;
    Some(())
}

/// Rows are kept as long as the stream keeps them, so those it has trimmed may go. Never the head.
pub(crate) fn prune(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let stream = state.stream?;
    let writer = writer(state, who)?;
    let seen = Some(View {
        token: stream.token,
        head: stream.head(),
    });
    let may = protocol.bounds.kinds.has(Fault::Trim) && writer.view == seen;
    let head = writer.file.rows.len();
    let most = if protocol.has(Rule::HeadIsKept) {
        head
    } else {
        head + 1
    };
    let oldest = stream.first.min(most);
    if !may || oldest <= writer.file.oldest {
        return None;
    }
    writer.file.oldest = oldest;
    Some(())
}
