//! The model's walks, led along the product: real files, relay and consumers over the broker in memory. After each action
//! both must show the same world.
//!
//! Compared are: of each writer the rows by event, the oldest of them, epoch, mark, quarantined ids, and mode; of the stream
//! its creation, epoch, closer, first place and messages; of each consumer what it has applied, in order, and its position.
//! Not compared: connections, alarms, and which ids a consumer reports beside its position (the product knows only that one).
//!
//! `Lead::act` says which call an action is; `doors.rs` lets one thing happen at each. Where the product differs by design,
//! `Lead::differs` says how, and the action is not drawn. One more difference: a file that has halted is marked, and writes
//! nothing before it has met its stream; here a person's word opens it (`Lead::start`). Stopping a writer for good has no tool
//! yet (`Action::Kill`).
//!
//! A reader's log hands out one event at a time: what the stream holds, or the live copy, the late one, or the answer of a replica
//! that is behind, which the action names (`Lead::hand`). How copies and gets are merged is the conformance suite's matter.
//!
//! `FREEHOLD_SEED=7` leads one walk, `FREEHOLD_WALKS=1000` so many, `FREEHOLD_WALK="Clone, Commit(1)"` the one given, also where
//! the product differs by design; with `FREEHOLD_SHORTEN=1` a walk that fails is printed as short as leaving out makes it.

mod doors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use protocol_model::world::{self, Numbers, World};
use protocol_model::{Action, Bounds, Mode, Protocol, Rule, Rules, State, Walk};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use relay::consume::Progress;
use relay::database::Gate;
use relay::error::{Fatal, LogError};
use relay::log::{Connect, Log, Sink, row};
use relay::operate::{DecisionError, adopt_stream, new_epoch, plan_adoption, plan_new_epoch};
use relay::publish::{Answers, Retention, Step};
use relay::rusqlite::{self, Connection};
use relay::testing::memory::{MemoryBroker, Store};
use relay::{Consumer, Database, Fold, Options, Received, Relay, Rows};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::support::{Image, Scratch, Weighed, emit, reopen, seeds, weighed};
use doors::{Asked, Door, Handed, Pipe, Question};

const ACTIONS: usize = 40;
/// Steps of the protocol after that, at most, until it rests.
const TO_REST: usize = 60;

const ENTRIES: &[&str] =
    &["create table entries (seq integer primary key, id text not null) strict;"];

/// What walks of one writer must have come to, whatever else.
const ONE_WRITER: [&str; 23] = [
    "Commit",
    "Open",
    "Prune",
    "Contact",
    "Publish",
    "KConn",
    "KApply",
    "KLive",
    "KLate",
    "KPast",
    "KAsk",
    "KFork",
    "KSnap",
    "Wipe",
    "LoseTail",
    "OldBroker",
    "Delete",
    "Trim",
    "Restore",
    "RestoreUnknown",
    "RestoreConsumer",
    "Restart",
    "Cut",
];
/// What walks of two writers must have come to besides.
const MORE_OF_TWO: [&str; 5] = ["Stale", "Clone", "Kill", "Adopt", "New"];

/// Rules whose absence shows within few walks.
const SHOWN: [(Rule, &str); 8] = [
    (Rule::CloseFirst, FAULTS),
    (Rule::SaveFirst, FAULTS),
    (Rule::IdAtHead, FAULTS),
    (Rule::Outdated, FAULTS),
    (Rule::Superseded, FAULTS),
    (Rule::RivalHalts, FAULTS),
    (Rule::Import, FAULTS),
    (Rule::Prev, "WTDPul"),
];

/// Every fault, with a stream that is read as it is.
const FAULTS: &str = "WTSDtPuKCcRx";

fn options() -> Options {
    let fold = Fold::new(&["entries"], |rows, event: &Received<Weighed>| {
        Ok(enter(rows, event.seq, &event.id.to_string())?)
    });
    Options {
        readers: 1, // it is opened often
        ..Options::new("parcel-service", "PARCELS", ENTRIES).fold(fold)
    }
}

fn enter(rows: &Rows<'_>, seq: u64, id: &str) -> rusqlite::Result<()> {
    rows.execute("insert into entries values (?1, ?2)", (seq, id))?;
    Ok(())
}

/// An event's place and id: all that the walks look at.
#[derive(Serialize, Deserialize)]
struct Entry {
    seq: u64,
    id: String,
}

fn share(rows: &Connection, sink: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut entries = rows.prepare("select seq, id from entries order by seq")?;
    let mut entries = entries.query([])?;
    while let Some(entry) = entries.next()? {
        let entry = Entry {
            seq: entry.get(0)?,
            id: entry.get(1)?,
        };
        if !sink(row(&entry)) {
            break;
        }
    }
    Ok(())
}

