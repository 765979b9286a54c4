//! The relay: copies the tail of the outbox onto the stream, at the same numbers.
//!
//! Its position comes from the stream, never from memory: a *contact* reads the stream's head and compares the
//! event there with the outbox's row of that number. A contact opens every session, follows every refused publish,
//! and is repeated on a timer even when there is nothing to publish.

mod answers;
mod chores;
mod contact;
pub(crate) mod readers;
mod recover;
mod retention;
mod scrub;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::Stop;
use crate::backoff::Backoff;
use crate::database::{self, Database};
use crate::error::{Fatal, LogError, chain};
use crate::log::{AppendLog, Connect, Head, Log, Record, Stream};
use crate::outbox::Outbox;
use chores::Chore;
use contact::{Action, Own};
use retention::Keeper;
use scrub::Scrub;

pub use answers::Answers;
pub use contact::Case;
pub use readers::{ReportedReader, is_reader_name};
pub use retention::Retention;

/// Rows one step takes from the outbox, at most: enough to keep several batches on their way all the time.
const MAX_ROWS: usize = 16_000;
/// How often the relay looks at the stream even when there is nothing to publish.
const CONTACT_EVERY: Duration = Duration::from_secs(2);

/// Publishes one database's outbox. A database has one relay; the broker refuses a second.
pub struct Relay<C: Connect> {
    db: Database,
    outbox: Outbox,
    to: C,
    session: Option<Session<C::Session>>,
    /// Whether this process has ever seen its stream.
    reached: bool,
    /// Whether a contact of this process has succeeded: any event the stream gains afterwards came from another process.
    open: bool,
    retention: Keeper,
    scrub: Scrub,
    /// The scrub has found a difference between stream and outbox: the next contact replaces the stream.
    damaged: bool,
    /// What fails besides publishing: what does not happen, and why.
    troubles: BTreeMap<&'static str, String>,
    /// Events one transaction imports, at most.
    import_batch: usize,
    status: watch::Sender<RelayStatus>,
}

/// The relay's last status, for metrics and operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// What it does now.
    pub state: RelayState,
    /// The stream's last sequence; `None` before the first contact.
    pub stream_head: Option<u64>,
    /// What the last contact found; `None` before the first.
    pub case: Option<Case>,
    /// What the broker refused or failed to do, while publishing goes on.
    pub trouble: Option<String>,
    /// Bytes that the stream holds and may hold; `None` before the first contact, or when it has no limit.
    pub stream_bytes: Option<(u64, u64)>,
}

impl RelayStatus {
    /// The broker will soon refuse new events: the stream has taken four fifths of its room.
    pub fn is_nearly_full(&self) -> bool {
        let nearly = |(used, limit): (u64, u64)| used >= limit / 5 * 4;
        self.stream_bytes.is_some_and(nearly)
    }
}

/// What a relay does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayState {
    /// No session with the broker, and why. Writes go on; the outbox grows.
    Connecting(String),
    /// The broker answers, but stores nothing until it is restarted, and why. Writes go on; the outbox grows.
    Stuck(String),
    /// The stream holds events of this log that this file lacks: the relay imports them, and writes wait.
    Importing,
    /// Events go to the stream as they are committed.
    Publishing,
    /// The stream and this database disagree. Writes are refused until the operator has decided.
    Halted(String),
}

impl Default for RelayState {
    fn default() -> Self {
        Self::Connecting("not connected yet".to_owned())
    }
}

/// A connection to the stream and what the last contact found there.
struct Session<S> {
    stream: S,
    head: Head,
    /// Rows after `head` that were read while the ones before them were on their way.
    ahead: Vec<Record>,
    contact_due: Instant,
    /// What the last contact has left to do; the last one is next.
    chores: Vec<Chore>,
    /// Whether the last step was a publish: then it is a chore's turn, even if rows wait.
    published: bool,
}

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is a session, and what the stream holds is a copy of the outbox.
    Connected,
    /// Published this many events.
    Published(usize),
    /// There was nothing to publish; the stream is as it should be.
    Checked,
    /// The stream and this database disagree: publishing is over.
    Halted,
}

