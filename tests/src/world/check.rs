//! The final check: each outbox and its stream are the same log, and there are no dead letters.

use std::fmt;
use std::path::Path;

use super::{Members, World};
use crate::eventually::{seconds, within};
use crate::observer::{Observer, StoredEvent};
use crate::outbox;
use crate::part::Part;

/// The fault, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disorder(String);

/// A relay that lost its broker reconnects after a pause, and a refill takes time on a busy machine.
const CATCH_UP: std::time::Duration = seconds(60);
const EVERYBODY: Members = Members {
    broker: true,
    user_service: true,
    orders_service: true,
};

impl World {
    /// Starts the parts that the test left stopped (only running parts can agree), waits until every stream has caught up with its
    /// outbox, then compares count, sequences, subjects and bytes of every event, and looks for dead letters.
    pub async fn find_disorder(&mut self) -> Result<(), Disorder> {
        self.start_what_is_down().await?;
        if self.members.broker && self.members.user_service {
            self.agree("USERS", &self.user_service.database).await?;
        }
        if self.members.broker && self.members.orders_service {
            self.agree("ORDERS", &self.orders_service.database).await?;
        }
        if self.members == EVERYBODY {
            within(CATCH_UP, || cache_caught_up(self))
                .await
                .map_err(Disorder)?;
        }
        self.no_dead_letters()
    }

    /// A paused part counts as running; resuming one that is not paused changes nothing.
    async fn start_what_is_down(&mut self) -> Result<(), Disorder> {
        if self.members.broker {
            self.broker.resume();
            self.broker.start().await.map_err(Disorder::from)?;
        }
        if self.members.user_service {
            self.user_service.resume();
            self.user_service.start().await.map_err(Disorder::from)?;
        }
        if self.members.orders_service {
            self.orders_service.resume();
            self.orders_service.start().await.map_err(Disorder::from)?;
        }
        Ok(())
    }

    async fn agree(&self, stream: &str, database: &Path) -> Result<(), Disorder> {
        let observer = self.observer();
        let caught_up = within(CATCH_UP, || caught_up(&observer, stream, database));
        caught_up.await.map_err(Disorder)?;
        let mut outbox = outbox::read_all(database).map_err(Disorder::from)?;
        // A service that has not emitted anything may not have created its stream yet.
        let kept = if outbox.is_empty() {
            vec![]
        } else {
            observer.read_all(stream).await.map_err(Disorder::from)?
        };
        if self.trimmed_streams_expected {
            outbox.retain(|event| kept.first().is_none_or(|first| event.seq >= first.seq));
        }
        compare(stream, &outbox, &kept)
    }

    fn no_dead_letters(&self) -> Result<(), Disorder> {
        if self.dead_letters_expected {
            return Ok(());
        }
        let services = [
            (self.members.user_service, &self.user_service),
            (self.members.orders_service, &self.orders_service),
        ];
        for (_, service) in services.into_iter().filter(|(member, _)| *member) {
            let letters = outbox::dead_letters(&service.database).map_err(Disorder::from)?;
            if !letters.is_empty() {
                return Err(Disorder(format!(
                    "{} has dead letters:\n  {}",
                    service.name(),
                    letters.join("\n  ")
                )));
            }
        }
        Ok(())
    }
}

/// An event that is still to be applied could become a dead letter.
async fn cache_caught_up(world: &World) -> Result<(), String> {
    let asked = |error: anyhow::Error| format!("{error:#}");
    let head = outbox::head(&world.user_service.database).map_err(asked)?;
    let offset =
        outbox::offset(&world.orders_service.database, "orders-user-cache").map_err(asked)?;
    match offset == head {
        true => Ok(()),
        false => Err(format!(
            "USERS has {head} events and orders-service has applied {offset}"
        )),
    }
}

async fn caught_up(observer: &Observer, stream: &str, database: &Path) -> Result<(), String> {
    let outbox_head = outbox::head(database).map_err(|error| format!("{error:#}"))?;
    if outbox_head == 0 {
        return Ok(());
    }
    let info = observer
        .stream_info(stream)
        .await
        .map_err(|error| format!("{error:#}"))?;
    match info.last_seq == outbox_head {
        true => Ok(()),
        false => Err(format!(
            "the outbox has {outbox_head} events and stream {stream} ends at {}",
            info.last_seq
        )),
    }
}

/// The same events with the same sequences. The first difference is enough: later events differ, too.
fn compare(stream: &str, outbox: &[StoredEvent], kept: &[StoredEvent]) -> Result<(), Disorder> {
    let different = outbox
        .iter()
        .zip(kept)
        .find(|(ours, theirs)| ours != theirs);
    if let Some((ours, theirs)) = different {
        return Err(Disorder(format!(
            "{stream}: the outbox has {}, the stream has {}",
            show(ours),
            show(theirs)
        )));
    }
    if outbox.len() != kept.len() {
        return Err(Disorder(format!(
            "{stream}: {} events in the outbox, {} in the stream",
            outbox.len(),
            kept.len()
        )));
    }
    Ok(())
}

fn show(event: &StoredEvent) -> String {
    format!(
        "{} {} {}",
        event.seq,
        event.subject,
        String::from_utf8_lossy(&event.bytes)
    )
}

impl Disorder {
    pub(super) fn new(text: &str) -> Disorder {
        Disorder(text.to_owned())
    }
}

impl fmt::Display for Disorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Disorder {
    fn from(error: E) -> Disorder {
        Disorder(format!("{:#}", error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, bytes: &str) -> StoredEvent {
        StoredEvent {
            seq,
            subject: "users.created".to_owned(),
            bytes: bytes.into(),
        }
    }

    #[test]
    fn equal_logs_agree() {
        assert_eq!(
            compare(
                "USERS",
                &[event(1, "a"), event(2, "b")],
                &[event(1, "a"), event(2, "b")]
            ),
            Ok(())
        );
        assert_eq!(compare("USERS", &[], &[]), Ok(()));
    }

    #[test]
    fn different_bytes_sequences_and_missing_ends_are_detected() {
        let wrong = |outbox: &[StoredEvent], kept: &[StoredEvent]| {
            compare("USERS", outbox, kept)
                .expect_err("differs")
                .to_string()
        };
        assert!(
            wrong(&[event(1, "a")], &[event(1, "b")]).contains("the outbox has 1 users.created a")
        );
        assert!(wrong(&[event(1, "a")], &[event(2, "a")]).contains("the stream has 2"));
        assert!(
            wrong(&[event(1, "a"), event(2, "b")], &[event(1, "a")])
                .contains("2 events in the outbox, 1 in the stream")
        );
        assert!(wrong(&[], &[event(1, "a")]).contains("0 events in the outbox, 1 in the stream"));
    }
}
