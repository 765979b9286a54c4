//! Chores: what a contact leaves to do. Each is done in small pieces, while no row waits or between two publishes, so that
//! none delays publishing by more than one piece.

use tokio::time::Instant;

use super::scrub::Scrubbed;
use super::{Relay, Step};
use crate::error::{LogError, chain};
use crate::log::{Connect, Stream};

pub(super) enum Chore {
    /// The stream and the outbox are compared, a little at a time.
    Scrub,
    /// Old events are removed.
    Retention,
    /// A stream that an earlier version created is brought up to date.
    Refresh,
}

// What a failure means. Publishing goes on.
const NOT_REMOVED: &str = "old events are not removed";
const NOT_REFRESHED: &str = "the stream stays as an earlier version made it";

impl<C: Connect<Session: Stream>> Relay<C> {
    /// What is left to do after a contact; the last one is next. On a fresh connection nothing is compared yet: its publishes
    /// prove more.
    pub(super) fn chores(&mut self, contact: &Step) -> Vec<Chore> {
        if *contact != Step::Checked {
            return vec![Chore::Retention, Chore::Refresh];
        }
        self.scrub.begin();
        vec![Chore::Scrub, Chore::Retention, Chore::Refresh]
    }

    /// Does everything that is left, even if rows wait, so that a test need not publish them first.
    ///
    /// # Errors
    ///
    /// [`LogError`] as from [`step`](Self::step).
    #[cfg(feature = "testing")]
    pub async fn finish_chores(&mut self) -> Result<(), LogError> {
        let is_left = |relay: &Self| relay.session.as_ref().is_some_and(|s| !s.chores.is_empty());
        while is_left(self) {
            self.tidy().await?;
        }
        Ok(())
    }

    /// Does a piece of the next chore. The session is kept only if it is still good, as after a publish.
    pub(super) async fn tidy(&mut self) -> Result<(), LogError> {
        let session = self.session.take();
        let mut session = session.ok_or_else(|| LogError::disconnected("no session"))?;
        session.published = false;
        let (stream, head) = (&mut session.stream, &mut session.head);
        match session.chores.pop() {
            Some(Chore::Refresh) => {
                let done = stream.refresh().await;
                self.note(NOT_REFRESHED, done);
            }
            Some(Chore::Retention) => {
                let done = self.retention.step(&self.outbox, stream, head).await;
                if let Ok(true) = done {
                    session.chores.push(Chore::Retention);
                }
                self.note(NOT_REMOVED, done.map(drop));
            }
            Some(Chore::Scrub) => match self.scrub.step(&mut self.outbox, stream, head).await? {
                Scrubbed::More => session.chores.push(Chore::Scrub),
                Scrubbed::Done => {}
                Scrubbed::Differs => {
                    self.damaged = true;
                    session.contact_due = Instant::now();
                }
            },
            None => {}
        }
        self.session = Some(session);
        Ok(())
    }

    /// Reports once what fails, and shows it for as long as it does.
    fn note(&mut self, what: &'static str, done: Result<(), LogError>) {
        let trouble = done.err().map(|error| format!("{what}: {}", chain(&error)));
        let stream = self.to.stream();
        let before = self.troubles.remove(what);
        match (&before, &trouble) {
            (before, trouble) if before == trouble => {}
            (_, Some(trouble)) => tracing::warn!(stream, trouble, "publishing goes on"),
            (before, None) => tracing::info!(stream, before, "this is over"),
        }
        self.troubles.extend(trouble.map(|trouble| (what, trouble)));
        let all: Vec<_> = self.troubles.values().cloned().collect();
        let all = (!all.is_empty()).then(|| all.join("; "));
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.trouble, all.clone()) != all);
    }

    /// Shows how full the stream is.
    pub(super) fn measure(&self, room: Option<(u64, u64)>) {
        let was_full = self.status.borrow().is_nearly_full();
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.stream_bytes, room) != room);
        let is_full = self.status.borrow().is_nearly_full();
        let (stream, (used, limit)) = (self.to.stream(), room.unwrap_or_default());
        if is_full && !was_full {
            tracing::error!(
                stream,
                used,
                limit,
                "ALARM: the stream is nearly full, and a full one takes no events: raise its limit, or let old events go"
            );
        } else if was_full && !is_full {
            tracing::info!(stream, used, limit, "the stream has room again");
        }
    }
}