fn entries(asked: &Asked) -> Consumer {
    Consumer::projection("entries", |rows, event: &Received<Weighed>| {
        Ok(enter(rows, event.seq, &event.id.to_string())?)
    })
    .loads(
        &["entries"],
        |rows, entry: &Entry| Ok(enter(rows, entry.seq, &entry.id)?),
        share,
    )
    .asks(Arc::new(asked.clone()))
}

fn texts(rows: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    rows.prepare(sql)?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Who took a step, and what came of it.
type Ended<A, T, E> = (A, Result<T, E>);

/// A process with its file.
struct Writer {
    db: Database,
    door: Door,
    /// `None` while its step waits before a delete, or has halted.
    relay: Option<Relay<Door>>,
    waiting: Option<JoinHandle<Ended<Relay<Door>, Step, LogError>>>,
    handed: BTreeSet<u8>,
}

struct Reader {
    path: PathBuf,
    db: Database,
    asked: Asked,
    consumer: Consumer,
    follower: Option<relay::consume::Follower<Pipe>>,
    waiting: Option<JoinHandle<Ended<relay::consume::Follower<Pipe>, Progress, Fatal>>>,
    /// What its next read at the place of this event hands out.
    handed: Handed,
    /// What the last step said, if it failed.
    trouble: String,
}

/// A file as it was, and what the operator had handed to it.
#[derive(Clone)]
struct Copy {
    image: Image,
    handed: BTreeSet<u8>,
}

/// One walk: the model and the product side by side.
struct Lead {
    protocol: Protocol,
    state: State,
    walk: Walk,
    scratch: Scratch,
    broker: MemoryBroker,
    writers: [Option<Writer>; 2],
    readers: Vec<Reader>,
    file: Option<Copy>,
    store: Option<Store>,
    read: Option<(usize, Image)>,
    events: Numbers<String>,
    streams: Numbers<String>,
    /// Every event that was ever seen in the stream.
    stored: BTreeMap<u8, relay::log::Record>,
    differences: BTreeMap<&'static str, u64>,
}

impl Lead {
    async fn new(protocol: Protocol) -> Self {
        let bounds = protocol.bounds;
        let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
        let mut readers = Vec::new();
        for k in 0..bounds.consumers {
            let path = scratch.path(&format!("reader-{k}.db"));
            readers.push(Reader::start(path).await);
        }
        let mut lead = Self {
            protocol,
            state: State::first(&bounds),
            walk: Walk::default(),
            scratch,
            broker,
            writers: [None, None],
            readers,
            file: None,
            store: None,
            read: None,
            events: Numbers::default(),
            streams: Numbers::default(),
            stored: BTreeMap::new(),
            differences: BTreeMap::new(),
        };
        lead.start(0, false, BTreeSet::new()).await;
        lead.contact(0).await.unwrap();
        for reader in &mut lead.readers {
            reader.connect(&lead.broker).await;
        }
        let first = lead.protocol.worlds(&[]).remove(0);
        lead.compare(&first).await.unwrap();
        lead
    }

    fn path(&self, who: usize) -> PathBuf {
        self.scratch.path(&format!("writer-{who}.db"))
    }

    fn writer(&mut self, who: u8) -> &mut Writer {
        self.writers[usize::from(who)].as_mut().unwrap()
    }

    /// A process starts on the file there. One that the model takes for unmarked is opened on a person's word, because the
    /// product marks more: every copy that it can tell, and every file that has halted.
    async fn start(&mut self, who: usize, marked: bool, handed: BTreeSet<u8>) {
        let options = Options {
            open_without_stream: !marked,
            ..options()
        };
        let db = reopen(&self.path(who), options).await;
        let door = Door::new(&self.broker, &db);
        let mut relay = Relay::new(&db, door.clone());
        relay.import_one_by_one();
        self.writers[who] = Some(Writer {
            db,
            door,
            relay: Some(relay),
            waiting: None,
            handed,
        });
    }

    async fn stop(&mut self, who: usize) -> BTreeSet<u8> {
        let writer = self.writers[who].take().unwrap();
        if let Some(waiting) = writer.waiting {
            waiting.abort();
            let _aborted = waiting.await;
        }
        drop(writer.relay);
        writer.db.close().await;
        writer.handed
    }

    /// What the product does not do, or not yet, where the model may: such an action is not drawn.
    async fn differs(&self, action: Action) -> Option<&'static str> {
        match action {
            Action::Adopt(who) => {
                let writer = self.writers[usize::from(who)].as_ref()?;
                match plan_adoption(&writer.db, &self.broker.clone())
                    .await
                    .err()?
                {
                    DecisionError::NothingForked(_) => Some("adopt-stream: a start is enough"),
                    DecisionError::NoWayBack { .. } => {
                        Some("adopt-stream: tables cannot be taken back over pruned rows")
                    }
                    _ => None,
                }
            }
            Action::New(who) => {
                let writer = self.writers[usize::from(who)].as_ref()?;
                match plan_new_epoch(&writer.db, &self.broker.clone())
                    .await
                    .err()?
                {
                    DecisionError::NothingForked(_) => Some("new-epoch: a start is enough"),
                    DecisionError::NoStream(_) => {
                        Some("new-epoch: without a stream a start is enough")
                    }
                    _ => None,
                }
            }
            Action::KAsk(k, who) => {
                let reader = &self.readers[usize::from(k)];
                if reader.asked.question().is_none() && reader.trouble.contains("did not come") {
                    return Some(
                        "a reader at the edge of an empty stream waits for its owner to replace it (S8), and does not ask",
                    );
                }
                let worlds = self.protocol.worlds(&self.walk.0);
                let world = worlds.last()?;
                let (at, oldest) = (
                    world.consumers[usize::from(k)].seq,
                    world.writers[usize::from(who)].as_ref()?.oldest,
                );
                (at < oldest).then_some("a producer does not know the ids of rows it has pruned")
            }
            Action::KSnap(k, _) => {
                let reader = &self.readers[usize::from(k)];
                let silent =
                    reader.asked.question().is_none() && reader.trouble.contains("did not come");
                silent.then_some(
                    "a reader before an empty stream waits for its owner to replace it (S8)",
                )
            }
            _ => None,
        }
    }

    /// A row whose sender is cut off next is stored, and its acknowledgement lost.
    async fn act_before(
        &mut self,
        action: Action,
        next: State,
        then: Option<Action>,
    ) -> Result<(), String> {
        if let (Action::Publish(who), Some(Action::Cut(cut))) = (action, then)
            && who == cut
        {
            self.writer(who).door.lose_answer();
        }
        self.act(action, next).await
    }

    /// One action, on both sides. An error says how the two worlds differ.
    async fn act(&mut self, action: Action, next: State) -> Result<(), String> {
        let before = self.protocol.worlds(&self.walk.0).pop().unwrap();
        self.walk.0.push(action);
        let after = self.protocol.worlds(&self.walk.0).pop().unwrap();
        self.state = next;
        let marked = |who: u8| {
            after.writers[usize::from(who)]
                .as_ref()
                .is_some_and(|it| it.must_import)
        };
        match action {
            Action::Commit(who) => self.commit(who).await?,
            // A service that may write before its first contact is asked to, or is not: nothing to do.
            Action::Open(who) => match self.writer(who).db.gate() {
                Gate::Open | Gate::Held { .. } => {}
                other => return Err(format!("it would not write: {other:?}")),
            },
            Action::Prune(who) => {
                self.prune(who, after.stream.as_ref().map_or(1, |it| it.first))
                    .await?
            }
            Action::Contact(who) => self.contact(who).await?,
            Action::Publish(who) => self.publish(who).await?,
            Action::Land(_) | Action::KSave(_) => return Err("not under all rules".to_owned()),
            Action::Look(_) => return Err("the broker can be away in these walks".to_owned()),
            Action::KConn(k) => {
                let broker = self.broker.clone();
                self.readers[usize::from(k)].connect(&broker).await;
            }
            Action::KApply(k) => {
                let broker = self.broker.clone();
                self.readers[usize::from(k)].apply(&broker).await?;
            }
            Action::KLive(k, seq) => {
                let stream = before.stream.as_ref().unwrap();
                let id = stream.messages[usize::from(seq - stream.first)];
                self.hand(k, id);
                let broker = self.broker.clone();
                self.readers[usize::from(k)].apply(&broker).await?;
            }
            Action::KLate(k, nth) => {
                self.hand(k, before.gone[usize::from(nth) - 1].1);
                let broker = self.broker.clone();
                self.readers[usize::from(k)].apply(&broker).await?;
            }
            Action::KPast(k, nth) => {
                self.hand(k, before.gone[usize::from(nth) - 1].1);
                let broker = self.broker.clone();
                self.readers[usize::from(k)].connect(&broker).await;
            }
            Action::KAsk(k, who) => self.answer(k, who, Question::Holds).await?,
            Action::KFork(k, who) => {
                // Before it leaves a log a reader asks whether its producer has left it, too.
                if self.readers[usize::from(k)].asked.question() == Some(Question::Holds) {
                    self.answer(k, who, Question::Holds).await?;
                }
                self.answer(k, who, Question::Snapshot).await?
            }
            Action::KSnap(k, who) => self.answer(k, who, Question::Snapshot).await?,
            Action::PBak(who) => {
                let image = Image::take(&self.path(usize::from(who)));
                let handed = self.writer(who).handed.clone();
                self.file = Some(Copy { image, handed });
            }
            Action::SBak => self.store = self.broker.store(),
            Action::KBak(k) => {
                self.read = Some((
                    usize::from(k),
                    Image::take(&self.readers[usize::from(k)].path),
                ))
            }
            Action::Wipe => self.broker.restore(None),
            Action::LoseTail(count) => self.broker.lose_tail(usize::from(count)),
            Action::OldBroker => self.broker.restore(self.store.clone()),
            Action::Delete => self.broker.delete(),
            Action::Trim(first) => self.broker.trim(u64::from(first) - 1),
            Action::Restore(who) | Action::RestoreUnknown(who) => {
                self.stop(usize::from(who)).await;
                self.put(usize::from(who), marked(who)).await;
            }
            Action::Stale => {
                let free = usize::from(before.writers[0].is_some());
                self.put(free, false).await;
            }
            Action::Clone => {
                let free = usize::from(before.writers[0].is_some());
                let handed = self.writers[1 - free].as_ref().unwrap().handed.clone();
                Image::take(&self.path(1 - free)).copy_to(&self.path(free));
                let marked = after.writers[free].as_ref().unwrap().must_import;
                self.start(free, marked, handed).await;
            }
            Action::RestoreConsumer => {
                let (k, image) = self.read.clone().unwrap();
                let reader = &mut self.readers[k];
                reader.hang_up().await;
                let path = reader.path.clone();
                let gone = std::mem::replace(reader, Reader::none(&self.scratch).await);
                gone.db.close().await;
                image.write_over(&path);
                self.readers[k] = Reader::start(path).await;
            }
            Action::Restart(who) => {
                let handed = self.stop(usize::from(who)).await;
                self.start(usize::from(who), marked(who), handed).await;
            }
            Action::Cut(who) => {
                self.writer(who).door.cut();
                self.writer(who).rest().await;
            }
            Action::Adopt(who) | Action::New(who) => self.decide(action, who, marked(who)).await?,
            // The product has no tool for this. What it would hand over is taken from the model.
            Action::Kill(who) => {
                self.stop(usize::from(who)).await;
                let path = self.path(usize::from(who));
                std::fs::remove_file(path).unwrap();
                let other = 1 - usize::from(who);
                let aside = |world: &World| -> BTreeSet<u8> {
                    world.writers[other]
                        .iter()
                        .flat_map(|it| it.set_aside.clone())
                        .collect()
                };
                let handed = &aside(&after) - &aside(&before);
                self.writer(1 - who).handed.extend(handed);
            }
        }
        if matches!(
            action,
            Action::Wipe | Action::LoseTail(_) | Action::OldBroker
        ) {
            self.all_cut().await;
        }
        self.compare(&after).await
    }

    /// The broker was away: a caller in the middle of a request gets an error.
    async fn all_cut(&mut self) {
        for writer in self.writers.iter_mut().flatten() {
            writer.door.cut();
            writer.rest().await;
        }
        for reader in &mut self.readers {
            reader.hang_up().await;
        }
    }

    async fn commit(&mut self, who: u8) -> Result<(), String> {
        let written = self.writer(who).db.write(|tx| {
            let seq = emit(tx, &weighed("a", 1, 1))?;
            let id: String = tx.query_row(
                "select event_id from relay_outbox where seq = ?1",
                [seq],
                |row| row.get(0),
            )?;
            enter(tx.rows(), seq, &id)?;
            Ok::<_, relay::EmitError>(id)
        });
        let id = written
            .await
            .map_err(|error| format!("the write was refused: {error:?}"))?;
        self.events.of(id);
        Ok(())
    }

    async fn contact(&mut self, who: u8) -> Result<(), String> {
        self.writer(who).door.begin();
        let came_about = self.look(who).await;
        self.writer(who).door.end();
        came_about
    }

    async fn look(&mut self, who: u8) -> Result<(), String> {
        let writer = self.writer(who);
        for _ in 0..5 {
            match writer.step(true).await {
                None | Some(Ok(Step::Connected | Step::Checked | Step::Halted)) => return Ok(()),
                Some(Ok(Step::Published(_))) => return Err("it published at a contact".to_owned()),
                Some(Err(_)) if writer.door.has_changed() => return Ok(()),
                Some(Err(_)) => {} // the session was gone before it began
            }
        }
        let why = writer.step(true).await;
        Err(format!("no contact comes about: {why:?}"))
    }

    async fn publish(&mut self, who: u8) -> Result<(), String> {
        match self.writer(who).step(false).await {
            Some(Ok(Step::Published(_)) | Err(_)) => Ok(()),
            other => Err(format!("not published: {other:?}")),
        }
    }

    /// A contact with a retention that keeps what the stream keeps.
    async fn prune(&mut self, who: u8, first: u8) -> Result<(), String> {
        let writer = self.writer(who);
        let events = writer.db.outbox().committed() + 1 - u64::from(first);
        let keep = Retention {
            max_events: Some(events),
            ..Retention::default()
        };
        writer.relay = writer.relay.take().map(|relay| relay.keep(keep));
        self.contact(who).await?;
        let writer = self.writer(who);
        if let Some(relay) = &mut writer.relay {
            relay
                .finish_chores()
                .await
                .map_err(|error| error.to_string())?;
        }
        writer.relay = writer
            .relay
            .take()
            .map(|relay| relay.keep(Retention::default()));
        Ok(())
    }

    async fn answer(&mut self, k: u8, who: u8, question: Question) -> Result<(), String> {
        let answers = Answers::new(&self.writer(who).db, share);
        let broker = self.broker.clone();
        let reader = &mut self.readers[usize::from(k)];
        if reader.asked.question() != Some(question) {
            return Err(format!(
                "it asks {:?}, not {question:?}: {}",
                reader.asked.question(),
                reader.trouble
            ));
        }
        reader.asked.answer(answers);
        reader.go_on(&broker).await;
        Ok(())
    }

    /// This event is what the reader gets next where it reads at its place, whatever the stream holds.
    fn hand(&mut self, k: u8, id: u8) {
        let record = self.stored[&id].clone();
        *self.readers[usize::from(k)].handed.lock().unwrap() = Some(record);
    }

    async fn put(&mut self, who: usize, marked: bool) {
        let Copy { image, handed } = self.file.clone().unwrap();
        image.copy_to(&self.path(who));
        self.start(who, marked, handed).await;
    }

    /// The command on the halted service's file, then a start on it.
    async fn decide(&mut self, action: Action, who: u8, marked: bool) -> Result<(), String> {
        let handed = self.stop(usize::from(who)).await;
        let db = reopen(&self.path(usize::from(who)), options()).await;
        let to = self.broker.clone();
        let done = match action {
            Action::Adopt(_) => adopt_stream(&db, &to).await,
            _ => new_epoch(&db, &to).await,
        };
        db.close().await;
        self.start(usize::from(who), marked, handed).await;
        done.map(drop)
            .map_err(|error| format!("refused: {}", relay::error::chain(&error)))
    }

    async fn compare(&mut self, model: &World) -> Result<(), String> {
        let mut wanted = model.clone();
        let mut seen = World::default();
        for who in 0..2 {
            if let Some(writer) = &self.writers[who] {
                seen.writers[who] = Some(
                    writer
                        .world(&mut self.events, wanted.writers[who].as_ref())
                        .await,
                );
            }
            if let Some(it) = &mut wanted.writers[who] {
                forget_what_does_not_show(it);
            }
        }
        seen.stream = self.stream().await;
        seen.gone.clone_from(&model.gone); // what it would hand out late, no broker tells
        for record in self.broker.records() {
            let id = self.events.of(record.event_id().unwrap().to_string());
            self.stored.insert(id, record);
        }
        for (reader, wanted) in self.readers.iter().zip(&mut wanted.consumers) {
            let it = reader.world(&mut self.events).await;
            // The product reports only the position, and knows no ids before it.
            let known = it.reported.iter().all(|id| wanted.reported.contains(id));
            if known {
                wanted.reported.clone_from(&it.reported);
            }
            seen.consumers.push(it);
        }
        match seen == wanted {
            true => Ok(()),
            false => Err(format!("the product: {seen:?}\nthe model:   {wanted:?}")),
        }
    }

    async fn stream(&mut self) -> Option<world::Stream> {
        let head = self.broker.connect().await.unwrap().head().await.unwrap()?;
        let messages = self.broker.records();
        let id =
            |record: &relay::log::Record| self.events.of(record.event_id().unwrap().to_string());
        Some(world::Stream {
            creation: self.streams.of(head.incarnation),
            epoch: small(head.origin.epoch),
            closed_by: head.closed_by.map(small),
            first: small(head.first),
            messages: messages.iter().map(id).collect(),
        })
    }

    /// A possible action of one of these, that the product has, too.
    async fn draw(
        &mut self,
        wanted: fn(Action) -> bool,
        random: &mut SmallRng,
    ) -> Option<(Action, State)> {
        let mut possible = Vec::new();
        self.protocol.actions(&self.state, &mut possible);
        possible.retain(|action| wanted(*action));
        let mut possible: Vec<_> = possible
            .into_iter()
            .filter_map(|action| Some((action, self.protocol.step(&self.state, action)?)))
            .collect();
        while let Some(drawn) = possible.choose(random).cloned() {
            let Some(why) = self.differs(drawn.0).await else {
                return Some(drawn);
            };
            *self.differences.entry(why).or_insert(0) += 1;
            possible.retain(|other| other.0 != drawn.0);
        }
        None
    }

    /// Of twenty steps two are writes, one is a copy, up to four are faults, and the rest is the protocol's or the operator's.
    async fn wander(&mut self, random: &mut SmallRng) -> Result<(), String> {
        while self.walk.0.len() < ACTIONS {
            let kind = match random.random_range(0..20) {
                roll if roll < self.protocol.bounds.faults / 2 => is_fault,
                16 | 17 => is_commit,
                18 => is_copy,
                14 | 15 => is_delivery,
                9..14 => is_of_writers,
                _ => is_own,
            };
            let mut drawn = self.draw(kind, random).await;
            if drawn.is_none() {
                drawn = self.draw(|action| !is_fault(action), random).await;
            }
            let Some((action, next)) = drawn else { break };
            let cut = match action {
                Action::Publish(who) if random.random_bool(0.1) => Some(Action::Cut(who)),
                _ => None,
            };
            let cut = cut.and_then(|cut| Some((cut, self.protocol.step(&next, cut)?)));
            self.act_before(action, next, cut.as_ref().map(|(cut, _)| *cut))
                .await?;
            if let Some((cut, next)) = cut {
                self.act(cut, next).await?;
            }
        }
        for _ in 0..TO_REST {
            let Some((action, next)) = self.draw(is_own, random).await else {
                break;
            };
            self.act(action, next).await?;
        }
        Ok(())
    }

    async fn end(mut self) {
        for who in 0..2 {
            if self.writers[who].is_some() {
                self.stop(who).await;
            }
        }
        for mut reader in self.readers {
            reader.hang_up().await;
            reader.db.close().await;
        }
    }
}

