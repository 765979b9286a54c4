//! The follower: a consumer at work. It connects, checks that the stream still is the log it has applied, and then
//! takes whatever is ready into one transaction, over and over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Consumer;
use super::apply::{self, Applied};
use super::position::{self, Break, check_beginning, check_offset, follows};
use super::report::Reports;
use super::retry::Tried;
use super::start::{self, Start};
use super::{answered, rebuild, resume};
use crate::Stop;
use crate::backoff::Backoff;
use crate::database::{Database, Tx};
use crate::error::{ApplyError, Fatal, LogError, ReadError, WriteError, chain};
use crate::log::{Connect, Head, Holds, Log, Position, Producer, Record};

/// Events one transaction applies, at most.
const MAX_EVENTS: usize = 1000;
/// How often the stream is looked at even when events flow: a stream that was made anew goes on silently under a
/// reader, so its incarnation is compared again and again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the event at the offset may take to arrive.
const OFFSET_WAIT: Duration = Duration::from_secs(2);
/// A cure that did not help is tried again after this long at first, and after this long at last.
const FIRST_CURE_DELAY: Duration = Duration::from_millis(50);
const LONGEST_CURE_DELAY: Duration = Duration::from_secs(60);
/// Why a cache is loaded that has applied nothing yet.
const BEGINS: &str = "it begins with a snapshot";

pub struct Follower<C: Connect> {
    consumer: Consumer,
    db: Database,
    from: C,
    session: Option<Session<C::Session>>,
    /// Whether this process has ever seen its stream.
    met: bool,
    /// Whether the status tells the offset that is in the file.
    told: bool,
    reports: Reports,
    cures: Cures,
    tried: Tried,
    /// Between the attempts at one event.
    delays: Backoff,
}

/// What was done about breaks of the stream. A cure that does not help is not tried over and over.
struct Cures {
    delays: Backoff,
    next_due: Instant,
    /// The offset at the last break: an event applied after it proves that the cure helped.
    broke_at: u64,
    /// Why the last one failed.
    failed: Option<String>,
}

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is a session, and the stream continues at the offset.
    Connected,
    /// The offset moved by so many events.
    Applied(usize),
    /// Nothing new came.
    Idle,
    /// The cache was loaded anew from a snapshot of so many rows.
    Rebuilt(u64),
    /// The stream had forked, and the reaction goes on after this sequence.
    Resumed(u64),
}

/// A connection whose stream was found to continue at `position`.
struct Session<L> {
    log: L,
    position: Option<Position>,
    /// Events that were read and are not applied yet.
    ready: Vec<Record>,
    /// The stream as it was at the last look: if it held more than was applied, some of it must come by the next.
    seen: Head,
    /// When that was, in Unix milliseconds.
    seen_at_ms: u64,
    /// Whether anything came since the last look.
    came: bool,
    look_due: Instant,
}

/// Why a step did not succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Connect again, look again.
    Again(String),
    /// The next event cannot be applied yet.
    Later(String),
    /// The stream does not continue where this consumer is.
    Broken(Break),
    /// A person must act, and trying again cannot help.
    Misconfigured(String),
    /// The process must stop.
    Fatal(String),
}

impl<C: Connect> Follower<C> {
    pub(super) fn new(consumer: Consumer, db: Database, from: C) -> Self {
        Self {
            tried: Tried::default(),
            delays: consumer.retry.delays(),
            consumer,
            db,
            from,
            session: None,
            met: false,
            told: false,
            reports: Reports::default(),
            cures: Cures {
                delays: Backoff::between(FIRST_CURE_DELAY, LONGEST_CURE_DELAY),
                next_due: Instant::now(),
                broke_at: 0,
                failed: None,
            },
        }
    }