impl<C: Connect<Session: Stream>> Relay<C> {
    /// From here on writes wait until the first step has found that the file is not restored from a backup, or that the
    /// broker is out of reach; for two seconds at most.
    pub fn new(db: &Database, to: C) -> Self {
        db.hold();
        let db = db.with_own_reader(); // the application's reads never make publishing wait
        Self {
            outbox: db.outbox(),
            retention: Keeper::new(&db, Retention::default()),
            db,
            to,
            session: None,
            reached: false,
            open: false,
            scrub: Scrub::default(),
            damaged: false,
            troubles: BTreeMap::new(),
            import_batch: recover::IMPORT_BATCH,
            status: watch::Sender::default(),
        }
    }

    /// Its state, followed as it changes: for metrics and readiness.
    pub fn status(&self) -> watch::Receiver<RelayStatus> {
        self.status.subscribe()
    }

    /// Removes old events from stream and outbox. Without this the relay removes none.
    #[must_use]
    pub fn keep(mut self, retention: Retention) -> Self {
        self.retention = Keeper::new(&self.db, retention);
        self
    }

    /// Imports events one by one, so that a test can look between them.
    #[cfg(feature = "testing")]
    pub fn import_one_by_one(&mut self) {
        self.import_batch = 1;
    }

    /// Lets the next step look at the stream, even if rows wait, so that a test need not wait for the timer.
    #[cfg(feature = "testing")]
    pub fn look_next(&mut self) {
        if let Some(session) = &mut self.session {
            session.contact_due = Instant::now();
        }
    }