fn is_fault(action: Action) -> bool {
    action.fault().is_some()
}

fn is_commit(action: Action) -> bool {
    matches!(action, Action::Commit(_) | Action::Open(_))
}

fn is_copy(action: Action) -> bool {
    use Action::{KBak, PBak, Prune, SBak};
    matches!(action, PBak(_) | SBak | KBak(_) | Prune(_))
}

fn is_delivery(action: Action) -> bool {
    use Action::{KLate, KLive, KPast};
    matches!(action, KLive(..) | KLate(..) | KPast(..))
}

fn is_own(action: Action) -> bool {
    !is_fault(action) && !is_commit(action) && !is_copy(action) && !is_delivery(action)
}

fn is_of_writers(action: Action) -> bool {
    use Action::{Adopt, Contact, Kill, New, Publish};
    matches!(
        action,
        Contact(_) | Publish(_) | Adopt(_) | New(_) | Kill(_)
    )
}

fn small(number: impl TryInto<u8>) -> u8 {
    number.try_into().ok().expect("walks are short")
}

/// That it may write before its first contact is no state of the product; a file that halts is marked there, and its mark is
/// taken away at the next start.
fn forget_what_does_not_show(writer: &mut world::Writer) {
    match writer.mode {
        Mode::Early => writer.mode = Mode::Started,
        Mode::Halted => writer.must_import = true,
        _ => {}
    }
}