    /// Applies until stopped. A transaction under way at the stop commits or rolls back as a whole.
    pub async fn run(mut self, stop: Stop) -> Result<(), Fatal> {
        let mut backoff = Backoff::new();
        loop {
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                step = self.try_step() => step,
            };
            let trouble = match step {
                Ok(Progress::Connected) => continue, // no success yet: what failed before may fail again
                Ok(_) => {
                    backoff.reset();
                    continue;
                }
                Err(trouble) => trouble,
            };
            let delay = match trouble {
                Trouble::Later(_) => self.delays.next_delay(),
                _ => backoff.next_delay(),
            };
            self.complain(trouble)?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    /// One step: connect and check if need be, then apply what is ready. After an error the session is gone, unless it is the
    /// next event that cannot be applied yet.
    pub async fn step(&mut self) -> Result<Progress, Fatal> {
        self.try_step()
            .await
            .map_err(|trouble| Fatal(trouble.to_string()))
    }

    async fn try_step(&mut self) -> Result<Progress, Trouble> {
        if !self.told {
            self.check_program()?;
            self.tell_offset().await?;
        }
        // Asked for once, tried once: a healthy cache goes on when its producer is silent.
        if self.consumer.rebuild_wanted.swap(false, Ordering::Relaxed) {
            self.session = None;
            return self.rebuild("a person asked for it").await;
        }
        if self.session.is_none() && self.begins_with_snapshot().await? {
            return self.cure(BEGINS, 0, false).await;
        }
        match self.step_on().await {
            Err(Trouble::Broken(why)) => self.heal(why).await,
            other => other,
        }
    }

    async fn begins_with_snapshot(&self) -> Result<bool, Trouble> {
        let wanted = self.consumer.start == Start::Snapshot;
        Ok(wanted && self.load().await?.is_none() && !self.has_begun().await?)
    }

    /// What its program says of it makes sense.
    fn check_program(&self) -> Result<(), Trouble> {
        let Consumer {
            name,
            stream,
            start,
            ..
        } = self.consumer;
        // A reaction's events name it and its stream, between spaces.
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
        if !is_name(name) || !is_name(stream) {
            return Err(Trouble::Fatal(format!(
                "{name:?} or {stream:?} cannot name a consumer and its stream: leave out the spaces"
            )));
        }
        if start == Start::Snapshot && !self.consumer.can_rebuild() {
            return Err(Trouble::Fatal(format!(
                "{name} cannot begin with a snapshot: it does not say how to load one and whom to ask for it"
            )));
        }
        Ok(())
    }

    /// What was applied before this start is applied, whether the stream can be reached or not.
    async fn tell_offset(&mut self) -> Result<(), Trouble> {
        let position = self.load().await?;
        let offset = position.map_or(0, |position| position.seq);
        let status = &self.consumer.status;
        status.send_modify(|status| status.offset = offset);
        self.told = true;
        Ok(())
    }

    /// The stream does not continue here. Is it only late, or another log? The producer knows, and gives a snapshot.
    async fn heal(&mut self, why: Break) -> Result<Progress, Trouble> {
        let (line, offset) = (why.to_string(), self.consumer.status.borrow().offset);
        let answer = self.ask_producer(&why).await;
        let answer = answer.map_err(|trouble| Trouble::Again(format!("{line}; {trouble}")))?;
        let lost = match (&why, answer) {
            (Break::Trimmed { .. }, _) => true,
            (Break::Forked { .. }, Some(Holds::Yes)) => {
                return Err(Trouble::Again(format!(
                    "{line}; but its producer's log holds what was applied, so it is read again"
                )));
            }
            (Break::Forked { .. }, _) | (_, Some(Holds::No)) => true,
            _ => false,
        };
        if !lost {
            return Err(Trouble::Again(line));
        }
        let is_fork = !matches!(why, Break::Trimmed { .. });
        self.cure(&line, offset, is_fork).await
    }

    /// One cure for what broke at this offset, unless the one before is too short a time ago.
    async fn cure(&mut self, line: &str, offset: u64, is_fork: bool) -> Result<Progress, Trouble> {
        if Instant::now() < self.cures.next_due {
            let failed = self.cures.failed.clone();
            return Err(Trouble::Again(failed.unwrap_or_else(|| {
                format!(
                    "{line}; what was done about it did not help, and is done again a little later"
                )
            })));
        }
        self.cures.broke_at = offset;
        self.cures.next_due = Instant::now() + self.cures.delays.next_delay();
        let cured = self.try_cure(line, is_fork).await;
        self.cures.failed = cured.as_ref().err().map(ToString::to_string);
        cured
    }

    /// The stream is not the one that was applied, or lacks the next event.
    async fn try_cure(&self, line: &str, is_fork: bool) -> Result<Progress, Trouble> {
        match &self.consumer.producer {
            Some(_) if self.consumer.can_rebuild() => self.rebuild(line).await,
            Some(producer) if self.consumer.emits && is_fork => {
                self.resume(&**producer, line).await
            }
            _ => Err(Trouble::Again(format!(
                "{line}; nothing more is applied, because this consumer has no snapshot to go on from: say with start-at where it goes on"
            ))),
        }
    }

    async fn resume(&self, producer: &dyn Producer, why: &str) -> Result<Progress, Trouble> {
        let after = resume::resume(&self.db, &self.consumer, producer, why).await?;
        tracing::error!(
            consumer = self.consumer.name,
            stream = self.consumer.stream,
            why,
            after,
            "the reaction went back to before a fork, and goes on from there"
        );
        self.consumer.status.send_modify(|status| {
            status.offset = after;
            status.trouble = None;
        });
        Ok(Progress::Resumed(after))
    }

    /// Whether the producer's log holds what was applied here, if that is in question and there is a producer to ask. One
    /// copy of the stream may be behind, or of an older incarnation: what it hands out proves no fork.
    async fn ask_producer(&self, why: &Break) -> Result<Option<Holds>, Trouble> {
        let is_asked = matches!(
            why,
            Break::Forked { .. } | Break::Short { .. } | Break::Missing
        );
        match (self.load().await?, &self.consumer.producer) {
            (Some(position), Some(producer)) if is_asked => {
                let answer = producer.holds(position).await;
                answer.map(Some).map_err(of_producer)
            }
            _ => Ok(None),
        }
    }

    async fn rebuild(&self, why: &str) -> Result<Progress, Trouble> {
        let Consumer { name, stream, .. } = self.consumer;
        let (Some(cache), Some(producer)) = (&self.consumer.cache, &self.consumer.producer) else {
            let why = format!("{name} cannot be rebuilt: it does not say how to load a snapshot");
            return Err(Trouble::Again(why));
        };
        let status = &self.consumer.status;
        if why == BEGINS {
            tracing::info!(
                consumer = name,
                stream,
                "the cache begins with a snapshot of its producer"
            );
        } else if status.borrow().trouble.is_none() {
            tracing::error!(
                consumer = name,
                stream,
                why,
                "loading the cache anew from the producer's snapshot"
            );
        }
        status.send_modify(|status| status.rebuilding = Some(0));
        let rebuilt = rebuild::rebuild(&self.db, &self.consumer, cache, &**producer, why).await;
        status.send_modify(|status| {
            status.rebuilding = None;
            status.not_rebuilt = rebuilt.as_ref().err().map(ToString::to_string);
        });
        let rebuilt = rebuilt?;
        tracing::warn!(
            consumer = name,
            rows = rebuilt.rows,
            offset = rebuilt.offset,
            "the cache is loaded"
        );
        status.send_modify(|status| {
            status.rebuilt += 1;
            status.offset = rebuilt.offset;
            status.dead_letters = 0;
            status.trouble = None;
        });
        Ok(Progress::Rebuilt(rebuilt.rows))
    }

    async fn step_on(&mut self) -> Result<Progress, Trouble> {
        let Some(mut session) = self.session.take() else {
            self.session = Some(self.open().await?);
            return Ok(Progress::Connected);
        };
        let progress = self.advance(&mut session).await;
        if matches!(progress, Ok(_) | Err(Trouble::Later(_))) {
            self.session = Some(session);
        }
        progress
    }

    /// A new session. It exists only if the stream holds the applied event at the offset.
    async fn open(&mut self) -> Result<Session<C::Session>, Trouble> {
        let mut log = self.from.connect().await?;
        let seen_at_ms = self.db.environment().now_ms();
        let Some(head) = log.head().await? else {
            return Err(Break::Missing.into());
        };
        self.met = true;
        let position = match self.load().await? {
            None => self.begin(&mut log, &head).await?,
            Some(position) => {
                let found = log.read_after(position.seq - 1, 2, OFFSET_WAIT).await?;
                check_offset(position, &head, &found)?;
                Some(position)
            }
        };
        let offset = position.map_or(0, |position| position.seq);
        let dead_letters = self.dead_letters().await?;
        self.consumer.status.send_modify(|status| {
            if head.seq <= offset {
                status.trouble = None; // otherwise the first event applied says that all is well
            }
            status.offset = offset;
            status.stream_head = Some(head.seq);
            status.dead_letters = dead_letters;
        });
        let session = Session {
            log,
            position,
            ready: Vec::new(),
            seen: head,
            seen_at_ms,
            came: false,
            look_due: Instant::now() + LOOK_EVERY,
        };
        self.note_caught_up(&session);
        self.reports.step(&self.consumer, position);
        Ok(session)
    }

    /// Nothing was applied yet. Where it begins is decided once, and stored at once.
    async fn begin(&self, log: &mut C::Session, head: &Head) -> Result<Option<Position>, Trouble> {
        let (chosen, name) = (self.consumer.start, self.consumer.name);
        let is_decided =
            matches!(chosen, Start::First | Start::Snapshot) || self.has_begun().await?;
        let answered = move |rows: &rusqlite::Connection| answered::first_answered(rows, name);
        let start = match (chosen, self.db.read(answered).await?) {
            // Its service has lost its file: it began before it answered.
            (Start::Now, Some(first)) => Start::At(first - 1),
            (chosen, _) => chosen,
        };
        let place = match is_decided {
            true => None,
            false => start::find(start, log, head).await?,
        };
        if place.is_none() {
            check_beginning(head)?;
        }
        if !is_decided {
            let consumer = self.consumer.clone();
            let work = move |tx: &Tx<'_>| start::begin_first(tx, &consumer, place);
            self.consumer.transact(&self.db, work).await?;
        }
        Ok(place.map(|(at, _)| at))
    }

    async fn has_begun(&self) -> Result<bool, Trouble> {
        let name = self.consumer.name;
        let begun = self.db.read(move |rows| start::begun(rows, name)).await?;
        Ok(begun.is_some())
    }

    async fn advance(&mut self, session: &mut Session<C::Session>) -> Result<Progress, Trouble> {
        let wait = session.look_due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            self.look(session).await?;
            return Ok(Progress::Idle);
        }
        if session.ready.is_empty() {
            let offset = session.position.map_or(0, |position| position.seq);
            session.ready = session.log.read_after(offset, MAX_EVENTS, wait).await?;
        }
        let broken = keep_what_follows(session.position, &mut session.ready).err();
        let count = self.apply(session).await?;
        match broken {
            _ if !session.ready.is_empty() => Ok(Progress::Applied(count)), // what broke is not due yet
            // It may be an older incarnation's, come late. Only the check at the offset tells another log.
            Some(Break::Forked { seq, .. }) => Err(Trouble::Again(format!(
                "the event that came after {seq} names another one before it; reading again"
            ))),
            Some(why) => Err(why.into()),
            None if count == 0 => Ok(Progress::Idle),
            None => Ok(Progress::Applied(count)),
        }
    }