    /// Publishes until stopped, and then finishes what is in flight. An error means that trying again cannot help (a wrong
    /// password, a broker too old) and that the process should end.
    ///
    /// # Errors
    ///
    /// [`Fatal`]: the broker refuses the account, is too old, or lacks what the relay needs. Lost connections are retried; a
    /// disagreement with the stream halts writes and is no error.
    pub async fn run(mut self, stop: Stop) -> Result<(), Fatal> {
        let mut backoff = Backoff::new();
        loop {
            match self.step_until(&stop).await {
                None => return Ok(()),
                Some(Ok(Step::Halted)) => {
                    stop.cancelled().await;
                    return Ok(());
                }
                Some(Ok(Step::Connected)) => {} // no success yet: what failed before may fail again
                Some(Ok(Step::Published(_) | Step::Checked)) => backoff.reset(),
                Some(Err(error)) => {
                    self.report(&error)?;
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = backoff.wait() => {}
                    }
                }
            }
        }
    }

    /// One step: publishes what the outbox holds beyond the stream's head, or looks at the stream again. After an error, or
    /// when its future is dropped, the session is gone; the next step opens a new one.
    ///
    /// # Errors
    ///
    /// [`LogError`] of the broker or of the database; the next step opens a new session.
    pub async fn step(&mut self) -> Result<Step, LogError> {
        let never = Stop::new();
        let step = self.step_until(&never).await;
        step.expect("ends early only when stopped")
    }

    async fn step_until(&mut self, stop: &Stop) -> Option<Result<Step, LogError>> {
        loop {
            return Some(match self.next_work(stop).await? {
                Ok(Work::Tidy) => match stop.run_until_cancelled(Box::pin(self.tidy())).await? {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                // The stop waits for a publish under way: it ends within seconds, one way or the other.
                Ok(Work::Publish(records)) => self.publish(&records).await,
                // Boxed, because connecting takes 16 kB of state that publishing should not carry about.
                Ok(Work::Look) => {
                    let looked = stop.run_until_cancelled(Box::pin(self.contact())).await;
                    self.db.release(); // it ended early: without a broker writes go on
                    looked?
                }
                Err(error) => Err(error),
            });
        }
    }

    /// Waits for something to do: a commit, or the time for the next contact. `None`: stopped.
    async fn next_work(&mut self, stop: &Stop) -> Option<Result<Work, LogError>> {
        let Some(session) = &mut self.session else {
            return (!stop.is_cancelled()).then_some(Ok(Work::Look));
        };
        let wait = session
            .contact_due
            .saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Some(Ok(Work::Look));
        }
        if stop.is_cancelled() {
            return None;
        }
        let rows_wait = self.outbox.committed() > session.head.seq;
        if !session.chores.is_empty() && (!rows_wait || session.published) {
            return Some(Ok(Work::Tidy));
        }
        if !session.ahead.is_empty() {
            let ahead = std::mem::take(&mut session.ahead);
            return Some(Ok(Work::Publish(ahead)));
        }
        let read = self.outbox.read_after(session.head.seq, MAX_ROWS, wait);
        let read = stop.run_until_cancelled(read).await?;
        Some(read.map(|records| match records.is_empty() {
            true => Work::Look,
            false => Work::Publish(records),
        }))
    }

    /// Hands the records to the session, and meanwhile reads what comes after them. The session is kept only after a
    /// success: one that failed, or whose step was dropped, may still have answers on their way.
    async fn publish(&mut self, records: &[Record]) -> Result<Step, LogError> {
        let session = self.session.take();
        let mut session = session.ok_or_else(|| LogError::disconnected("no session"))?;
        let end = session.head.seq + records.len() as u64;
        let (appended, ahead) = tokio::join!(
            session.stream.append_after(&session.head, records),
            self.outbox.read_after(end, MAX_ROWS, Duration::ZERO)
        );
        session.head = appended?;
        session.ahead = ahead?;
        session.published = true;
        self.status.send_modify(|status| {
            status.state = RelayState::Publishing;
            status.stream_head = Some(session.head.seq);
        });
        self.session = Some(session);
        Ok(Step::Published(records.len()))
    }

    /// Looks at the stream, on the present session or on a new one, and does what is necessary before publishing.
    async fn contact(&mut self) -> Result<Step, LogError> {
        let (mut stream, step) = match self.session.take() {
            Some(session) => (session.stream, Step::Checked),
            None => (self.to.connect().await?, Step::Connected),
        };
        let head = self.reconcile(&mut stream).await?;
        self.damaged = false; // once it is halted, the operator decides about this, too
        let Some(head) = head else {
            return Ok(Step::Halted);
        };
        recover::open(&self.db).await?;
        self.open = true;
        self.measure(stream.room());
        // With a backlog, only the first publish shows that publishing works.
        let works = step == Step::Checked || head.seq == self.outbox.committed();
        self.status.send_modify(|status| {
            status.stream_head = Some(head.seq);
            if works {
                status.state = RelayState::Publishing;
            }
        });
        self.session = Some(Session {
            stream,
            head,
            ahead: Vec::new(),
            contact_due: Instant::now() + CONTACT_EVERY,
            chores: self.chores(&step),
            published: false,
        });
        Ok(step)
    }

    /// Acts on what it sees until the stream is a copy of the outbox, up to the head it answers. `None`: halted.
    async fn reconcile(&mut self, stream: &mut C::Session) -> Result<Option<Head>, LogError> {
        let mut first_contact = !self.open;
        loop {
            if first_contact {
                recover::hold(&self.db).await?;
            }
            let seen = contact::look(&self.outbox, stream).await?;
            self.reached = true;
            let mut case = seen.case(first_contact);
            if self.damaged && case.action() == Action::Publish {
                case = Case::Holed;
            }
            self.status.send_modify(|status| status.case = Some(case));
            match (case.action(), &seen.theirs) {
                (Action::Publish, Some(theirs)) => return Ok(Some(theirs.head.clone())),
                (Action::TakeOver, Some(theirs)) => {
                    recover::take_over(&self.db, theirs.head.origin.clone()).await?;
                }
                (Action::Import, Some(theirs)) => {
                    match self.import(stream, &seen.own, &theirs.head).await {
                        // Any event the stream gains afterwards came from another process.
                        Ok(imported) => first_contact &= !imported,
                        Err(LogError::Refused(why)) => return self.halt_unfit(why).await,
                        Err(error) => return Err(error),
                    }
                }
                (Action::Halt, _) => return Ok(self.halt(&seen.halt_reason(case)).await),
                (Action::Replace(why), Some(theirs)) => {
                    self.replace(stream, &seen.own, &theirs.head, why).await?;
                    return self.create(stream, &seen.own).await.map(Some);
                }
                (Action::Create, _) | (_, None) => {
                    self.alarm_if_all_is_gone(&seen.own).await?;
                    return self.create(stream, &seen.own).await.map(Some);
                }
            }
        }
    }

    async fn import(
        &self,
        stream: &mut C::Session,
        own: &Own,
        theirs: &Head,
    ) -> Result<bool, LogError> {
        let (name, from, to) = (self.to.stream(), own.ends.seq, theirs.seq);
        match own.identity.must_import.is_some() {
            true => tracing::warn!(
                stream = name,
                from,
                to,
                "this file is older than its stream: importing what it lacks"
            ),
            // Nothing showed that the file was restored. Either that went unnoticed, or another process publishes.
            false => tracing::error!(
                stream = name,
                from,
                to,
                "ALARM: the stream holds events of this log that this file never had: importing them; make sure that no second instance runs"
            ),
        }
        self.status.send_modify(|status| {
            status.state = RelayState::Importing;
            status.stream_head = Some(to);
        });
        recover::import(&self.db, stream, from, theirs, self.import_batch).await
    }

    async fn replace(
        &self,
        stream: &mut C::Session,
        own: &Own,
        theirs: &Head,
        why: &str,
    ) -> Result<(), LogError> {
        let name = self.to.stream();
        tracing::error!(
            stream = name,
            why,
            "the stream is no copy of the outbox any more: recreating it"
        );
        recover::replace(&self.db, stream, theirs, own.ends.origin.epoch, why).await
    }

    async fn alarm_if_all_is_gone(&self, own: &Own) -> Result<(), LogError> {
        if !own.identity.successor {
            return Ok(());
        }
        let stream = self.to.stream();
        tracing::error!(stream, "ALARM: the database was gone, and so is its stream");
        let detail =
            "this database and its stream are both new; what the one before held is in neither";
        recover::audit(&self.db, "ALARM: all is gone", detail.to_owned()).await
    }

    async fn create(&self, stream: &mut C::Session, own: &Own) -> Result<Head, LogError> {
        let (name, first) = (self.to.stream(), own.ends.first);
        match self.outbox.committed() {
            0 => tracing::info!(stream = name, "creating the stream"),
            _ => tracing::warn!(
                stream = name,
                first,
                "creating the stream and filling it from the outbox"
            ),
        }
        let incarnation = self.db.environment().draw_word();
        stream.create(first, &own.ends.origin, &incarnation).await
    }

    /// The stream's events cannot be imported: from now on the operator may decide against them.
    async fn halt_unfit(&self, why: String) -> Result<Option<Head>, LogError> {
        let reason = format!(
            "its events cannot be imported into this file: {why}; if that cannot be mended, decide with new-epoch: it keeps this file's log and quarantines what only the stream holds"
        );
        recover::transact(&self.db, move |tx| database::set_unfit(tx, &why)).await?;
        Ok(self.halt(&reason).await)
    }

    async fn halt(&self, why: &str) -> Option<Head> {
        let reason = format!("stream {}: {why}", self.to.stream());
        tracing::error!(%reason, "publishing and writing are halted");
        self.db.halt(&reason);
        // After a restart the file takes no writes either, until it has met its stream again.
        let mark = format!("it had halted: {reason}");
        let marked = recover::transact(&self.db, move |tx| database::mark(tx, tx.now_ms(), &mark));
        if let Err(error) = marked.await {
            tracing::error!(error = %chain(&error), "the halt is not recorded in the database file");
        }
        self.status
            .send_modify(|status| status.state = RelayState::Halted(reason));
        None
    }

    /// Reports once what is wrong. `Fatal`: trying again cannot help.
    fn report(&self, error: &LogError) -> Result<(), Fatal> {
        let line = chain(error);
        let state = match error {
            LogError::Misconfigured(_) if !self.reached => return Err(Fatal(line)),
            LogError::Stuck(_) => RelayState::Stuck(line.clone()),
            _ => RelayState::Connecting(line.clone()),
        };
        let (stream, error) = (self.to.stream(), &line);
        let is_new = self.status.send_if_modified(|status| {
            std::mem::replace(&mut status.state, state.clone()) != state
        });
        if !is_new {
            return Ok(());
        }
        let writes = match self.db.gate().reason() {
            None => "they go on and wait in the outbox".to_owned(),
            Some(why) => format!("refused until this file has met its stream: {why}"),
        };
        match state {
            RelayState::Stuck(_) => tracing::error!(
                stream,
                error,
                writes,
                "ALARM: nothing is published until the broker is restarted"
            ),
            _ => tracing::warn!(stream, error, writes, "not publishing"),
        }
        Ok(())
    }
}

/// What a step found to do.
enum Work {
    Publish(Vec<Record>),
    Look,
    Tidy,
}
