//! A reader's side of another service's stream: the three subjects that the reader's own account imports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::Subscriber;
use futures::StreamExt;
use futures::future::BoxFuture;

use super::import::{Import, api_prefix};
use super::{Api, Nats, direct, head_of};
use crate::error::LogError;
use crate::log::reader::{ReadApi, Reader};
use crate::log::{Connect, Head, Record};

/// Live copies that may wait in the client; the messages of one direct answer (1000) fit, too. Beyond, the client drops them,
/// and the reader reads them from the stream.
const MAX_WAITING: usize = 16_384;
/// A direct get from here on answers at once that nothing is there, which is all that is asked.
const BEYOND_EVERY_EVENT: u64 = u64::MAX;
/// So often a stream is found longer without one live copy before that is a fault.
const SILENT_LOOKS: u32 = 3;

/// How a reader connects to another service's stream. The stream's owner need not know of it.
#[derive(Clone)]
pub struct NatsReader {
    pub(super) nats: Nats,
    pub(super) stream: String,
    /// Whether the log has a line about live copies that do not arrive: one is enough for all connections.
    pub(super) told_silent: Arc<AtomicBool>,
}

/// One connection of a reader.
pub type ReaderSession = Reader<NatsReadApi>;

/// What the account imports, on one connection.
pub struct NatsReadApi {
    api: Api,
    live: Subscriber,
    /// Whether all three imports work.
    checked: bool,
    silence: Silence,
    told_silent: Arc<AtomicBool>,
}

impl Connect for NatsReader {
    type Session = ReaderSession;

    /// Subscribes before anything is read, so that no event falls between reading and listening.
    async fn connect(&self) -> Result<ReaderSession, LogError> {
        let (link, stream) = (self.nats.open(MAX_WAITING).await?, &self.stream);
        let live = link.subscribe(Import::Live.subject(stream)).await?;
        let unanswered = link.missing_import(Import::Info, stream);
        Ok(Reader::new(NatsReadApi {
            api: Api::new(link, &api_prefix(stream), stream, unanswered),
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

impl ReadApi for NatsReadApi {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let Some(info) = self.api.info().await? else {
            return Ok(None);
        };
        self.check().await?;
        let head = head_of(&info);
        if self.silence.look(head.seq) && !self.told_silent.swap(true, Ordering::Relaxed) {
            self.report_silence();
        }
        Ok(Some(head))
    }

    fn get(&self, first: u64, limit: usize) -> BoxFuture<'static, Result<Vec<Record>, LogError>> {
        let Api { stream, link, .. } = &self.api;
        let subject = Import::DirectGet.subject(stream);
        let unanswered = link.missing_import(Import::DirectGet, stream);
        let link = link.clone();
        Box::pin(direct::read(link, subject, first, limit, unanswered))
    }

    async fn live(&mut self) -> Result<Record, LogError> {
        loop {
            let copy = self.live.next().await;
            let copy = copy.ok_or_else(|| direct::cut("read"))?;
            // Anything else is no copy of an event; a read of the log finds the event.
            if let Ok(record) = direct::record(copy) {
                self.silence.broken = true;
                return Ok(record);
            }
        }
    }
}

impl NatsReadApi {
    /// Uses each import once, as soon as there is a stream behind it: an error names a missing line of the account file at
    /// the start, not when an event comes.
    async fn check(&mut self) -> Result<(), LogError> {
        if !self.checked {
            self.get(BEYOND_EVERY_EVENT, 1).await?;
            self.checked = true;
        }
        // The refusal of a subscription arrives no later than the answers.
        let live = Import::Live.subject(&self.api.stream);
        self.api.link.check(&live)
    }

    fn report_silence(&self) {
        let stream = &self.api.stream;
        let import = Import::Live.line(stream);
        tracing::warn!(
            stream,
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
