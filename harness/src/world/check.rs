//! The final check: each outbox and its stream are the same log, every consumer has applied it, and there are no dead letters.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::World;
use crate::eventually::{seconds, within};
use crate::observer::{Observer, StoredEvent};
use crate::outbox;
use crate::part::Part;
use crate::services::Service;

/// The fault, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disorder(String);

/// A stream, with the file of its outbox.
struct Owner {
    stream: String,
    outbox: PathBuf,
    /// The first sequence that readers can still get; 0 if none may be gone.
    first_kept: u64,
}

/// A relay that lost its broker reconnects after a pause, and a refill takes time on a busy machine.
const CATCH_UP: std::time::Duration = seconds(60);

impl World {
    /// [`World::find_disorder`] for a harness that holds its services itself.
    #[doc(hidden)] // For the platform's own World in tests/.
    pub async fn find_disorder_among(
        &mut self,
        services: &mut [&mut Service],
    ) -> Result<(), Disorder> {
        self.start_what_is_down(services).await?;
        if self.has_broker {
            let mut owners = self.owners(services);
            for owner in &mut owners {
                owner.first_kept = self.agree(&owner.stream, &owner.outbox).await?;
            }
            let caught_up = within(CATCH_UP, async || consumers_caught_up(services, &owners));
            caught_up.await.map_err(Disorder)?;
        }
        match self.dead_letters_expected {
            true => Ok(()),
            false => services.iter().try_for_each(|it| no_dead_letters(it)),
        }
    }

    fn owners(&self, services: &[&mut Service]) -> Vec<Owner> {
        let services = services.iter().filter(|it| !it.stream().is_empty());
        let services = services.map(|it| Owner::of(it.stream(), &it.database));
        let played = self.played.iter();
        let played = played.map(|it| Owner::of(it.stream(), it.database()));
        services.chain(played).collect()
    }

    /// A paused part counts as running; resuming one that is not paused changes nothing.
    async fn start_what_is_down(&mut self, services: &mut [&mut Service]) -> Result<(), Disorder> {
        if self.has_broker {
            self.broker.resume();
            self.broker.start().await.map_err(Disorder::from)?;
        }
        for service in services {
            service.resume();
            service.start().await.map_err(Disorder::from)?;
        }
        Ok(())
    }

    /// The first sequence that readers can still get, if the test expects that older ones are gone.
    async fn agree(&self, stream: &str, database: &Path) -> Result<u64, Disorder> {
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
        let first = kept.first().filter(|_| self.trimmed_streams_expected);
        let first = first.map_or(0, |event| event.seq);
        outbox.retain(|event| event.seq >= first);
        compare(stream, &outbox, &kept)?;
        Ok(first)
    }
}

impl Owner {
    fn of(stream: &str, outbox: &Path) -> Owner {
        Owner {
            stream: stream.to_owned(),
            outbox: outbox.to_owned(),
            first_kept: 0,
        }
    }
}

fn no_dead_letters(service: &Service) -> Result<(), Disorder> {
    let letters = outbox::dead_letters(&service.database).map_err(Disorder::from)?;
    match letters.is_empty() {
        true => Ok(()),
        false => Err(Disorder(format!(
            "{} has dead letters:\n  {}",
            service.name(),
            letters.join("\n  ")
        ))),
    }
}

/// An event that is still to be applied could become a dead letter.
fn consumers_caught_up(services: &[&mut Service], owners: &[Owner]) -> Result<(), String> {
    for owner in owners {
        let readers = services.iter().filter(|it| it.follows(&owner.stream));
        for reader in readers {
            applied_all(reader, owner).map_err(|error| format!("{error:#}"))?;
        }
    }
    Ok(())
}

/// A consumer has no offset before its first event. One whose next event is gone waits for an operator, unless it can load a
/// snapshot.
fn applied_all(reader: &Service, owner: &Owner) -> anyhow::Result<()> {
    let (head, name, stream) = (outbox::head(&owner.outbox)?, reader.name(), &owner.stream);
    let offsets = outbox::offsets(&reader.database, stream)?;
    let is_behind = |applied: u64| applied != head && applied + 1 >= owner.first_kept;
    match offsets.iter().find(|(_, applied)| is_behind(*applied)) {
        None if offsets.is_empty() && head > 0 => {
            bail!("{stream} has {head} events and {name} has applied none")
        }
        None => Ok(()),
        Some((consumer, applied)) => {
            bail!("{stream} has {head} events and {consumer} of {name} has applied {applied}")
        }
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
