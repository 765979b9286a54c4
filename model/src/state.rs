//! The world at one moment: two writers at most, one stream, two consumers at most.

use serde::{Deserialize, Serialize};

use crate::actions::Reader;
use crate::bounds::Bounds;
use crate::ids::{FORGOTTEN, Id, IdSet, Ids, MOST, NONE};

/// The whole state. Small, because millions are kept and compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub writers: [Option<Writer>; 2],
    pub stream: Option<Stream>,
    pub consumers: [Option<Consumer>; 2],
    /// For each id the event it was written after.
    pub(crate) prev: [Id; MOST as usize + 1],
    /// Ids 1 to `known` are in use.
    pub(crate) known: u8,
    /// Tokens 1 to this one have been drawn.
    pub(crate) tokens: u8,
    /// A fault took the last file or readable message that held it.
    pub destroyed: IdSet,
    /// What the stream stored once and does not hold any more, in any of its incarnations: live copies of it may still come, and
    /// a replica that lags may still answer with it.
    pub gone: Gone,
    pub backups: Backups,
    pub commits_left: u8,
    pub faults_left: u8,
    /// An event was applied twice, or on another prefix than it was written after.
    pub misapplied: bool,
    /// A consumer treated its log as forked or trimmed although the stream continues from its position.
    pub misled: bool,
    /// Adopt and new-epoch so far; counted where the doctrine limits them.
    pub decisions: u8,
    /// Which writer was chosen first, under the doctrine that limits choices.
    pub survivor: Option<u8>,
}

/// One process of the service and its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Writer {
    pub file: File,
    pub mode: Mode,
    /// What the last contact on this connection verified; nothing without a connection.
    pub view: Option<View>,
    /// Its first look is under way.
    pub looks: bool,
    /// The stream that this process has closed and saved, and deletes next.
    pub doomed: Option<u8>,
    /// How far this process has published, as it remembers (only without rule S2).
    pub(crate) memory: u8,
    /// Publishes of an earlier connection that may still arrive (only without rule S3).
    pub(crate) queue: Option<Queue>,
    /// It has acknowledged a write since there are two writers.
    pub acknowledged: bool,
    /// It has halted or raised an alarm since there are two writers.
    pub alarmed: bool,
}

/// A database file: the outbox, its identity row, and the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct File {
    /// The log. Rows before `oldest` are pruned: their effects are in the tables, their bytes and ids are gone.
    pub rows: Ids,
    pub oldest: u8,
    pub epoch: u8,
    pub must_import: bool,
    /// Quarantined: dropped from this log or from a stream that it replaced, and kept for a person.
    pub aside: IdSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Running, before its first contact, not writing.
    Started,
    /// The same, writing already.
    Early,
    /// Had its contact.
    Open,
    /// Refuses writes and publishes nothing until the operator decides.
    Halted,
}

/// The stream as a relay's connection knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub token: u8,
    pub head: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Queue {
    pub(crate) token: u8,
    pub(crate) next: u8,
    pub(crate) last: u8,
}

/// The stream. Its head is `first - 1` when it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Which creation of the stream this is; only equality means something.
    pub token: u8,
    pub epoch: u8,
    pub first: u8,
    /// The epoch of the writer that is about to replace it: it takes no more messages.
    pub closed_by: Option<u8>,
    pub messages: Ids,
}

/// A consumer's database and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Consumer {
    pub table: Table,
    pub link: Link,
    /// An effect whose position is not stored yet (only without rule K1).
    pub(crate) unsaved: bool,
    /// Applied at any time since this consumer's own last restore.
    pub seen: IdSet,
    /// Reported as missing from the producer's log.
    pub reported: IdSet,
}

/// What the consumer has applied, in order, and its position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Table {
    pub applied: Ids,
    pub seq: u8,
    pub id: Id,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    Down,
    /// Reads on. The token of the stream it has looked at, where a rule is left out that makes it needless; else 0.
    Open(u8),
    /// The stream does not reach the offset, holds another event there, or goes on after it with one that follows another:
    /// the producer is asked.
    Waiting,
    /// The producer's log does not hold what was applied.
    Forked,
    /// The stream begins after the next event.
    Trimmed,
}

/// Events with their places, by place, and those of one place in the order in which they went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gone {
    places: Ids,
    ids: Ids,
}

/// One copy of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backups {
    pub file: Option<File>,
    pub stream: Option<Stream>,
    pub consumer: Option<(Reader, Table)>,
}

