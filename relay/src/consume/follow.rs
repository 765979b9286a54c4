//! The follower: a consumer at work. It connects, checks that the stream still is the log it has applied, and then
//! applies whatever is ready in one transaction, over and over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::apply;
use super::heal::{BEGINS, Cures};
use super::position::{self, Break, check_offset, follows};
use super::report::Reports;
use super::start::{self, Start};
use super::step::{Progress, Trouble};
use super::{Consumer, dead_letter};
use crate::Stop;
use crate::backoff::Backoff;
use crate::database::{Database, Tx};
use crate::error::{ApplyError, Fatal, LogError, chain};
use crate::log::{Connect, Head, Log, Position, Record};

/// Events one transaction applies, at most.
const MAX_EVENTS: usize = 1000;
/// How often the stream is looked at even when events flow: a recreated stream goes on silently under a reader, so its
/// incarnation is compared again and again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the event at the offset may take to arrive.
const OFFSET_WAIT: Duration = Duration::from_secs(2);

/// A consumer at work on one database, step by step: see [`Consumer::follow`].
pub struct Follower<C: Connect> {
    consumer: Consumer,
    db: Database,
    from: C,
    session: Option<Session<C::Session>>,
    /// Whether this process has ever reached its stream.
    reached: bool,
    /// Whether the status shows the offset that is in the file.
    begun: bool,
    reports: Reports,
    cures: Cures,
    /// Between steps that failed.
    backoff: Backoff,
    /// The event that could not be applied yet, and how often it was tried since this process started.
    tried: (u64, u32),
}

/// A connection whose stream was found to continue at `position`.
struct Session<L> {
    log: L,
    position: Option<Position>,
    /// Events that were read and are not applied yet.
    ready: Vec<Record>,
    /// The stream as it was at the last look, and when that was, in Unix milliseconds: if it held more than was applied, some
    /// of it must come by the next look.
    seen: Option<(Head, u64)>,
    /// Whether anything came since the last look.
    came: bool,
    look_due: Instant,
}

impl<C: Connect> Follower<C> {
    pub(super) fn new(consumer: Consumer, db: Database, from: C) -> Self {
        Self {
            cures: Cures::new(consumer.clone(), db.clone()),
            consumer,
            db,
            from,
            session: None,
            reached: false,
            begun: false,
            reports: Reports::default(),
            backoff: Backoff::new(),
            tried: (0, 0),
        }
    }

    /// Applies until stopped. A transaction under way at the stop commits or rolls back as a whole.
    ///
    /// # Errors
    ///
    /// [`Fatal`] when trying again cannot help: a broker that is too old or refuses the account, an event that the program
    /// cannot decode, a stream on which the consumer cannot go on. Lost connections and transient faults are retried instead.
    pub async fn run(mut self, stop: Stop) -> Result<(), Fatal> {
        while let Some(step) = stop.run_until_cancelled(self.try_step()).await {
            match step {
                Ok(Progress::Connected) => {} // what failed before may fail again
                Ok(_) => self.backoff.reset(),
                Err(trouble) => {
                    self.complain(trouble)?;
                    stop.run_until_cancelled(self.backoff.wait()).await;
                }
            }
        }
        Ok(())
    }

    /// One step: connect and check if need be, then apply what is ready. After an error the session is gone, unless it is the
    /// next event that cannot be applied yet.
    ///
    /// # Errors
    ///
    /// [`Fatal`] for every trouble, also one that the next step may overcome: `run` sorts them.
    pub async fn step(&mut self) -> Result<Progress, Fatal> {
        Ok(self.try_step().await?)
    }

    async fn try_step(&mut self) -> Result<Progress, Trouble> {
        if !self.begun {
            self.begin().await?;
        }
        // Asked for once, tried once: a healthy cache goes on when its producer is silent.
        if self.consumer.rebuild_wanted.swap(false, Ordering::Relaxed) {
            self.session = None;
            return self.cures.rebuild("an operator asked for it").await;
        }
        if self.session.is_none() && self.begins_with_snapshot().await? {
            return self.cures.cure(BEGINS, false).await;
        }
        match self.step_on().await {
            Err(Trouble::Broken(why)) => self.cures.heal(why).await,
            other => other,
        }
    }

