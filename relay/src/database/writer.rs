//! The writer: takes all the work that waits, runs each piece in a savepoint of one transaction, commits once,
//! then answers everybody. One disk flush pays for many writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::open::Ownership;
use super::{Context, Options, Tx};
use crate::error::WriteError;
use crate::panics::message;

/// The exit code of a process that no longer knows what is on its disk (EX_IOERR of sysexits.h).
const EXIT_STORAGE: i32 = 74;

pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    max_wait: Duration,
    closing: CancellationToken,
    task: TaskTracker,
}

impl Writer {
    pub(super) fn start(
        connection: tokio_rusqlite::Connection,
        ownership: Ownership,
        context: Arc<Context>,
        announce: watch::Sender<u64>,
        options: &Options,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(options.max_queue.max(1));
        let closing = CancellationToken::new();
        let task = TaskTracker::new();
        task.spawn(
            Loop {
                connection,
                ownership,
                context,
                announce,
                waiting,
                max_group: options.max_group.max(1),
            }
            .run(closing.clone()),
        );
        task.close();
        Self {
            queue,
            max_wait: options.max_wait,
            closing,
            task,
        }
    }

    pub(super) async fn write<T, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Work::Waiting { work, reply });
        match self.queue.send_timeout(job, self.max_wait).await {
            Ok(()) => answer.await.unwrap_or(Err(WriteError::Closed)),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(WriteError::Busy),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(WriteError::Closed),
        }
    }

    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.task.wait().await;
    }
}

/// The loop that owns the connection.
struct Loop {
    connection: tokio_rusqlite::Connection,
    /// Given back only when nothing can be written any more.
    ownership: Ownership,
    context: Arc<Context>,
    announce: watch::Sender<u64>,
    waiting: mpsc::Receiver<Box<dyn Job>>,
    max_group: usize,
}

impl Loop {
    async fn run(mut self, closing: CancellationToken) {
        loop {
            let mut group = Vec::new();
            let taken = tokio::select! {
                () = closing.cancelled(), if !self.waiting.is_closed() => {
                    self.waiting.close(); // what is in the queue is still done
                    continue;
                }
                taken = self.waiting.recv_many(&mut group, self.max_group) => taken,
            };
            if taken == 0 {
                break;
            }
            self.commit(group).await;
        }
        if let Err(error) = self.connection.close().await {
            tracing::error!(%error, "the database did not close cleanly");
        }
        self.ownership.release();
    }

    /// Runs one group on the writer's thread. Every job's panics are caught there, so the thread is gone only after a
    /// fault of ours; without it the service would refuse every write for ever, so the process ends instead.
    async fn commit(&self, group: Vec<Box<dyn Job>>) {
        let context = self.context.clone();
        let announce = self.announce.clone();
        let work = move |rows: &mut Connection| commit_group(rows, &context, group, &announce);
        if let Err(error) = self.connection.call_raw(work).await {
            tracing::error!(%error, "the writer's thread is gone, stopping");
            std::process::exit(EXIT_STORAGE);
        }
    }
}

/// One transaction for the whole group; afterwards everybody has an answer.
fn commit_group(
    rows: &Connection,
    context: &Context,
    mut group: Vec<Box<dyn Job>>,
    announce: &watch::Sender<u64>,
) {
    let ended = transact(rows, context, &mut group);
    if let Ok(head) = ended {
        // Before the answers, so that the relay is already under way when the callers go on.
        announce.send_if_modified(|known| std::mem::replace(known, head) != head);
    }
    let ended = ended.map(drop);
    for job in group {
        job.answer(&ended);
    }
}