impl State {
    /// One open writer with an empty outbox, an empty stream it has seen, consumers connected to it.
    pub fn first(bounds: &Bounds) -> Self {
        let (token, epoch) = (1, 1);
        let file = File {
            rows: Ids::default(),
            oldest: 1,
            epoch,
            must_import: false,
            aside: IdSet::default(),
        };
        let mut writer = Writer::start(file);
        writer.mode = Mode::Open;
        writer.view = Some(View { token, head: 0 });
        let consumer = Consumer {
            table: Table::default(),
            link: Link::Open(0),
            unsaved: false,
            seen: IdSet::default(),
            reported: IdSet::default(),
        };
        Self {
            writers: [Some(writer), None],
            stream: Some(Stream {
                token,
                epoch,
                first: 1,
                closed_by: None,
                messages: Ids::default(),
            }),
            consumers: [Some(consumer), (bounds.consumers > 1).then_some(consumer)],
            prev: [NONE; MOST as usize + 1],
            known: 0,
            tokens: token,
            destroyed: IdSet::default(),
            gone: Gone::default(),
            backups: Backups::default(),
            commits_left: bounds.commits,
            faults_left: bounds.faults,
            misapplied: false,
            misled: false,
            decisions: 0,
            survivor: None,
        }
    }

    pub fn live(&self) -> impl Iterator<Item = &Writer> {
        self.writers.iter().flatten()
    }

    pub(crate) fn both_live(&self) -> bool {
        self.writers.iter().all(Option::is_some)
    }

    pub fn readers(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.iter().flatten()
    }

    /// The quarantine of the live writers.
    pub(crate) fn aside(&self) -> IdSet {
        let asides = self.live().map(|writer| writer.file.aside);
        asides.fold(IdSet::default(), IdSet::and)
    }

    /// What some file or some readable message holds.
    pub(crate) fn held(&self) -> IdSet {
        let messages = self.stream.map(|stream| stream.messages.set());
        self.live()
            .map(|writer| writer.file.rows.set())
            .chain(messages)
            .fold(self.aside(), IdSet::and)
    }

    /// What is in the log: in that of every live writer, because at rest they must be one.
    pub(crate) fn logged(&self) -> IdSet {
        let logs = self.live().map(|writer| writer.file.rows.set());
        logs.reduce(IdSet::both).unwrap_or_default()
    }

    /// Equal worlds get equal states: copies that no fault can bring back are dropped, tokens and ids are named in
    /// the order in which they are found.
    pub(crate) fn tidy(mut self) -> Self {
        if self.faults_left == 0 {
            self.backups = Backups::default();
        }
        if !self.both_live() {
            for writer in self.writers.iter_mut().flatten() {
                (writer.acknowledged, writer.alarmed) = (false, false);
            }
        }
        self.rename_tokens();
        self.rename_ids();
        self
    }

    fn rename_tokens(&mut self) {
        let (mut names, mut count) = ([0u8; 256], 0);
        self.each_token(|token| {
            let name = &mut names[usize::from(*token)];
            if *name == 0 {
                count += 1;
                *name = count;
            }
            *token = *name;
        });
        self.tokens = count;
    }

    fn each_token(&mut self, mut visit: impl FnMut(&mut u8)) {
        let streams = [&mut self.stream, &mut self.backups.stream];
        for stream in streams.into_iter().flatten() {
            visit(&mut stream.token);
        }
        for writer in self.writers.iter_mut().flatten() {
            writer.view.iter_mut().for_each(|it| visit(&mut it.token));
            writer.doomed.iter_mut().for_each(&mut visit);
            writer.queue.iter_mut().for_each(|it| visit(&mut it.token));
        }
        for consumer in self.consumers.iter_mut().flatten() {
            if let Link::Open(token) = &mut consumer.link
                && *token != 0
            {
                visit(token);
            }
        }
    }

    fn rename_ids(&mut self) {
        let mut names = Names::default();
        self.each_list(|list| {
            *list = list.renamed(|id| names.of(id));
        });
        let listed = names.count;
        for id in self.unsettled(&names) {
            names.of(id);
        }
        self.each_table(|table| table.id = names.get(table.id));
        self.each_set(|set| *set = names.renamed(*set));
        self.prev = self.prev_renamed(&names, listed);
        self.known = names.count;
    }

    fn each_list(&mut self, mut visit: impl FnMut(&mut Ids)) {
        if let Some(stream) = &mut self.stream {
            visit(&mut stream.messages);
        }
        for writer in self.writers.iter_mut().flatten() {
            visit(&mut writer.file.rows);
        }
        self.each_table(|table| visit(&mut table.applied));
        if let Some(file) = &mut self.backups.file {
            visit(&mut file.rows);
        }
        if let Some(stream) = &mut self.backups.stream {
            visit(&mut stream.messages);
        }
        visit(&mut self.gone.ids);
    }

    fn each_table(&mut self, mut visit: impl FnMut(&mut Table)) {
        for consumer in self.consumers.iter_mut().flatten() {
            visit(&mut consumer.table);
        }
        if let Some((_, table)) = &mut self.backups.consumer {
            visit(table);
        }
    }

    fn each_set(&mut self, mut visit: impl FnMut(&mut IdSet)) {
        for writer in self.writers.iter_mut().flatten() {
            visit(&mut writer.file.aside);
        }
        if let Some(file) = &mut self.backups.file {
            visit(&mut file.aside);
        }
        visit(&mut self.destroyed);
        for consumer in self.consumers.iter_mut().flatten() {
            visit(&mut consumer.seen);
            visit(&mut consumer.reported);
        }
    }

