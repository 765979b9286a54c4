//! The relay: copies the tail of the outbox onto the stream, at the same numbers.
//!
//! Its position comes from the stream, never from memory: a *contact* reads the stream's head and compares the
//! event there with the outbox's row of that number. A contact opens every session, follows every refused publish,
//! and is repeated on a timer even when there is nothing to publish.

mod contact;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::Stop;
use crate::backoff::Backoff;
use crate::database::Database;
use crate::error::{Fatal, LogError, chain};
use crate::log::{AppendLog, Connect, Head, Log, Record, Stream};
use crate::outbox::Outbox;
use contact::{Halt, Verdict};

/// Rows one step takes from the outbox, at most: enough to keep several batches on their way all the time.
const MAX_ROWS: usize = 16_000;
/// How often the stream is looked at even when there is nothing to publish.
const CONTACT_EVERY: Duration = Duration::from_secs(2);

/// Publishes one database's outbox. There is one relay to a database; the broker refuses a second.
pub struct Relay<C: Connect> {
    db: Database,
    outbox: Outbox,
    to: C,
    session: Option<Session<C::Session>>,
    /// Whether this process has ever seen its stream.
    met: bool,
    status: watch::Sender<RelayStatus>,
}

/// What the relay last knew, for metrics and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayStatus {
    pub state: RelayState,
    /// The stream's last place; `None` before the first contact.
    pub stream_head: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayState {
    /// No session with the broker, and why. Writes go on; the outbox grows.
    Connecting(String),
    Publishing,
    /// The stream and this database disagree. Writes are refused until a person has decided.
    Halted(String),
}

/// A connection to the stream and what the last contact found there.
struct Session<S> {
    stream: S,
    head: Head,
    /// Rows after `head` that were read while the ones before them were on their way.
    ahead: Vec<Record>,
    contact_due: Instant,
}

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is a session, and the stream is a copy of the outbox as far as it goes.
    Connected,
    /// So many events were published.
    Published(usize),
    /// There was nothing to publish; the stream is as it should be.
    Checked,
    /// The stream and this database disagree: publishing is over.
    Halted,
}

impl<C> Relay<C>
where
    C: Connect,
    C::Session: Stream,
{
    pub fn new(db: &Database, to: C) -> Self {
        let connecting = RelayState::Connecting("not connected yet".to_owned());
        Self {
            db: db.clone(),
            outbox: db.outbox(),
            to,
            session: None,
            met: false,
            status: watch::Sender::new(RelayStatus {
                state: connecting,
                stream_head: None,
            }),
        }
    }

    pub fn status(&self) -> watch::Receiver<RelayStatus> {
        self.status.subscribe()
    }

    /// Publishes until stopped. What is in flight at the stop is finished. An error means that trying again cannot
    /// help (a wrong password, a broker too old) and that the process should end.
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
                    self.complain(error)?;
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = backoff.wait() => {}
                    }
                }
            }
        }
    }

    /// One step: whatever is in the outbox beyond the stream's head goes out, or the stream is looked at again.
    /// After an error of the stream, or when it is given up, the session is gone; the next step makes a new one.
    pub async fn step(&mut self) -> Result<Step, LogError> {
        let never = Stop::new();
        let step = self.step_until(&never).await;
        step.expect("ends early only when stopped")
    }

    async fn step_until(&mut self, stop: &Stop) -> Option<Result<Step, LogError>> {
        Some(match self.next_work(stop).await? {
            // A publish under way at the stop is waited for: it ends within seconds, one way or the other.
            Ok(Work::Publish(records)) => self.publish(&records).await,
            // Boxed, because connecting takes 16 kB of state that publishing should not carry about.
            Ok(Work::Look) => stop.run_until_cancelled(Box::pin(self.contact())).await?,
            Err(error) => Err(error),
        })
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

    /// Hands the records to the session, and meanwhile reads what comes after them. The session comes back only after
    /// a success: one that failed, or whose step was given up, may still have answers on their way.
    async fn publish(&mut self, records: &[Record]) -> Result<Step, LogError> {
        let session = self.session.take();
        let mut session = session.ok_or_else(|| LogError::lost("no session"))?;
        let end = session.head.seq + records.len() as u64;
        let (appended, ahead) = tokio::join!(
            session.stream.append_after(&session.head, records),
            self.outbox.read_after(end, MAX_ROWS, Duration::ZERO)
        );
        session.head = appended?;
        session.ahead = ahead?;
        self.status.send_replace(RelayStatus {
            state: RelayState::Publishing,
            stream_head: Some(session.head.seq),
        });
        self.session = Some(session);
        Ok(Step::Published(records.len()))
    }

    /// Looks at the stream, on the session there is or on a new one, and decides.
    async fn contact(&mut self) -> Result<Step, LogError> {
        let (mut stream, step) = match self.session.take() {
            Some(session) => (session.stream, Step::Checked),
            None => (self.to.connect().await?, Step::Connected),
        };
        let verdict = contact::look(&self.outbox, &mut stream).await?;
        self.met = true;
        let head = match verdict {
            Verdict::Publish(head) => head,
            Verdict::Create { first } => self.create(&mut stream, first).await?,
            Verdict::Halt(halt) => return Ok(self.halt(&halt)),
        };
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
        });
        Ok(step)
    }

    async fn create(&self, stream: &mut C::Session, first: u64) -> Result<Head, LogError> {
        let stream_name = self.to.stream();
        match self.outbox.committed() {
            0 => tracing::info!(stream = stream_name, "making the stream"),
            _ => tracing::warn!(
                stream = stream_name,
                first,
                "the stream does not exist: making it and filling it from the outbox"
            ),
        }
        stream.create(first, &self.db.identity().origin).await
    }

    fn halt(&self, halt: &Halt) -> Step {
        let reason = format!("stream {}: {halt}", self.to.stream());
        tracing::error!(%reason, "publishing and writing are halted");
        self.db.halt(&reason);
        self.status
            .send_modify(|status| status.state = RelayState::Halted(reason));
        Step::Halted
    }

    /// Says once what is wrong, and whether to go on trying.
    fn complain(&mut self, error: LogError) -> Result<(), Fatal> {
        let line = chain(&error);
        if matches!(error, LogError::Misconfigured(_)) && !self.met {
            return Err(Fatal(line));
        }
        let state = RelayState::Connecting(line.clone());
        let news = self.status.borrow().state != state;
        if news {
            tracing::warn!(stream = self.to.stream(), error = %line, "not publishing; writes go on and wait in the outbox");
            self.status.send_modify(|status| status.state = state);
        }
        Ok(())
    }
}

/// What a step found to do.
enum Work {
    Publish(Vec<Record>),
    Look,
}
