//! The ways to the broker and to the producer as a walk needs them: one thing happens at each step, and then they wait.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use relay::Database;
use relay::error::LogError;
use relay::log::{
    AppendLog, Connect, Head, Holds, Lines, Log, Origin, Position, Producer, Record, Stream,
};
use relay::publish::Answers;
use relay::testing::memory::MemoryBroker;
use tokio::sync::{Notify, oneshot};

type Session = <MemoryBroker as Connect>::Session;

fn lost(why: &str) -> LogError {
    LogError::Disconnected(why.to_owned(), None)
}

/// A relay's way to the broker. One contact changes one thing, in the stream or in the outbox, and then the session is gone.
/// A delete waits until it is let go: the model knows what a process is about to delete.
#[derive(Clone)]
pub struct Door {
    broker: MemoryBroker,
    db: Database,
    pub orders: Arc<Orders>,
}

#[derive(Default)]
pub struct Orders {
    now: Mutex<Now>,
    pub waits: Notify,
}

#[derive(Default)]
struct Now {
    /// A contact is under way. Outside of one a relay may read as much as it likes.
    looks: bool,
    /// The outbox's head when the contact began.
    head: u64,
    /// The contact has changed the stream.
    done: bool,
    doomed: Option<oneshot::Sender<()>>,
    /// The next row is stored, and its sender never hears of it.
    loses_answer: bool,
    /// Sessions of an older one are cut.
    generation: u64,
}

impl Door {
    pub fn new(broker: &MemoryBroker, db: &Database) -> Self {
        let (broker, db) = (broker.clone(), db.clone());
        Self {
            broker,
            db,
            orders: Arc::default(),
        }
    }

    /// A contact begins. Lets a delete go that waits.
    pub fn begin(&self) {
        let mut now = self.orders.now.lock().unwrap();
        (now.head, now.done) = (self.db.outbox().committed(), false);
        now.looks = true;
        if let Some(doomed) = now.doomed.take() {
            doomed.send(()).unwrap();
        }
    }

    pub fn end(&self) {
        self.orders.now.lock().unwrap().looks = false;
    }

    /// Whether the contact has changed something.
    pub fn has_changed(&self) -> bool {
        let now = self.orders.now.lock().unwrap();
        now.looks && (now.done || self.db.outbox().committed() > now.head)
    }

    pub fn lose_answer(&self) {
        self.orders.now.lock().unwrap().loses_answer = true;
    }

    pub fn cut(&self) {
        let mut now = self.orders.now.lock().unwrap();
        now.generation += 1;
        now.doomed = None;
    }
}

pub struct DoorSession {
    session: Session,
    door: Door,
    generation: u64,
}

impl Connect for Door {
    type Session = DoorSession;

    async fn connect(&self) -> Result<DoorSession, LogError> {
        if self.has_changed() {
            return Err(lost("that was the one thing"));
        }
        let session = self.broker.connect().await?;
        let generation = self.orders.now.lock().unwrap().generation;
        Ok(DoorSession {
            session,
            door: self.clone(),
            generation,
        })
    }

    fn stream(&self) -> &str {
        "PARCELS"
    }
}

impl DoorSession {
    fn check(&self) -> Result<(), LogError> {
        if self.generation != self.door.orders.now.lock().unwrap().generation {
            return Err(lost("cut"));
        }
        match self.door.has_changed() {
            true => Err(lost("that was the one thing")),
            false => Ok(()),
        }
    }

    fn done(&self) {
        self.door.orders.now.lock().unwrap().done = true;
    }
}

impl Log for DoorSession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        self.check()?;
        self.session.head().await
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        _: Duration,
    ) -> Result<Vec<Record>, LogError> {
        self.check()?;
        self.session.head().await?; // is it cut?
        Ok(read(&self.door.broker, after, limit))
    }
}

/// At once: what is not there now does not come before the next action.
fn read(broker: &MemoryBroker, after: u64, limit: usize) -> Vec<Record> {
    let records = broker.records().into_iter();
    records
        .filter(|record| record.seq > after)
        .take(limit)
        .collect()
}

