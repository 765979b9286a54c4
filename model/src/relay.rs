//! The relay: the contact, which decides whether the stream is a copy of this outbox, and the publish.

use crate::actions::Who;
use crate::bounds::Early;
use crate::ids::{Id, Ids, MOST, NONE};
use crate::protocol::{Protocol, writer};
use crate::rules::Rule;
use crate::state::{File, Mode, State, Stream, View};

/// What a contact finds.
enum Verdict {
    /// The stream holds the outbox's rows up to here: go on after it.
    Continue(u8),
    /// There is none: make it, from the oldest kept row on.
    Create,
    /// There is one of a life that is over, or one that proves nothing: remove it, after what it alone holds is saved.
    Replace,
    /// The same, with nothing saved (only without a rule).
    Discard,
    /// This file is an older copy: take over the next row.
    Import,
    /// A second writer, a fork, a later epoch, or a copy too old to join: the operator decides.
    Halt,
}

/// A process begins its first look: between what it sees and what it then does, its clients may write.
pub(crate) fn look(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let writer = writer(state, who)?;
    if protocol.bounds.early != Early::Reachable || writer.mode != Mode::Started || writer.looks {
        return None;
    }
    writer.looks = true;
    Some(())
}

/// At a new connection, or on the timer.
pub(crate) fn contact(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let known = writer(state, who)?;
    if let Some(token) = known.doomed.take()
        && let Some(stream) = state.stream
        && (stream.token == token || !protocol.has(Rule::DeleteSame))
    {
        state.stream = None;
        return Some(());
    }
    let known = writer(state, who)?;
    known.looks = false;
    let (file, mode, view) = (known.file, known.mode, known.view);
    let reconnects = mode == Mode::Open && view.is_none();
    let memory = (reconnects && !protocol.has(Rule::PositionFromStream)).then_some(known.memory);
    if mode == Mode::Halted || (view.is_some() && !protocol.has(Rule::Timer)) {
        return None;
    }
    let own = Own {
        file: &file,
        prev: &state.prev,
        first_contact: mode != Mode::Open,
        memory,
    };
    match decide(protocol, state.stream.as_ref(), &own) {
        Verdict::Continue(head) => open(protocol, state, who, head),
        Verdict::Create => create(protocol, state, who),
        Verdict::Replace => replace(protocol, state, who, protocol.has(Rule::SaveFirst)),
        Verdict::Discard => replace(protocol, state, who, false),
        Verdict::Import => import(protocol, state, who),
        Verdict::Halt => {
            writer(state, who)?.halt();
            Some(())
        }
    }
}

/// What this side knows.
struct Own<'a> {
    file: &'a File,
    /// What each event names as the one before it.
    prev: &'a [Id],
    first_contact: bool,
    /// The remembered position, where that is trusted.
    memory: Option<u8>,
}

fn decide(protocol: &Protocol, stream: Option<&Stream>, own: &Own<'_>) -> Verdict {
    let Some(stream) = stream else {
        return Verdict::Create;
    };
    if protocol.has(Rule::Superseded) && stream.latest() > own.file.epoch {
        return Verdict::Halt;
    }
    if protocol.has(Rule::Outdated) && stream.epoch < own.file.epoch {
        return Verdict::Replace;
    }
    match compare(protocol, stream, own) {
        // A relay of the same epoch began to replace it and did not finish.
        Verdict::Continue(_) if stream.closed_by.is_some() => Verdict::Replace,
        verdict => verdict,
    }
}

/// Two logs of one epoch.
fn compare(protocol: &Protocol, stream: &Stream, own: &Own<'_>) -> Verdict {
    let file = own.file;
    if let Some(head) = own.memory {
        return Verdict::Continue(head);
    }
    let (head, length) = (stream.head(), file.rows.len());
    if stream.messages.is_empty() {
        return empty(protocol, stream, file);
    }
    if head < file.oldest {
        return match protocol.has(Rule::SaveBehind) {
            true => Verdict::Replace,
            false => Verdict::Discard,
        };
    }
    if head > length {
        return ahead(protocol, stream, own);
    }
    let same = stream.at(head) == file.kept(head);
    match same || !protocol.has(Rule::IdAtHead) {
        true => Verdict::Continue(head),
        false => Verdict::Halt,
    }
}

fn empty(protocol: &Protocol, stream: &Stream, file: &File) -> Verdict {
    let head = stream.head();
    if stream.first == file.oldest {
        return Verdict::Continue(head);
    }
    if protocol.has(Rule::EmptyProvesNothing) {
        return Verdict::Replace;
    }
    match head <= file.rows.len() && head + 1 >= file.oldest {
        true => Verdict::Continue(head),
        false => Verdict::Halt,
    }
}

