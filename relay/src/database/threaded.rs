//! A connection on a thread of its own: SQLite blocks, and a runtime's threads must not.
//!
//! Not tokio-rusqlite, which asks for one minor version of rusqlite: a workspace has one `libsqlite3-sys`, and others ask for theirs.

use std::sync::mpsc::{self, Receiver};
use std::thread;

use rusqlite::Connection;
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

enum Job {
    Run(Work),
    Close(oneshot::Sender<rusqlite::Result<()>>),
}

/// Clones share the connection. It closes after the last of them, or when `work` panics.
#[derive(Clone)]
pub(crate) struct Threaded {
    jobs: mpsc::Sender<Job>,
}

/// The connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
pub(crate) struct Gone;

impl Threaded {
    pub(crate) fn new(rows: Connection) -> Self {
        let (jobs, waiting) = mpsc::channel();
        thread::spawn(move || work(rows, &waiting));
        Self { jobs }
    }

    /// What has begun is done, even if its caller gives up.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        let run = move |rows: &mut Connection| {
            let _caller_is_gone = answer.send(work(rows));
        };
        let sent = self.jobs.send(Job::Run(Box::new(run)));
        sent.map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }

    /// Closes it for every clone, after the work that waits.
    pub(crate) async fn close(self) -> rusqlite::Result<()> {
        let (answer, answered) = oneshot::channel();
        drop(self.jobs.send(Job::Close(answer))); // what is not sent holds `answer`, and would be waited for
        answered.await.unwrap_or(Ok(()))
    }
}

fn work(mut rows: Connection, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Run(work) => work(&mut rows),
            Job::Close(answer) => {
                let _caller_is_gone = answer.send(rows.close().map_err(|(_, error)| error));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_memory() -> Threaded {
        Threaded::new(Connection::open_in_memory().unwrap())
    }

    #[tokio::test]
    async fn work_that_waits_is_done_before_the_connection_closes() {
        let rows = in_memory();
        let count =
            |rows: &mut Connection| rows.query_row("select 7", [], |row| row.get::<_, i64>(0));
        let (first, closed) = tokio::join!(rows.call(count), rows.clone().close());
        assert_eq!((first.unwrap(), closed), (Ok(7), Ok(())));
        assert!(rows.call(count).await.is_err());
        assert_eq!(rows.close().await, Ok(()));
    }

    #[tokio::test]
    async fn after_a_panic_the_connection_is_closed() {
        let rows = in_memory();
        assert!(rows.call(|_| panic!("on purpose")).await.is_err());
        assert!(rows.call(|_| ()).await.is_err());
    }
}