    /// Events in no list for which something is still to be answered: quarantined, lost without a trace, or seen and not
    /// reported. In an order that depends only on the sets they are in.
    fn unsettled(&mut self, names: &Names) -> Vec<Id> {
        let unlisted = (1..=self.known).filter(|id| names.get(*id) == NONE);
        let mut ids: Vec<(u16, Id)> = unlisted.map(|id| (0, id)).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let aside = self
            .backups
            .file
            .map_or(self.aside(), |file| file.aside.and(self.aside()));
        let unreported = self.readers().map(|it| it.seen.without(it.reported));
        let unreported = unreported.fold(IdSet::default(), IdSet::and);
        let destroyed = self.destroyed;
        ids.retain(|(_, id)| {
            aside.contains(*id) || unreported.contains(*id) || !destroyed.contains(*id)
        });
        self.each_set(|set| {
            for (sets, id) in &mut ids {
                *sets = *sets << 1 | u16::from(set.contains(*id));
            }
        });
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    fn prev_renamed(&self, names: &Names, listed: u8) -> [Id; MOST as usize + 1] {
        let mut prev = [NONE; MOST as usize + 1];
        for old in 1..=self.known {
            let new = names.get(old);
            if new == NONE || new > listed {
                continue;
            }
            let before = self.prev[usize::from(old)];
            prev[usize::from(new)] = match before {
                NONE | FORGOTTEN => before,
                _ => match names.get(before) {
                    name if name == NONE || name > listed => FORGOTTEN,
                    name => name,
                },
            };
        }
        prev
    }
}

/// The new name of each id.
#[derive(Default)]
struct Names {
    new: [Id; 16],
    count: u8,
}

impl Names {
    /// The new name, given now if there is none yet.
    fn of(&mut self, id: Id) -> Id {
        let new = &mut self.new[usize::from(id)];
        if *new == NONE {
            self.count += 1;
            *new = self.count;
        }
        *new
    }

    fn get(&self, id: Id) -> Id {
        self.new[usize::from(id)]
    }

    /// The same set under the new names; ids without one drop out.
    fn renamed(&self, set: IdSet) -> IdSet {
        let mut renamed = IdSet::default();
        let named = set.iter().filter(|id| self.get(*id) != NONE);
        named.for_each(|id| renamed.insert(self.get(id)));
        renamed
    }
}

impl Gone {
    pub fn len(&self) -> u8 {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Counted from 1.
    pub fn at(&self, nth: u8) -> Option<(u8, Id)> {
        Some((self.places.at(nth)?, self.ids.at(nth)?))
    }

    pub fn iter(self) -> impl Iterator<Item = (u8, Id)> {
        self.places.iter().zip(self.ids.iter())
    }

    /// After `before` became `after`. Once there is no more room the newest is left out: some walks come that far.
    pub(crate) fn change(&mut self, before: Option<&Stream>, after: Option<&Stream>) {
        let held = |(place, id): &(u8, Id)| after.is_some_and(|it| it.at(*place) == Some(*id));
        let left = before.into_iter().flat_map(Stream::iter);
        let known = *self;
        let new = left.filter(|copy| known.iter().all(|other| other != *copy));
        let mut copies: Vec<_> = known.iter().chain(new).filter(|it| !held(it)).collect();
        copies.sort_by_key(|(place, _)| *place);
        *self = Self::default();
        for (place, id) in copies.into_iter().take(usize::from(MOST)) {
            self.places.push(place);
            self.ids.push(id);
        }
    }
}

impl Writer {
    /// A process that has just opened this file.
    pub(crate) fn start(file: File) -> Self {
        Self {
            file,
            mode: Mode::Started,
            view: None,
            looks: false,
            doomed: None,
            memory: 0,
            queue: None,
            acknowledged: false,
            alarmed: false,
        }
    }

    pub(crate) fn halt(&mut self) {
        self.mode = Mode::Halted;
        self.view = None;
        self.doomed = None;
        self.alarmed = true;
    }
}

impl File {
    /// The id of a row that is still kept.
    pub(crate) fn kept(&self, place: u8) -> Option<Id> {
        match place >= self.oldest {
            true => self.rows.at(place),
            false => None,
        }
    }
}

impl Stream {
    /// The epoch that decides here.
    pub(crate) fn latest(&self) -> u8 {
        self.epoch.max(self.closed_by.unwrap_or(0))
    }

    pub fn head(&self) -> u8 {
        self.first - 1 + self.messages.len()
    }

    fn iter(&self) -> impl Iterator<Item = (u8, Id)> {
        (self.first..).zip(self.messages.iter())
    }

    pub fn at(&self, place: u8) -> Option<Id> {
        self.messages.at((place + 1).checked_sub(self.first)?)
    }
}
