//! What goes wrong: lost disks, older copies, deleted streams, second writers, restarts.

use crate::actions::{Action, Fault, Who};
use crate::ids::IdSet;
use crate::operator;
use crate::protocol::{Protocol, reader, writer};
use crate::rules::Rule;
use crate::state::{Link, Queue, State, Writer};

/// A copy that a later fault may bring back. It costs no fault.
pub(crate) fn back_up(protocol: &Protocol, state: &mut State, action: Action) -> Option<()> {
    let kinds = protocol.bounds.kinds;
    let any = |faults: &[Fault]| faults.iter().any(|fault| kinds.has(*fault));
    if state.faults_left == 0 {
        return None;
    }
    match action {
        Action::PBak(who) if any(&[Fault::Restore, Fault::RestoreUnknown, Fault::Stale]) => {
            state.backups.file = Some(writer(state, who)?.file);
        }
        Action::SBak if any(&[Fault::OldBroker]) => state.backups.stream = Some(state.stream?),
        Action::KBak(k) if any(&[Fault::RestoreConsumer]) && !reader(state, k)?.unsaved => {
            state.backups.consumer = Some((k, reader(state, k)?.table));
        }
        _ => return None,
    }
    Some(())
}

/// One fault, if its kind is among those looked at and, unless it is free, there is one left.
pub(crate) fn strike(protocol: &Protocol, state: &mut State, action: Action) -> Option<()> {
    if !protocol.bounds.kinds.has(action.fault()?) {
        return None;
    }
    if !matches!(action, Action::Cut(_)) {
        state.faults_left = state.faults_left.checked_sub(1)?;
    }
    match action {
        Action::Wipe => {
            state.stream?;
            state.stream = None;
            cut_all(protocol, state);
        }
        Action::LoseTail(count) => {
            let messages = &mut state.stream.as_mut()?.messages;
            messages.truncate(messages.len().checked_sub(count)?);
            cut_all(protocol, state);
        }
        Action::OldBroker => {
            state.stream = Some(state.backups.stream?);
            cut_all(protocol, state);
        }
        Action::Delete => {
            state.stream?;
            state.stream = None;
        }
        Action::Trim(first) => return trim(protocol, state, first),
        Action::Restore(who) => return restore(state, who, true),
        Action::RestoreUnknown(who) => return restore(state, who, false),
        Action::Stale => return stale(state),
        Action::Clone => return clone(state),
        Action::RestoreConsumer => {
            let (k, table) = state.backups.consumer?;
            let consumer = reader(state, k)?;
            consumer.table = table;
            consumer.link = Link::Down;
            consumer.unsaved = false;
            consumer.seen = IdSet::default();
        }
        Action::Restart(who) => {
            let writer = writer(state, who)?;
            operator::restart(writer, writer.file);
        }
        Action::Cut(who) => hang_up(protocol, writer(state, who)?),
        _ => return None,
    }
    Some(())
}

/// The broker went away and came back: every connection is gone, and with rule S3 everything sent on it.
fn cut_all(protocol: &Protocol, state: &mut State) {
    for writer in state.writers.iter_mut().flatten() {
        hang_up(protocol, writer);
    }
    for consumer in state.consumers.iter_mut().flatten() {
        consumer.link = Link::Down;
        consumer.unsaved = false;
    }
}

fn hang_up(protocol: &Protocol, writer: &mut Writer) {
    writer.doomed = None;
    let last = writer.file.rows.len();
    if let Some(view) = writer.view.take()
        && view.head < last
        && !protocol.has(Rule::NothingQueued)
    {
        writer.queue = Some(Queue {
            token: view.token,
            next: view.head + 1,
            last,
        });
    }
}

fn trim(protocol: &Protocol, state: &mut State, first: u8) -> Option<()> {
    let keeps_head = protocol.has(Rule::HeadIsKept);
    let stream = state.stream.as_mut()?;
    if stream.messages.is_empty() || (keeps_head && first > stream.head()) {
        return None;
    }
    stream.messages.skip(first - stream.first);
    stream.first = first;
    Some(())
}

/// The file of a writer is replaced by the backup, and its process starts on it. What it had acknowledged is no
/// longer its own, and a restored file's writer is a new one for property H.
fn restore(state: &mut State, who: Who, marked: bool) -> Option<()> {
    let mut file = state.backups.file?;
    file.must_import = marked;
    *writer(state, who)? = Writer::start(file);
    Some(())
}

/// A process starts on the backup while the old one goes on. Unmarked, which allows more than marked does.
fn stale(state: &mut State) -> Option<()> {
    let mut file = state.backups.file?;
    file.must_import = false;
    second_writer(state, Writer::start(file))
}

/// A second machine wakes up with a copy of the file.
fn clone(state: &mut State) -> Option<()> {
    let original = *state.live().next()?;
    second_writer(state, Writer::start(original.file))
}

fn second_writer(state: &mut State, second: Writer) -> Option<()> {
    let free = state.writers.iter_mut().find(|writer| writer.is_none())?;
    *free = Some(second);
    for writer in state.writers.iter_mut().flatten() {
        (writer.acknowledged, writer.alarmed) = (false, false);
    }
    Some(())
}