    /// Is it still the same stream, and does it still come?
    async fn look(&mut self, session: &mut Session<C::Session>) -> Result<(), Trouble> {
        let seen_at_ms = self.db.environment().now_ms();
        let head = session.log.head().await?;
        let same = head.filter(|head| head.incarnation == session.seen.incarnation);
        let Some(head) = same else {
            let stream = self.from.stream();
            let anew = format!("stream {stream} was made anew; checking it");
            return Err(Trouble::Again(anew));
        };
        let offset = session.position.map_or(0, |position| position.seq);
        let is_waiting = !session.ready.is_empty(); // for an event that cannot be applied yet
        if session.seen.seq > offset && !session.came && !is_waiting {
            let wanted = offset + 1;
            return Err(Break::Silent { wanted }.into());
        }
        // What was applied may have been a late copy of a stream that is gone: the offset itself must be here, at every
        // look, since a copy of the stream that is behind may have answered the last one.
        if let Some(position) = session.position {
            let found = session.log.read_after(offset - 1, 1, OFFSET_WAIT).await?;
            check_offset(position, &head, &found)?;
        }
        let status = &self.consumer.status;
        status.send_modify(|status| {
            if !is_waiting {
                status.trouble = None;
            }
            status.stream_head = Some(head.seq.max(offset));
        });
        session.seen = head;
        session.seen_at_ms = seen_at_ms;
        session.came = false;
        session.look_due = Instant::now() + LOOK_EVERY;
        self.note_caught_up(session);
        self.reports.step(&self.consumer, session.position);
        Ok(())
    }