impl Writer {
    /// A relay's step, until it is done or waits before a delete. One that waits goes on.
    async fn step(&mut self, look: bool) -> Option<Result<Step, LogError>> {
        if self.waiting.is_none() {
            let mut relay = self.relay.take().unwrap();
            if look {
                relay.look_next();
            }
            self.waiting = Some(tokio::spawn(async move {
                let step = relay.step().await;
                (relay, step)
            }));
        }
        let task = self.waiting.as_mut().unwrap();
        tokio::select! {
            biased;
            done = task => {
                let (relay, step) = done.unwrap();
                (self.relay, self.waiting) = (Some(relay), None);
                Some(step)
            }
            () = self.door.orders.waits.notified() => None,
        }
    }

    /// After a cut: a delete that waited is given up.
    async fn rest(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let (relay, _lost) = waiting.await.unwrap();
            self.relay = Some(relay);
        }
    }

    async fn world(
        &self,
        events: &mut Numbers<String>,
        model: Option<&world::Writer>,
    ) -> world::Writer {
        let read = self.db.read(|rows| {
            let rest = rows.query_row(
                "select epoch, must_import is not null, (select coalesce(min(seq), (select seq + 1 from relay_head)) from relay_outbox)
                 from relay_identity",
                [],
                |row| Ok((row.get::<_, u32>(0)?, row.get::<_, bool>(1)?, row.get::<_, u64>(2)?)),
            )?;
            let rows_kept = texts(rows, "select event_id from relay_outbox order by seq")?;
            let aside = texts(rows, "select event_id from relay_set_aside where found_in <> 'consumer'")?;
            Ok::<_, rusqlite::Error>((rest, rows_kept, aside, texts(rows, "select id from entries")?))
        });
        let ((epoch, must_import, oldest), kept, aside, all) = read.await.unwrap();
        let mut numbers =
            |ids: Vec<String>| -> Vec<u8> { ids.into_iter().map(|id| events.of(id)).collect() };
        let (rows, aside, all) = (numbers(kept), numbers(aside), numbers(all));
        // What it has pruned it does not know from the stream's: it saves more than it must.
        let more = |id: &u8| all.contains(id) && !rows.contains(id);
        let wanted = model.map(|it| it.set_aside.clone()).unwrap_or_default();
        let mut set_aside: BTreeSet<u8> = aside
            .into_iter()
            .filter(|id| wanted.contains(id) || !more(id))
            .collect();
        set_aside.extend(&self.handed);
        let mode = match self.db.gate() {
            Gate::Halted(_) => Mode::Halted,
            Gate::Open if self.db.has_met_its_stream() => Mode::Open,
            _ => Mode::Started,
        };
        world::Writer {
            mode,
            epoch: small(epoch),
            must_import,
            oldest: small(oldest),
            rows,
            set_aside: set_aside.into_iter().collect(),
        }
    }
}

