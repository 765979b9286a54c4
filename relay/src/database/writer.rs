//! The writer: takes all the work that waits, runs each piece in a savepoint of one transaction, commits once,
//! then answers every caller. One disk flush pays for many writes.

use std::convert::Infallible;
use std::fs::File;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::disk::{self, Disk};
use super::head;
use super::lock::Ownership;
use super::readers::Readers;
use super::threaded::Threaded;
use super::{Context, DiskHealth, Gate, OnDiskFailure, Options, Tx};
use crate::error::WriteError;
use crate::panics::message;

/// How often the writer looks at the file and its WAL, also when nothing is written.
const TEND_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
    max_wait: Duration,
    disk: watch::Receiver<DiskHealth>,
    closing: CancellationToken,
    task: TaskTracker,
}

impl Writer {
    pub(super) fn start(of: Owned, options: &Options) -> Self {
        let (queue, waiting) = mpsc::channel(options.max_queue.max(1));
        let (closing, task) = (CancellationToken::new(), TaskTracker::new());
        let disk = of.thread.disk.health();
        task.spawn(of.run(waiting, options.max_group.max(1), closing.clone()));
        task.close();
        Self {
            queue,
            max_wait: options.max_wait,
            disk,
            closing,
            task,
        }
    }

    pub(super) async fn write<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>> {
        let (reply, answer) = oneshot::channel();
        match self
            .queue
            .send_timeout(job(work, reply), self.max_wait)
            .await
        {
            // Without an answer the writer's thread was lost, and what it was doing with it.
            Ok(()) => answer.await.unwrap_or(Err(WriteError::Unknown)),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                Err(WriteError::Busy(self.why_busy()))
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(WriteError::Closed),
        }
    }

    fn why_busy(&self) -> String {
        let locked = self.disk.borrow().locked.clone();
        locked.unwrap_or_else(|| "too many writes are waiting".to_owned())
    }

    /// Finishes what waits in the queue and closes every connection.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.task.wait().await;
    }
}

/// What the loop owns, until the file is closed.
pub(super) struct Owned {
    pub(super) connection: Threaded,
    /// Closed before the connection: the last one to close takes the WAL in and deletes it.
    pub(super) readers: Arc<Readers>,
    /// Closed after the connection: see [`disk::reserve_index`].
    pub(super) index: Arc<File>,
    /// Given back only when nothing can be read or written any more.
    pub(super) ownership: Arc<Ownership>,
    pub(super) thread: Arc<Thread>,
}

impl Owned {
    async fn run(
        self,
        mut waiting: mpsc::Receiver<Job>,
        max_group: usize,
        closing: CancellationToken,
    ) {
        let (tend, _until_dropped) = now_and_then();
        loop {
            let mut group = Vec::new();
            let taken = tokio::select! {
                () = closing.cancelled(), if !waiting.is_closed() => {
                    waiting.close(); // what is in the queue is still done
                    continue;
                }
                taken = waiting.recv_many(&mut group, max_group) => Some(taken),
                () = tend.notified() => None,
            };
            let went = match taken {
                Some(0) => break,
                Some(_) => {
                    self.on_thread(|thread, rows| thread.commit(rows, group))
                        .await
                }
                None => self.on_thread(|thread, rows| thread.tend(rows)).await,
            };
            if went.is_break() {
                break;
            }
        }
        waiting.close();
        // After a failure. These must not wait for the reads that are under way.
        while let Some(job) = waiting.recv().await {
            let (_never, answer) = job(None);
            answer(&Ok(()));
        }
        let all_closed = self.readers.close().await;
        if let Err(error) = self.connection.close().await {
            tracing::error!(%error, "the database did not close cleanly");
        }
        if !all_closed {
            std::mem::forget(self.index); // it stays open for the read that goes on
        }
        disk::keep_room(self.ownership.path());
        self.ownership.release();
    }

    /// Every job's panics are caught on the writer's thread, so the thread is gone only after a fault of ours; without it the
    /// service would refuse every write for ever.
    async fn on_thread(
        &self,
        work: impl FnOnce(&Thread, &Connection) -> ControlFlow<()> + Send + 'static,
    ) -> ControlFlow<()> {
        let thread = self.thread.clone();
        let work = move |rows: &mut Connection| work(&thread, rows);
        match self.connection.call(work).await {
            Ok(went) => went,
            Err(error) => {
                let why = "the writer's thread is gone";
                tracing::error!(%error, "{why}");
                self.thread.gate.send_replace(Gate::Halted(why.to_owned()));
                self.thread.on_disk_failure.call(why);
                ControlFlow::Break(())
            }
        }
    }
}

/// Notifies by the machine's own clock, whatever the runtime's says, until the sender is dropped.
fn now_and_then() -> (Arc<Notify>, std::sync::mpsc::Sender<Infallible>) {
    let (alive, until) = std::sync::mpsc::channel();
    let tend = Arc::new(Notify::new());
    let wake = tend.clone();
    std::thread::spawn(move || {
        while until.recv_timeout(TEND_EVERY) == Err(RecvTimeoutError::Timeout) {
            wake.notify_one();
        }
    });
    (tend, alive)
}

/// What the writer's thread works with.
pub(super) struct Thread {
    pub(super) context: Arc<Context>,
    pub(super) announce: watch::Sender<u64>,
    pub(super) gate: watch::Sender<Gate>,
    pub(super) disk: Disk,
    pub(super) on_disk_failure: OnDiskFailure,
}

