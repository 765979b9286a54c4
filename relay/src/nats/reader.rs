//! A reader's side of another service's stream: its three doors, as the reader's own account imports them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Subscriber;
use futures::StreamExt;
use futures::future::BoxFuture;

use super::import::{Import, api_prefix};
use super::link::Link;
use super::{Api, Nats, direct, head_of};
use crate::error::LogError;
use crate::log::reader::{Doors, Reader};
use crate::log::{Connect, Head, Record};

/// Live copies that may wait in the client; the messages of one direct answer (1000) fit, too. Beyond, the client drops them,
/// and the reader reads them from the stream.
const MAX_WAITING: usize = 16_384;
/// A direct get from here on answers at once that nothing is there, which is all that is asked.
const BEYOND_EVERY_EVENT: u64 = u64::MAX;
/// So often a stream is found longer without one live copy before that is a fault.
const SILENT_LOOKS: u32 = 3;

/// The way of a reader to another service's stream. The stream's owner need not know of it.
#[derive(Clone)]
pub struct NatsReader {
    nats: Nats,
    stream: String,
    /// Whether the log has a line about live copies that do not arrive: one is enough for all connections.
    told_silent: Arc<AtomicBool>,
}

/// One connection of a reader.
pub type ReaderSession = Reader<NatsDoors>;

/// The three doors, on one connection.
pub struct NatsDoors {
    link: Link,
    api: Api,
    stream: String,
    live: Subscriber,
    /// Whether all three were found open.
    checked: bool,
    silence: Silence,
    told_silent: Arc<AtomicBool>,
}

impl NatsReader {
    pub(super) fn new(nats: Nats, stream: &str) -> Self {
        Self {
            nats,
            stream: stream.to_owned(),
            told_silent: Arc::default(),
        }
    }
}

impl Connect for NatsReader {
    type Session = ReaderSession;

    /// Subscribes before anything is read, so that no event falls between reading and listening.
    async fn connect(&self) -> Result<ReaderSession, LogError> {
        let link = self.nats.open(MAX_WAITING).await?;
        let stream = self.stream.clone();
        let live = link.client.subscribe(Import::Live.subject(&stream)).await;
        let live = live.map_err(|error| LogError::lost_because("no live subscription", error))?;
        let unanswered = link.missing_import(Import::Info, &stream);
        Ok(Reader::new(NatsDoors {
            api: Api::new(link.clone(), &api_prefix(&stream), unanswered),
            link,
            stream,
            live,
            checked: false,
            silence: Silence::default(),
            told_silent: self.told_silent.clone(),
        }))
    }

    fn stream(&self) -> &str {
        &self.stream
    }
}

impl Doors for NatsDoors {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let Some(info) = self.api.info(&self.stream).await? else {
            return Ok(None);
        };
        self.check().await?;
        let head = head_of(&info);
        if self.silence.look(head.seq) && !self.told_silent.swap(true, Ordering::Relaxed) {
            self.tell_silent();
        }
        Ok(Some(head))
    }

    fn get(&self, first: u64, limit: usize) -> BoxFuture<'static, Result<Vec<Record>, LogError>> {
        let subject = Import::DirectGet.subject(&self.stream);
        let unanswered = self.link.missing_import(Import::DirectGet, &self.stream);
        let link = self.link.clone();
        Box::pin(direct::read(link, subject, first, limit, unanswered))
    }

    async fn live(&mut self) -> Result<Record, LogError> {
        loop {
            let copy = self.live.next().await;
            let copy = copy.ok_or_else(|| LogError::lost("the connection was cut under a read"))?;
            // Anything else is no copy of an event; the log itself says what is there.
            if let Ok(record) = direct::record(copy) {
                self.silence.broken = true;
                return Ok(record);
            }
        }
    }
}

impl NatsDoors {
    /// Uses each door once, as soon as there is a stream behind it: a missing line of the account file is named at the
    /// start, not when an event comes.
    async fn check(&mut self) -> Result<(), LogError> {
        if !self.checked {
            self.get(BEYOND_EVERY_EVENT, 1).await?;
            self.checked = true;
        }
        // The refusal of a subscription comes beside the answers, and no later than them.
        self.link.check(&Import::Live.subject(&self.stream))
    }

    fn tell_silent(&self) {
        let import = Import::Live.line(&self.stream);
        tracing::warn!(
            stream = self.stream,
            import,
            "the stream grows, and no live copy of it arrives: events are applied up to 2 s late; is this line among the imports of the account file?"
        );
    }
}

/// An import that is missing for live copies shows in nothing but this: the stream grows, and no copy comes.
#[derive(Default)]
struct Silence {
    /// A copy has come.
    broken: bool,
    seen: Option<u64>,
    looks: u32,
}

impl Silence {
    /// Where the stream ends now. Whether it has grown often enough without a copy.
    fn look(&mut self, seq: u64) -> bool {
        let grown = self.seen.replace(seq).is_some_and(|before| seq > before);
        self.looks += u32::from(grown);
        !self.broken && self.looks >= SILENT_LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_grows_without_a_live_copy_is_noticed() {
        let mut silence = Silence::default();
        let looks = [5, 5, 6, 6, 7].map(|seq| silence.look(seq));
        assert_eq!(looks, [false; 5]);
        assert!(silence.look(8));
        silence.broken = true;
        assert!(!silence.look(9));
    }
}
