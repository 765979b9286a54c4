//! A reader's side of another service's stream: its three doors, as the reader's own account imports them.

use async_nats::jetstream;
use async_nats::{Client, Subscriber};
use futures::StreamExt;
use futures::future::BoxFuture;

use super::{Nats, context, direct, head_of, stream_info};
use crate::doors::{Doors, Reader};
use crate::error::LogError;
use crate::log::{Connect, Head, Record};

/// Live copies that may wait in the client, and messages of one direct answer. Beyond, the client drops them, and the
/// reader reads them from the stream.
const MAX_WAITING: usize = 16_384;

/// The way of a reader to another service's stream. The stream's owner need not know of it.
#[derive(Clone)]
pub struct NatsReader {
    nats: Nats,
    stream: String,
}

/// One connection of a reader.
pub type ReaderSession = Reader<NatsDoors>;

/// The three doors, on one connection.
pub struct NatsDoors {
    client: Client,
    js: jetstream::Context,
    stream: String,
    direct: String,
    live: Subscriber,
}

impl NatsReader {
    pub(super) fn new(nats: Nats, stream: &str) -> Self {
        Self {
            nats,
            stream: stream.to_owned(),
        }
    }
}

impl Connect for NatsReader {
    type Session = ReaderSession;

    /// Subscribes before anything is read, so that no event falls between reading and listening.
    async fn connect(&self) -> Result<ReaderSession, LogError> {
        let client = self.nats.open(MAX_WAITING).await?;
        let (stream, root) = (self.stream.clone(), self.stream.to_lowercase());
        let live = client.subscribe(format!("{}{root}.>", super::LIVE)).await;
        let live = live.map_err(|error| LogError::lost_because("no live subscription", error))?;
        // An account file imports another account's API under this name.
        let api = format!("from_{root}.API");
        Ok(Reader::new(NatsDoors {
            js: context(client.clone(), &api),
            direct: format!("{api}.DIRECT.GET.{stream}"),
            client,
            stream,
            live,
        }))
    }

    fn stream(&self) -> &str {
        &self.stream
    }
}

impl Doors for NatsDoors {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let info = stream_info(&self.js, &self.stream).await?;
        Ok(info.as_ref().map(head_of))
    }

    fn get(&self, first: u64, limit: usize) -> BoxFuture<'static, Result<Vec<Record>, LogError>> {
        let (client, subject) = (self.client.clone(), self.direct.clone());
        Box::pin(direct::read(client, subject, first, limit))
    }

    async fn live(&mut self) -> Result<Record, LogError> {
        loop {
            let copy = self.live.next().await;
            let copy = copy.ok_or_else(|| LogError::lost("the connection was cut under a read"))?;
            // Anything else is no copy of an event; the log itself says what is there.
            if let Ok(record) = direct::record(copy) {
                return Ok(record);
            }
        }
    }
}