impl Reader {
    async fn start(path: PathBuf) -> Self {
        let options = Options {
            readers: 1,
            ..Options::new("scale-service", "SCALES", ENTRIES)
        };
        let db = reopen(&path, options).await;
        let asked = Asked::default();
        let consumer = entries(&asked);
        Self {
            path,
            db,
            asked,
            consumer,
            follower: None,
            waiting: None,
            handed: Handed::default(),
            trouble: String::new(),
        }
    }

    /// One that stands in while the file is exchanged.
    async fn none(scratch: &Scratch) -> Self {
        Self::start(scratch.path("none.db")).await
    }

    async fn hang_up(&mut self) {
        self.asked.forget();
        self.follower = None;
        if let Some(waiting) = self.waiting.take() {
            waiting.abort();
            let _aborted = waiting.await;
        }
    }

    /// Connects again and checks.
    async fn connect(&mut self, broker: &MemoryBroker) {
        self.hang_up().await;
        self.go_on(broker).await;
    }

    async fn apply(&mut self, broker: &MemoryBroker) -> Result<(), String> {
        if self.follower.is_none() || self.waiting.is_some() {
            return Err(format!("it does not follow: {}", self.trouble));
        }
        self.go_on(broker).await;
        // Another event came than the next: only a new look tells a trimmed stream, or another log, from a late copy.
        if self.trouble.contains("reading again") {
            self.go_on(broker).await;
        }
        Ok(())
    }