fn ahead(protocol: &Protocol, stream: &Stream, own: &Own<'_>) -> Verdict {
    let may_import = match own.first_contact {
        true => protocol.has(Rule::Import),
        false => !protocol.has(Rule::RivalHalts),
    };
    let must_prove = protocol.has(Rule::ImportEvidence);
    let length = own.file.rows.len();
    match may_import && joins(stream, own.file, length, own.prev, must_prove) {
        true => Verdict::Import,
        false => Verdict::Halt,
    }
}

/// Is there evidence that the stream goes on from this place of the log? (S9)
pub(crate) fn joins(
    stream: &Stream,
    file: &File,
    place: u8,
    prev: &[Id],
    must_prove: bool,
) -> bool {
    if place >= stream.first {
        return stream.at(place).is_some() && stream.at(place) == file.kept(place);
    }
    let Some(first) = stream.messages.at(1) else {
        return false;
    };
    let before = prev[usize::from(first)];
    let follows = match place {
        0 => before == NONE,
        _ => file.kept(place) == Some(before),
    };
    place + 1 == stream.first && (follows || !must_prove)
}

fn open(protocol: &Protocol, state: &mut State, who: Who, head: u8) -> Option<()> {
    let token = state.stream?.token;
    let remembers = !protocol.has(Rule::PositionFromStream);
    let writer = writer(state, who)?;
    writer.mode = Mode::Open;
    writer.file.must_import = false;
    writer.view = Some(View { token, head });
    writer.memory = if remembers { head } else { 0 };
    Some(())
}

/// A new stream from this outbox, with a fresh token.
fn create(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    state.tokens += 1;
    let token = state.tokens;
    let file = writer(state, who)?.file;
    let (first, epoch) = (file.oldest, file.epoch);
    state.stream = Some(Stream {
        token,
        epoch,
        first,
        closed_by: None,
        messages: Ids::default(),
    });
    open(protocol, state, who, first - 1)
}

/// The next step of a replacement: close the write door; save what this log lacks, which dooms the stream; the next contact
/// deletes it, and the one after recreates it. A relay that finds a closed stream resumes from there, unless its epoch is
/// lower than the closer's.
fn replace(protocol: &Protocol, state: &mut State, who: Who, save: bool) -> Option<()> {
    let known = writer(state, who)?;
    known.view = None;
    let epoch = known.file.epoch;
    let stream = state.stream.as_mut()?;
    if protocol.has(Rule::CloseFirst) && stream.closed_by.is_none_or(|by| by < epoch) {
        stream.closed_by = Some(epoch);
        return Some(());
    }
    let (token, messages) = (stream.token, stream.messages.set());
    let known = writer(state, who)?;
    if save {
        let foreign = messages.without(known.file.rows.set());
        known.file.aside = known.file.aside.and(foreign);
    }
    known.doomed = Some(token);
    Some(())
}

/// Takes over one row. The file counts as a copy until a contact finds nothing more to take, so that a process killed
/// half-way does not write onto half a log.
fn import(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let stream = state.stream?;
    let known = writer(state, who)?;
    let quiet = known.file.must_import || !protocol.has(Rule::ImportAlarm);
    // "Neither halt nor alarm": what is imported later than at the first contact is not noticed either.
    known.alarmed |= !quiet;
    known.file.rows.push(stream.at(known.file.rows.len() + 1)?);
    known.file.must_import = true;
    known.mode = Mode::Started;
    known.view = None;
    Some(())
}

/// The next row. Refused: the session is over, and the next contact looks again.
pub(crate) fn publish(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let known = writer(state, who)?;
    let View { token, head } = known.view?;
    let place = head + 1;
    let row = known.file.kept(place)?;
    if known.mode != Mode::Open {
        return None;
    }
    let accepted = append(protocol, state, token, place, row);
    let known = writer(state, who)?;
    known.view = accepted.then_some(View { token, head: place });
    if accepted && !protocol.has(Rule::PositionFromStream) {
        known.memory = place;
    }
    Some(())
}

/// A row in flight when its connection died, after all.
pub(crate) fn land(protocol: &Protocol, state: &mut State, who: Who) -> Option<()> {
    let known = writer(state, who)?;
    let mut queue = known.queue?;
    let (token, place, row) = (queue.token, queue.next, known.file.kept(queue.next));
    queue.next += 1;
    known.queue = (queue.next <= queue.last).then_some(queue);
    if let Some(row) = row {
        append(protocol, state, token, place, row);
    }
    Some(())
}

/// The broker's side. True if the acknowledgement says what the relay wants to hear.
fn append(protocol: &Protocol, state: &mut State, token: u8, place: u8, row: u8) -> bool {
    let Some(stream) = &mut state.stream else {
        return false;
    };
    let door = stream.closed_by.is_none() && (stream.token == token || !protocol.has(Rule::Token));
    let fits = stream.head() + 1 == place;
    let full = stream.messages.len() == MOST;
    if door && !full && (fits || !protocol.has(Rule::ExpectedSequence)) {
        stream.messages.push(row);
        return fits || !protocol.has(Rule::AckNumber);
    }
    false
}