    /// Shows the offset at once: events applied before this start count, even if the stream cannot be reached.
    async fn begin(&mut self) -> Result<(), Trouble> {
        let checked = self.consumer.check(&self.db).await;
        checked.map_err(|Fatal(why)| Trouble::Fatal(why))?;
        let offset = self.load().await?.map_or(0, |at| at.seq);
        let status = &self.consumer.status;
        status.send_modify(|status| status.offset = offset);
        self.begun = true;
        Ok(())
    }

    async fn begins_with_snapshot(&self) -> Result<bool, Trouble> {
        Ok(self.consumer.start == Start::Snapshot
            && self.load().await?.is_none()
            && self.consumer.read(&self.db, start::begun).await?.is_none())
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
        let log = self.from.connect().await;
        let mut session = Session {
            log: log.map_err(|error| self.refused(error))?,
            position: self.load().await?,
            ready: Vec::new(),
            seen: None,
            came: false,
            look_due: Instant::now(),
        };
        self.look(&mut session).await?;
        Ok(session)
    }

    /// A refusal is final if it came before the stream was ever reached: a password, a permission, a version.
    fn refused(&self, error: LogError) -> Trouble {
        match error {
            LogError::Misconfigured(_) if !self.reached => Trouble::Fatal(chain(&error)),
            error => error.into(),
        }
    }