    /// A step, until it is done or waits for an answer.
    async fn go_on(&mut self, broker: &MemoryBroker) {
        if self.waiting.is_none() {
            let follower = self.follower.take();
            let pipe = Pipe {
                broker: broker.clone(),
                handed: self.handed.clone(),
            };
            let mut follower = follower.unwrap_or_else(|| self.consumer.follow(&self.db, pipe));
            self.waiting = Some(tokio::spawn(async move {
                let step = follower.step().await;
                (follower, step)
            }));
        }
        let task = self.waiting.as_mut().unwrap();
        self.trouble.clear();
        tokio::select! {
            biased;
            done = task => {
                let (follower, step) = done.unwrap();
                self.waiting = None;
                match step {
                    Ok(_) => self.follower = Some(follower),
                    Err(why) => self.trouble = why.to_string(),
                }
            }
            () = self.asked.waits() => {}
        }
        *self.handed.lock().unwrap() = None;
    }

    async fn world(&self, events: &mut Numbers<String>) -> world::Consumer {
        let consumer = self.consumer.clone();
        let read = self.db.read(move |rows| {
            let aside = "select event_id from relay_set_aside where found_in = 'consumer'";
            Ok::<_, rusqlite::Error>((
                texts(rows, "select id from entries order by seq")?,
                consumer.position(rows)?,
                texts(rows, aside)?,
            ))
        });
        let (applied, at, reported) = read.await.unwrap();
        let mut numbers =
            |ids: Vec<String>| -> Vec<u8> { ids.into_iter().map(|id| events.of(id)).collect() };
        let mut reported = numbers(reported);
        reported.sort_unstable();
        world::Consumer {
            applied: numbers(applied),
            seq: at.map_or(0, |at| small(at.seq)),
            last: at.map(|at| numbers(vec![at.id.to_string()])[0]),
            reported,
        }
    }
}