    /// Once all that the last look saw is applied, we are as new as that look. What came after it does not count: under
    /// a steady flow a reader is never at the head, and still never far behind.
    fn note_caught_up(&self, session: &Session<C::Session>) {
        let offset = session.position.map_or(0, |position| position.seq);
        if offset >= session.seen.seq {
            let at = Some(session.seen_at_ms);
            let status = &self.consumer.status;
            status.send_if_modified(|status| {
                let news = status.caught_up_at_ms != at;
                status.caught_up_at_ms = at;
                news
            });
        }
    }

    /// Applies in one transaction as many of the events that are ready as there is time for; answers how many.
    async fn apply(&mut self, session: &mut Session<C::Session>) -> Result<usize, Trouble> {
        if session.ready.is_empty() {
            return Ok(0);
        }
        let (consumer, tried) = (self.consumer.clone(), self.tried);
        let (after, mut records) = (session.position, std::mem::take(&mut session.ready));
        let work = move |tx: &Tx<'_>| {
            let done = apply::batch(tx, &consumer, after, &records, tried)?;
            let left = records.split_off(done.count);
            Ok((done, left))
        };
        let (done, left): (Applied, _) = self.consumer.transact(&self.db, work).await?;
        session.ready = left;
        if let Some(position) = done.position {
            session.position = Some(position);
            session.came = true;
            if position.seq > self.cures.broke_at {
                self.cures.delays.reset();
            }
        }
        self.consumer.status.send_modify(|status| {
            if let Some(position) = done.position {
                status.offset = position.seq;
                status.stream_head = status.stream_head.max(Some(position.seq));
                status.trouble = None;
            }
            status.skipped += done.skipped;
            status.dead_letters = done.dead_letters;
        });
        self.note_caught_up(session);
        match done.ended_by {
            None => Ok(done.count),
            Some(ApplyError::Transient(why)) => {
                let seq = session.position.map_or(1, |at| at.seq + 1);
                if self.tried.again(seq) {
                    self.delays.reset();
                }
                Err(Trouble::Later(format!(
                    "event {seq} is not applied yet: {why}"
                )))
            }
            Some(error) => Err(error.into()),
        }
    }

    async fn load(&self) -> Result<Option<Position>, Trouble> {
        let name = self.consumer.name;
        Ok(self.db.read(move |rows| position::load(rows, name)).await?)
    }

    async fn dead_letters(&self) -> Result<u64, Trouble> {
        let name = self.consumer.name;
        let count = move |rows: &rusqlite::Connection| super::dead_letter::count(rows, name);
        Ok(self.db.read(count).await?)
    }

    /// Says once what is wrong, and whether to go on trying.
    fn complain(&self, trouble: Trouble) -> Result<(), Fatal> {
        let line = trouble.to_string();
        match trouble {
            Trouble::Broken(_) => {}
            Trouble::Fatal(_) => return Err(Fatal(line)),
            Trouble::Misconfigured(_) if !self.met => return Err(Fatal(line)),
            Trouble::Misconfigured(_) | Trouble::Again(_) | Trouble::Later(_) => {}
        }
        let news = self.consumer.status.borrow().trouble.as_ref() != Some(&line);
        if news {
            tracing::warn!(consumer = self.consumer.name, trouble = %line, "not applying");
            let status = &self.consumer.status;
            status.send_modify(|status| status.trouble = Some(line));
        }
        Ok(())
    }
}