impl AppendLog for DoorSession {
    /// One row. Its sender then reads the rest again.
    async fn append_after(&mut self, head: &Head, records: &[Record]) -> Result<Head, LogError> {
        if self.generation != self.door.orders.now.lock().unwrap().generation {
            return Err(lost("cut"));
        }
        let appended = self.session.append_after(head, &records[..1]).await?;
        match std::mem::take(&mut self.door.orders.now.lock().unwrap().loses_answer) {
            true => Err(lost("stored, and gone")),
            false => Ok(appended),
        }
    }
}

impl Stream for DoorSession {
    async fn create(
        &mut self,
        first: u64,
        origin: &Origin,
        incarnation: &str,
    ) -> Result<Head, LogError> {
        self.check()?;
        let made = self.session.create(first, origin, incarnation).await?;
        self.done();
        Ok(made)
    }

    /// The answer never comes.
    async fn close(&mut self, epoch: u32, incarnation: &str) -> Result<Head, LogError> {
        self.check()?;
        self.session.close(epoch, incarnation).await?;
        self.done();
        Err(lost("closed, and gone"))
    }

    async fn delete(&mut self, incarnation: &str) -> Result<(), LogError> {
        self.check()?;
        let (go, gone) = oneshot::channel();
        self.door.orders.now.lock().unwrap().doomed = Some(go);
        self.door.orders.waits.notify_one();
        gone.await.map_err(|_| lost("cut"))?;
        let there = self.door.broker.store().is_some();
        self.session.delete(incarnation).await?;
        if there {
            self.done();
        }
        Ok(())
    }

    async fn trim(&mut self, first: u64) -> Result<(), LogError> {
        self.check()?;
        self.session.trim(first).await
    }
}

/// An event that a reader is handed in place of what the stream holds there: a live copy, a late one, or what a replica says that
/// is behind.
pub type Handed = Arc<Mutex<Option<Record>>>;

/// A consumer's way to the broker: one event at a time, of whichever incarnation is there.
#[derive(Clone)]
pub struct Pipe {
    pub broker: MemoryBroker,
    pub handed: Handed,
}

pub struct PipeSession {
    session: Session,
    pipe: Pipe,
}

impl Connect for Pipe {
    type Session = PipeSession;

    async fn connect(&self) -> Result<PipeSession, LogError> {
        let session = self.broker.connect().await?;
        Ok(PipeSession {
            session,
            pipe: self.clone(),
        })
    }

    fn stream(&self) -> &str {
        "PARCELS"
    }
}

impl Log for PipeSession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        self.session.head().await
    }

    async fn read_after(
        &mut self,
        after: u64,
        _: usize,
        _: Duration,
    ) -> Result<Vec<Record>, LogError> {
        self.session.head().await?; // is it cut?
        let is_there = |record: &mut Record| record.seq == after + 1;
        match self.pipe.handed.lock().unwrap().take_if(is_there) {
            Some(handed) => Ok(vec![handed]),
            None => Ok(read(&self.pipe.broker, after, 1)),
        }
    }
}

/// A producer that answers when the walk says so, through the writer that it names.
#[derive(Clone, Default)]
pub struct Asked(Arc<Questions>);

#[derive(Default)]
struct Questions {
    open: Mutex<Option<(Question, oneshot::Sender<Answers>)>>,
    waits: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    Holds,
    Snapshot,
}

impl Asked {
    pub fn question(&self) -> Option<Question> {
        self.0
            .open
            .lock()
            .unwrap()
            .as_ref()
            .map(|(question, _)| *question)
    }

    pub fn answer(&self, by: Answers) {
        let (_, to) = self.0.open.lock().unwrap().take().unwrap();
        assert!(to.send(by).is_ok(), "the caller is gone");
    }

    pub fn forget(&self) {
        *self.0.open.lock().unwrap() = None;
    }

    pub async fn waits(&self) {
        self.0.waits.notified().await;
    }

    async fn ask(&self, question: Question) -> Result<Answers, LogError> {
        let (to, answer) = oneshot::channel();
        *self.0.open.lock().unwrap() = Some((question, to));
        self.0.waits.notify_one();
        answer.await.map_err(|_| lost("no answer"))
    }
}

impl Producer for Asked {
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>> {
        Box::pin(async move { self.ask(Question::Holds).await?.holds(at).await })
    }

    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>> {
        Box::pin(async move { self.ask(Question::Snapshot).await?.snapshot(at).await })
    }
}
