//! Chores: what a contact leaves to do. Each is done in small pieces, while no row waits or between two publishes, so that
//! none delays publishing by more than one piece.

use std::fmt;

use super::scrub::Scrubbed;
use super::{Relay, RelayStatus, Step};
use crate::error::{LogError, chain};
use crate::log::{Connect, Stream};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chore {
    /// The stream and the outbox are compared, a little at a time.
    Scrub,
    /// Old events are removed.
    Keep,
    /// The stream's size is read.
    Measure,
    /// A stream that an earlier version made is brought up to date.
    Refresh,
}

/// What is said when it fails. Publishing goes on.
impl fmt::Display for Chore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scrub => "the stream is not compared",
            Self::Keep => "old events are not removed",
            Self::Measure => "the stream's size is unknown",
            Self::Refresh => "the stream stays as an earlier version made it",
        })
    }
}

impl<C> Relay<C>
where
    C: Connect,
    C::Session: Stream,
{
    /// What is left to do after a contact, the first last. With a fresh connection nothing is compared yet: its publishes
    /// prove more.
    pub(super) fn chores(&mut self, contact: &Step) -> Vec<Chore> {
        let mut chores = vec![Chore::Keep, Chore::Measure, Chore::Refresh];
        if *contact == Step::Checked {
            self.scrub.begin();
            chores.insert(0, Chore::Scrub);
        }
        chores
    }

    /// Does everything that is left, though rows wait, so that a test need not publish them first.
    #[cfg(feature = "testing")]
    pub async fn finish_chores(&mut self) -> Result<(), LogError> {
        while self
            .session
            .as_ref()
            .is_some_and(|session| !session.chores.is_empty())
        {
            self.tidy().await?;
        }
        Ok(())
    }

    /// Does a piece of the next chore. The session comes back only if it is still good, as after a publish.
    pub(super) async fn tidy(&mut self) -> Result<(), LogError> {
        let session = self.session.take();
        let mut session = session.ok_or_else(|| LogError::lost("no session"))?;
        session.published = false;
        let Some(chore) = session.chores.pop() else {
            self.session = Some(session);
            return Ok(());
        };
        let (stream, head) = (&mut session.stream, &mut session.head);
        match chore {
            Chore::Refresh => {
                let done = stream.refresh().await;
                self.note(chore, done);
            }
            Chore::Measure => {
                let room = stream.room().await;
                let done = room.map(|room| self.measured(room));
                self.note(chore, done);
            }
            Chore::Keep => {
                let kept = self.retention.step(&self.outbox, stream, head).await;
                if let Ok(true) = kept {
                    session.chores.push(chore);
                }
                self.note(chore, kept.map(drop));
            }
            Chore::Scrub => match self.scrub.step(&mut self.outbox, stream, head).await? {
                Scrubbed::More => session.chores.push(chore),
                Scrubbed::Done => {}
                Scrubbed::Differs => {
                    self.damaged = true;
                    session.contact_due = tokio::time::Instant::now();
                }
            },
        }
        self.session = Some(session);
        Ok(())
    }

    /// Says once what fails, and shows it for as long as it does.
    fn note(&mut self, chore: Chore, done: Result<(), LogError>) {
        let trouble = done
            .err()
            .map(|error| format!("{chore}: {}", chain(&error)));
        let before = match &trouble {
            Some(line) => self.troubles.insert(chore, line.clone()),
            None => self.troubles.remove(&chore),
        };
        if before == trouble {
            return;
        }
        match trouble {
            Some(trouble) => {
                tracing::warn!(stream = self.to.stream(), trouble, "publishing goes on")
            }
            None => tracing::info!(stream = self.to.stream(), before, "this is over"),
        }
        let all: Vec<String> = self.troubles.values().cloned().collect();
        let all = (!all.is_empty()).then(|| all.join("; "));
        self.status.send_modify(|status| status.trouble = all);
    }

    fn measured(&self, room: Option<(u64, u64)>) {
        let nearly = |status: &RelayStatus| status.is_nearly_full();
        let before = nearly(&self.status.borrow());
        self.status
            .send_if_modified(|status| std::mem::replace(&mut status.stream_bytes, room) != room);
        let (stream, (used, limit)) = (self.to.stream(), room.unwrap_or_default());
        match (before, nearly(&self.status.borrow())) {
            (false, true) => tracing::error!(
                stream,
                used,
                limit,
                "ALARM: the stream is nearly full, and when it is full nothing more is published: raise its limit, or let old events go"
            ),
            (true, false) => tracing::info!(stream, used, limit, "the stream has room again"),
            _ => {}
        }
    }
}