/// Whatever keeps the producer from answering may change while we run, a wrong token included.
pub(super) fn of_producer(error: LogError) -> Trouble {
    Trouble::Again(chain(&error))
}

/// Cuts the records where they stop following each other, and says why.
fn keep_what_follows(
    mut position: Option<Position>,
    records: &mut Vec<Record>,
) -> Result<(), Break> {
    for index in 0..records.len() {
        match follows(position, &records[index]) {
            Ok(next) => position = Some(next),
            Err(why) => {
                records.truncate(index);
                return Err(why);
            }
        }
    }
    Ok(())
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(why) => why.fmt(f),
            Self::Again(why) | Self::Later(why) | Self::Misconfigured(why) | Self::Fatal(why) => {
                f.write_str(why)
            }
        }
    }
}

impl From<Break> for Trouble {
    fn from(why: Break) -> Self {
        Self::Broken(why)
    }
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        let line = chain(&error);
        match error {
            LogError::Misconfigured(_) => Self::Misconfigured(line),
            LogError::Lost(..) | LogError::Refused(_) | LogError::Stuck(_) => Self::Again(line),
        }
    }
}

impl From<ApplyError> for Trouble {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Fatal(why) => Self::Fatal(why),
            other => Self::Again(other.to_string()),
        }
    }
}

impl From<WriteError<ApplyError>> for Trouble {
    fn from(error: WriteError<ApplyError>) -> Self {
        match error {
            WriteError::Work(why) => why.into(),
            other => Self::Again(chain(&other)),
        }
    }
}

impl From<ReadError<rusqlite::Error>> for Trouble {
    fn from(error: ReadError<rusqlite::Error>) -> Self {
        Self::Again(chain(&error))
    }
}