/// Begins, runs every job, commits; answers the outbox's head.
fn transact(
    rows: &Connection,
    context: &Context,
    group: &mut [Box<dyn Job>],
) -> Result<u64, CommitError> {
    let tx = Tx::new(rows, context);
    let began = tx.command("begin immediate");
    let end = began.and_then(|()| {
        for job in group.iter_mut() {
            run_in_savepoint(&tx, job.as_mut())?;
        }
        let head = crate::outbox::head_seq(rows)?;
        tx.command("commit")?;
        Ok(head)
    });
    end.map_err(|error| {
        stop_if_unknown(&error);
        if !rows.is_autocommit() {
            // After a rollback nothing of the group is stored; should it fail, the next `begin` says so.
            let _ = tx.command("rollback");
        }
        CommitError::from(error)
    })
}

/// A job that fails or panics is rolled back alone. An error here ends the whole group.
fn run_in_savepoint(tx: &Tx<'_>, job: &mut dyn Job) -> Result<(), rusqlite::Error> {
    tx.command("savepoint job")?;
    let kept = job.run(tx);
    tx.still_open()?;
    if !kept {
        tx.command("rollback to job")?;
    }
    tx.command("release job")
}

/// After a failed flush or write nobody knows what is on the disk: the commit may be there or not, and a second
/// flush on the same handle would lie (it succeeds without writing). So the process ends and reads the file again.
fn stop_if_unknown(error: &rusqlite::Error) {
    if is_unknown(error) {
        tracing::error!(%error, "the disk failed under a commit; its outcome is unknown, stopping so that a restart reads what is there");
        std::process::exit(EXIT_STORAGE);
    }
}

fn is_unknown(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

/// Why a group was not committed.
enum CommitError {
    /// Another program holds the file's write lock, longer than SQLite was told to wait.
    Busy,
    Full,
    Failed(String),
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// A piece of work whose types the queue has forgotten.
trait Job: Send {
    /// Does the work. False: undo it.
    fn run(&mut self, tx: &Tx<'_>) -> bool;

    /// Tells the caller, once the group has ended.
    fn answer(self: Box<Self>, ended: &Result<(), CommitError>);
}

/// The life of one piece of work.
enum Work<F, T, E> {
    Waiting {
        work: F,
        reply: Reply<T, E>,
    },
    Done {
        result: Result<T, WriteError<E>>,
        reply: Reply<T, E>,
    },
    Taken,
}

type Reply<T, E> = oneshot::Sender<Result<T, WriteError<E>>>;

impl<F, T, E> Job for Work<F, T, E>
where
    F: FnOnce(&Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let Self::Waiting { work, reply } = std::mem::replace(self, Self::Taken) else {
            return false;
        };
        let result = match catch_unwind(AssertUnwindSafe(|| work(tx))) {
            Ok(result) => result.map_err(WriteError::Work),
            Err(panic) => Err(WriteError::Panicked(message(&*panic))),
        };
        let kept = result.is_ok();
        *self = Self::Done { result, reply };
        kept
    }

    fn answer(self: Box<Self>, ended: &Result<(), CommitError>) {
        // A caller that went away is no error: the write happened or not, as it would have with the caller here.
        let _ = match *self {
            Self::Done { result, reply } => reply.send(match ended {
                Ok(()) => result,
                Err(why) => Err(why.into()),
            }),
            Self::Waiting { reply, .. } => reply.send(Err(match ended {
                Ok(()) => WriteError::Closed,
                Err(why) => why.into(),
            })),
            Self::Taken => return,
        };
    }
}

impl<E> From<&CommitError> for WriteError<E> {
    fn from(why: &CommitError) -> Self {
        match why {
            CommitError::Busy => Self::Busy,
            CommitError::Full => Self::Full,
            CommitError::Failed(detail) => Self::Failed(detail.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_flush_is_unknown_and_a_full_disk_is_not() {
        let of = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        assert!(is_unknown(&of(rusqlite::ffi::SQLITE_IOERR_FSYNC)));
        assert!(is_unknown(&of(rusqlite::ffi::SQLITE_IOERR_WRITE)));
        assert!(!is_unknown(&of(rusqlite::ffi::SQLITE_FULL)));
        assert!(!is_unknown(&of(rusqlite::ffi::SQLITE_BUSY)));
    }
}