/// The words of a walk on its own, for `FREEHOLD_WALK` and for shortening. `Ok(false)`: the model does not allow it.
async fn follow(walk: &Walk, protocol: Protocol, drawn_only: bool) -> Result<bool, String> {
    let mut lead = Lead::new(protocol).await;
    let mut outcome = Ok(true);
    for (place, action) in walk.0.iter().enumerate() {
        let Some(next) = lead.protocol.step(&lead.state, *action) else {
            outcome = Ok(false);
            break;
        };
        if drawn_only && lead.differs(*action).await.is_some() {
            outcome = Ok(false);
            break;
        }
        if let Err(why) = lead
            .act_before(*action, next, walk.0.get(place + 1).copied())
            .await
        {
            outcome = Err(why);
            break;
        }
    }
    lead.end().await;
    outcome
}

/// Leaves out one action after the other for as long as the worlds still differ.
async fn shortened(mut walk: Walk, protocol: Protocol) -> (Walk, String) {
    let mut why = String::new();
    loop {
        let mut shorter = None;
        for leave in (0..walk.0.len()).rev() {
            let mut tried = walk.clone();
            tried.0.remove(leave);
            if let Err(reason) = follow(&tried, protocol, true).await {
                (shorter, why) = (Some(tried), reason);
                break;
            }
        }
        match shorter {
            Some(tried) => walk = tried,
            None => return (walk, why),
        }
    }
}