impl Thread {
    /// One transaction for the whole group; afterwards every caller has an answer.
    fn commit(&self, rows: &Connection, group: Vec<Job>) -> ControlFlow<()> {
        let mut jobs = group.into_iter();
        let mut answers = Vec::with_capacity(jobs.len());
        let ended = match self.disk.displaced() {
            Some(why) => Err(CommitError::Displaced(why)),
            None => (self.disk.renew_nonce(rows))
                .and_then(|()| transact(rows, &self.context, &mut jobs, &mut answers))
                .map_err(|error| self.why_not_committed(error)),
        };
        let went = match &ended {
            Ok(head) => {
                self.disk.committed();
                // Before the answers, so that the relay is already under way when the callers go on.
                self.announce
                    .send_if_modified(|known| std::mem::replace(known, *head) != *head);
                ControlFlow::Continue(())
            }
            Err(CommitError::Unknown(why)) => self.fail(rows, why),
            Err(_) => ControlFlow::Continue(()),
        };
        let ended = ended.map(drop);
        answers.extend(jobs.map(|never_run| never_run(None).1));
        for answer in answers {
            answer(&ended);
        }
        went
    }

    fn why_not_committed(&self, error: rusqlite::Error) -> CommitError {
        match self.disk.filled(&error) {
            true => CommitError::Full,
            false => CommitError::of(&error, || self.disk.locked(self.context.environment.now())),
        }
    }

    fn tend(&self, rows: &Connection) -> ControlFlow<()> {
        self.disk.tend(rows);
        ControlFlow::Continue(())
    }

    /// After a failed flush or write it is unknown what is on the disk: the commit may be there or not, and a second flush on
    /// the same handle would lie (it succeeds without writing). So nothing more is written before the file is read again.
    fn fail(&self, rows: &Connection, why: &str) -> ControlFlow<()> {
        tracing::error!(error = %why, "the disk failed under a commit; its outcome is unknown until the file is opened again");
        let halted = format!("the disk failed under a commit: {why}");
        self.gate.send_replace(Gate::Halted(halted));
        // Best effort: closing, too, should write nothing.
        let _ = rows.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        self.on_disk_failure.call(why);
        ControlFlow::Break(())
    }
}

/// Begins, runs every job, commits; answers the outbox's head.
fn transact(
    rows: &Connection,
    context: &Context,
    jobs: &mut impl Iterator<Item = Job>,
    answers: &mut Vec<Answer>,
) -> rusqlite::Result<u64> {
    let tx = Tx::new(rows, context);
    let began = tx.command("begin immediate");
    let end = began.and_then(|()| {
        for job in jobs {
            run_in_savepoint(&tx, job, answers)?;
        }
        let head = head::seq(rows)?;
        tx.command("commit")?;
        Ok(head)
    });
    if end.is_err() && !rows.is_autocommit() {
        // After a rollback nothing of the group is stored; should it fail, the next `begin` says so.
        let _ = tx.command("rollback");
    }
    end
}

/// A job that fails or panics is rolled back alone. An error here ends the whole group.
fn run_in_savepoint(tx: &Tx<'_>, job: Job, answers: &mut Vec<Answer>) -> rusqlite::Result<()> {
    let begun = tx.command("savepoint job");
    let (kept, answer) = job(begun.is_ok().then_some(tx));
    answers.push(answer);
    begun?;
    tx.still_open()?;
    if !kept {
        tx.command("rollback to job")?;
    }
    tx.command("release job")
}

/// Why a group was not committed.
enum CommitError {
    /// Another program holds the file's write lock, longer than SQLite waits.
    Busy(String),
    Full,
    /// The file at the path is another one.
    Displaced(String),
    /// The disk failed: it may be stored or not.
    Unknown(String),
    Failed(String),
}

impl CommitError {
    fn of(error: &rusqlite::Error, locked: impl FnOnce() -> String) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(locked()),
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure) => Self::Unknown(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A piece of work whose types the queue has forgotten. Given the transaction it does the work and says whether to keep it;
/// without one it never will. What it leaves is the answer to its caller.
type Job = Box<dyn FnOnce(Option<&Tx<'_>>) -> (bool, Answer) + Send>;
/// Given how the group ended.
type Answer = Box<dyn FnOnce(&Result<(), CommitError>) + Send>;

fn job<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    reply: oneshot::Sender<Result<T, WriteError<E>>>,
) -> Job {
    Box::new(move |tx| {
        let result = tx.map(|tx| match catch_unwind(AssertUnwindSafe(|| work(tx))) {
            Ok(result) => result.map_err(WriteError::Work),
            Err(panic) => Err(WriteError::Panicked(message(&*panic))),
        });
        let kept = matches!(result, Some(Ok(_)));
        let answer = move |ended: &Result<(), CommitError>| {
            // A caller that went away is no error: the write happened or not, as it would have with the caller here.
            let _ = reply.send(match ended {
                Ok(()) => result.unwrap_or(Err(WriteError::Closed)),
                Err(why) => Err(why.into()),
            });
        };
        (kept, Box::new(answer))
    })
}

impl<E> From<&CommitError> for WriteError<E> {
    fn from(why: &CommitError) -> Self {
        match why {
            CommitError::Busy(why) => Self::Busy(why.clone()),
            CommitError::Full => Self::Full,
            CommitError::Displaced(why) => Self::Halted(why.clone()),
            CommitError::Unknown(_) => Self::Unknown,
            CommitError::Failed(detail) => Self::Failed(detail.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_flush_is_unknown_and_a_full_disk_is_not() {
        let of = |code| {
            let error = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            matches!(
                CommitError::of(&error, String::new),
                CommitError::Unknown(_)
            )
        };
        assert!(of(rusqlite::ffi::SQLITE_IOERR_FSYNC));
        assert!(of(rusqlite::ffi::SQLITE_IOERR_WRITE));
        assert!(!of(rusqlite::ffi::SQLITE_FULL));
        assert!(!of(rusqlite::ffi::SQLITE_BUSY));
    }
}
