//! A reader's side of another service's stream: its head and, through the one consumer made for it, its messages.

use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::{self, Message};
use futures::{FutureExt, StreamExt};

use super::{MAX_READ_BYTES, Nats, context, head_of, stream_info};
use crate::error::LogError;
use crate::log::{Connect, Head, Log, Record};

/// The way of a reader to another service's stream.
#[derive(Clone)]
pub struct NatsReader {
    nats: Nats,
    stream: String,
    consumer: String,
}

impl NatsReader {
    pub(super) fn new(nats: Nats, stream: &str, consumer: &str) -> Self {
        Self {
            nats,
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
        }
    }
}

impl Connect for NatsReader {
    type Session = ReaderSession;

    async fn connect(&self) -> Result<ReaderSession, LogError> {
        let client = self.nats.open().await?;
        // nats.conf imports another account's API under this name.
        let api_prefix = format!("from_{}.API", self.stream.to_lowercase());
        Ok(ReaderSession {
            js: context(client, &api_prefix),
            way: self.clone(),
            pull: None,
        })
    }

    fn stream(&self) -> &str {
        &self.stream
    }
}

/// One connection of a reader.
pub struct ReaderSession {
    way: NatsReader,
    js: jetstream::Context,
    /// The messages on their way, and the place they have come to.
    pull: Option<Pull>,
}

struct Pull {
    messages: pull::Stream,
    after: u64,
}

impl Log for ReaderSession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let info = stream_info(&self.js, &self.way.stream).await?;
        Ok(info.as_ref().map(head_of))
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let mut pull = match self.pull.take() {
            Some(pull) if pull.after == after => pull,
            old => {
                drop(old); // first: a pull that still waits would take what is sent after the RESET
                self.pull_after(after).await?
            }
        };
        let records = pull.take_ready(limit, wait).await?;
        self.pull = Some(pull);
        Ok(records)
    }
}

impl ReaderSession {
    /// Sends the consumer to the place after `after`. RESET means "read from here on"; 0 would mean "stay".
    async fn pull_after(&self, after: u64) -> Result<Pull, LogError> {
        let found = self
            .js
            .get_consumer_from_stream(&self.way.consumer, &self.way.stream);
        let mut consumer: PullConsumer = found.await.map_err(|error| {
            let name = &self.way.consumer;
            LogError::lost_because(
                format!("consumer {name} is not there (its stream's owner makes it)"),
                error,
            )
        })?;
        let reset = consumer.reset(Some(after + 1)).await;
        reset.map_err(|error| LogError::lost_because("the consumer cannot be reset", error))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(1000)
            .max_bytes_per_batch(MAX_READ_BYTES)
            .heartbeat(Duration::from_secs(2))
            .expires(Duration::from_secs(20))
            .messages()
            .await
            .map_err(|error| LogError::lost_because("the stream cannot be read", error))?;
        Ok(Pull { messages, after })
    }
}

impl Pull {
    /// Waits for the first message, then takes what has arrived besides.
    async fn take_ready(&mut self, limit: usize, wait: Duration) -> Result<Vec<Record>, LogError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut next = match tokio::time::timeout(wait, self.messages.next()).await {
            Err(_) => return Ok(records),
            Ok(first) => Some(first),
        };
        while let Some(message) = next {
            let record = record(message)?;
            bytes += record.bytes.len();
            self.after = record.seq;
            records.push(record);
            next = match records.len() < limit && bytes < MAX_READ_BYTES {
                true => self.messages.next().now_or_never(),
                false => None,
            };
        }
        Ok(records)
    }
}

/// The stream's place of a message comes with it, in the subject for acknowledgements.
fn record(next: Option<Result<Message, pull::MessagesError>>) -> Result<Record, LogError> {
    let message = next.ok_or_else(|| LogError::lost("the connection was cut under a read"))?;
    let message = message.map_err(|error| LogError::lost_because("the read was cut off", error))?;
    let info = message.info().map_err(|error| {
        LogError::lost_because(
            "a message without a place",
            std::io::Error::other(error.to_string()),
        )
    })?;
    Ok(Record {
        seq: info.stream_sequence,
        subject: message.subject.to_string(),
        bytes: message.payload.clone(),
    })
}