async fn lead_all(count: u64, bounds: Bounds, must: &[&str]) {
    let protocol = Protocol::new(Rules::ALL, bounds);
    if let Ok(walk) = std::env::var("FREEHOLD_WALK") {
        let outcome = follow(&walk.parse().unwrap(), protocol, false).await;
        match outcome {
            Ok(possible) => assert!(possible, "the model does not allow this walk"),
            Err(why) => panic!("{why}"),
        }
        return;
    }
    let (mut actions, mut differences) = (BTreeMap::new(), BTreeMap::new());
    let mut disagreements = Vec::new();
    let count = std::env::var("FREEHOLD_WALKS").map_or(count, |count| count.parse().unwrap());
    for seed in seeds(count) {
        let faults = 3 + small(seed % 6); // some walks meet few, some many
        let protocol = Protocol::new(Rules::ALL, Bounds { faults, ..bounds });
        let mut lead = Lead::new(protocol).await;
        let mut random = SmallRng::seed_from_u64(seed);
        let outcome = lead.wander(&mut random).await;
        for action in &lead.walk.0 {
            let name = format!("{action:?}");
            let name = name.split('(').next().unwrap().to_owned();
            *actions.entry(name).or_insert(0_u64) += 1;
        }
        for (why, times) in &lead.differences {
            *differences.entry(*why).or_insert(0) += times;
        }
        let walk = lead.walk.clone();
        lead.end().await;
        if let Err(why) = outcome {
            let (short, short_why) = match std::env::var_os("FREEHOLD_SHORTEN") {
                None => (walk.clone(), String::new()),
                Some(_) => shortened(walk.clone(), protocol).await,
            };
            disagreements.push(format!(
                "seed {seed}: {walk}\n{why}\nshort: {short}\n{short_why}"
            ));
        }
    }
    let total: u64 = actions.values().sum();
    println!(
        "{total} actions: {actions:?}\nnot drawn, because the product differs by design: {differences:#?}"
    );
    assert!(
        disagreements.is_empty(),
        "{} of the walks:\n{}",
        disagreements.len(),
        disagreements.join("\n\n")
    );
    if std::env::var_os("FREEHOLD_SEED").is_none() {
        let never = |name: &&&str| !actions.contains_key(**name);
        let never: Vec<_> = must.iter().filter(never).collect();
        assert!(
            never.is_empty(),
            "hardly walks: these were never drawn: {never:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_writer_walks_as_the_model_does() {
    lead_all(100, Bounds::new(10, 8, "WTSDtPucRlx"), &ONE_WRITER).await;
}

#[tokio::test(start_paused = true)]
async fn two_writers_walk_as_the_model_does() {
    let bounds = Bounds::new(10, 8, "WTSDtPuKCcRlx").consumers(2);
    let must = [&ONE_WRITER[..], &MORE_OF_TWO].concat();
    lead_all(80, bounds, &must).await;
}

/// The comparison sees what it should: a model that leaves a rule out is soon at odds with the product.
#[tokio::test(start_paused = true)]
async fn a_model_without_a_rule_differs_from_the_product() {
    for (rule, kinds) in SHOWN {
        let protocol = Protocol::new(Rules::ALL.without(rule), Bounds::new(10, 8, kinds));
        let mut differs = false;
        for seed in 1..=60 {
            let mut lead = Lead::new(protocol).await;
            let mut random = SmallRng::seed_from_u64(seed);
            differs = lead.wander(&mut random).await.is_err();
            lead.end().await;
            if differs {
                break;
            }
        }
        assert!(differs, "{rule:?} is left out, and nothing shows it");
    }
}