    async fn advance(&mut self, session: &mut Session<C::Session>) -> Result<Progress, Trouble> {
        let wait = session.look_due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            self.look(session).await?;
            if session.ready.is_empty() {
                return Ok(Progress::Idle);
            }
        }
        if session.ready.is_empty() {
            let offset = session.offset();
            session.ready = session.log.read_after(offset, MAX_EVENTS, wait).await?;
        }
        let broken = session.keep_what_follows();
        let count = self.apply(session).await?;
        match broken {
            _ if !session.ready.is_empty() => Ok(Progress::Applied(count)), // what broke is not due yet
            // It may be a late copy of an older incarnation. Only the check at the offset proves another log.
            Some(Break::Forked(Position { seq, .. })) => Err(Trouble::Again(format!(
                "the event that came after {seq} names another one before it; reading again"
            ))),
            Some(why) => Err(why.into()),
            None if count == 0 => Ok(Progress::Idle),
            None => Ok(Progress::Applied(count)),
        }
    }

    /// At each connect and every two seconds: does the stream still hold the event at the offset, and do new ones come?
    async fn look(&mut self, session: &mut Session<C::Session>) -> Result<(), Trouble> {
        let (at_ms, head) = (self.db.environment().now_ms(), self.head(session).await?);
        let is_waiting = !session.ready.is_empty(); // for an event that cannot be applied yet
        if !session.has_applied_all() && !session.came && !is_waiting {
            let wanted = session.offset() + 1;
            return Err(Break::Silent { wanted }.into());
        }
        // The last event applied may have been a late copy from a stream that is gone, and a replica that is behind may have
        // answered the last look: so each look checks the offset itself.
        if let Some(position) = session.position {
            let read = session.log.read_after(position.seq - 1, 2, OFFSET_WAIT);
            check_offset(position, &head, &read.await?)?;
        } else {
            let log = &mut session.log;
            let first = start::first_position(&self.db, &self.consumer, log, &head);
            session.position = first.await?;
        }
        session.seen = Some((head, at_ms));
        session.look_due = Instant::now() + LOOK_EVERY;
        // Behind the stream, only an event applied proves that all is well.
        let is_well = !is_waiting && (session.came || session.has_applied_all());
        let dead_letters = self.consumer.read(&self.db, dead_letter::count).await?;
        self.show(session, is_well, dead_letters, 0);
        session.came = false;
        self.reports.step(&self.consumer, session.position);
        Ok(())
    }

    /// The head of the stream, which must be the same incarnation as at the last look.
    async fn head(&mut self, session: &mut Session<C::Session>) -> Result<Head, Trouble> {
        let head = session.log.head().await;
        let head = head.map_err(|error| self.refused(error))?;
        let Some((seen, _)) = &session.seen else {
            let head = head.ok_or(Break::Missing)?;
            self.reached = true;
            return Ok(head);
        };
        let same = head.filter(|head| head.incarnation == seen.incarnation);
        same.ok_or_else(|| {
            let stream = self.from.stream();
            Trouble::Again(format!("stream {stream} was recreated; checking it"))
        })
    }

    /// Applies in one transaction as many of the ready events as there is time for; returns how many.
    async fn apply(&mut self, session: &mut Session<C::Session>) -> Result<usize, Trouble> {
        if session.ready.is_empty() {
            return Ok(0);
        }
        let (after, next) = (session.position, session.offset() + 1);
        let (event, times) = self.tried;
        let tried = if event == next { times } else { 0 };
        let mut records = std::mem::take(&mut session.ready);
        let work = move |tx: &Tx<'_>, consumer: &Consumer| {
            let done = apply::batch(tx, consumer, after, &records, tried)?;
            records.drain(..done.count);
            Ok((done, records))
        };
        let (done, left) = self.consumer.transact(&self.db, work).await?;
        session.ready = left;
        if let Some(position) = done.position {
            session.position = Some(position);
            session.came = true;
            self.backoff.reset();
            self.cures.applied(position.seq);
        }
        let is_well = done.count > 0;
        self.show(session, is_well, done.dead_letters, done.skipped);
        match done.ended_by {
            None => Ok(done.count),
            Some(ApplyError::Fatal(why)) => Err(Trouble::Fatal(why)),
            Some(ApplyError::Transient(why) | ApplyError::Rejected(why)) => {
                let seq = session.offset() + 1;
                self.tried = (seq, if seq == next { tried + 1 } else { 1 });
                let line = format!("event {seq} is not applied yet: {why}");
                Err(Trouble::Later(line))
            }
        }
    }

    async fn load(&self) -> Result<Option<Position>, Trouble> {
        Ok(self.consumer.read(&self.db, position::load).await?)
    }

    /// Shows in the status how far the session is.
    fn show(&self, session: &Session<C::Session>, is_well: bool, dead_letters: u64, skipped: u64) {
        self.consumer.status.send_if_modified(|status| {
            let before = status.clone();
            status.offset = session.offset();
            status.dead_letters = dead_letters;
            status.skipped += skipped;
            if is_well {
                status.trouble = None;
            }
            if let Some((seen, at_ms)) = &session.seen {
                status.stream_head = Some(seen.seq.max(status.offset));
                // Events that came after the last look do not count: under a steady flow a reader is never at the head, and
                // still never far behind.
                if session.has_applied_all() {
                    status.caught_up_at_ms = Some(*at_ms);
                }
            }
            *status != before
        });
    }

    /// Logs and shows trouble once. Fatal trouble ends the process.
    fn complain(&self, trouble: Trouble) -> Result<(), Fatal> {
        if matches!(trouble, Trouble::Fatal(_)) {
            return Err(trouble.into());
        }
        let (status, line) = (&self.consumer.status, trouble.to_string());
        if status.borrow().trouble.as_ref() != Some(&line) {
            tracing::warn!(consumer = &*self.consumer.name, trouble = %line, "not applying");
            status.send_modify(|status| status.trouble = Some(line));
        }
        Ok(())
    }
}

impl<L> Session<L> {
    fn offset(&self) -> u64 {
        self.position.map_or(0, |position| position.seq)
    }

    /// Whether everything is applied that the stream held at the last look.
    fn has_applied_all(&self) -> bool {
        let seen = self.seen.as_ref();
        seen.is_none_or(|(seen, _)| self.offset() >= seen.seq)
    }

    /// Cuts the ready events where they stop following each other; returns why.
    fn keep_what_follows(&mut self) -> Option<Break> {
        let (mut at, mut broken) = (self.position, None);
        let kept = self.ready.iter().take_while(|record| {
            let next = follows(at, record).map_err(|why| broken = Some(why));
            at = next.ok();
            at.is_some()
        });
        let kept = kept.count();
        self.ready.truncate(kept);
        broken
    }
}
