//! The owner's side of a stream: its head and messages; creating, trimming and deleting it.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    message::StreamMessage,
    stream::{Config, DiscardPolicy, Info, RawMessage, Republish, SubjectTransform},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::publish::Publisher;
use super::{
    Api, CLOSED_BY, DATABASE_ID, EPOCH, INCARNATION, LIVE, MAX_WAITING, Nats, direct, head_of,
    jetstream_error, optional,
};
use crate::error::LogError;
use crate::log::{AppendLog, Connect, Head, Log, Origin, Record, Stream};

/// What one stream may hold, in bytes, by default: the whole room of its account in the account files. When it
/// is full the broker refuses new events (`discard: new`), and the outbox keeps them.
pub const DEFAULT_STREAM_BYTES: u64 = 4 << 30;
const NO_JETSTREAM: &str = "the broker answers without JetStream: it is starting, or it has turned JetStream off, as on a full disk (its log says why); once that is mended, restart nats-server";
/// The owner asks again this often while it waits for its own stream to grow.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How a stream's one writer connects to it.
#[derive(Clone)]
pub struct NatsStream {
    pub(super) nats: Nats,
    pub(super) stream: String,
    pub(super) max_bytes: u64,
}

impl NatsStream {
    /// What the stream may hold, in bytes. An existing stream is given the new limit at the next contact.
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }
}

impl Connect for NatsStream {
    type Session = StreamSession;

    async fn connect(&self) -> Result<StreamSession, LogError> {
        let link = self.nats.open(MAX_WAITING).await?;
        Ok(StreamSession {
            publisher: Publisher::new(link.clone(), &self.stream).await?,
            api: Api::new(link, "$JS.API", &self.stream, NO_JETSTREAM.to_owned()),
            max_bytes: self.max_bytes,
            info: None,
        })
    }

    fn stream(&self) -> &str {
        &self.stream
    }
}

/// One connection of a stream's writer.
pub struct StreamSession {
    api: Api,
    publisher: Publisher,
    max_bytes: u64,
    /// The stream as it was at the last look.
    info: Option<Info>,
}

impl Log for StreamSession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let info = self.api.info().await?;
        Ok(info.map(|info| self.seen(info)))
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            let records = self.read_now(after, limit).await?;
            if !records.is_empty() || Instant::now() >= deadline {
                return Ok(records);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

impl AppendLog for StreamSession {
    async fn append_after(&mut self, head: &Head, records: &[Record]) -> Result<Head, LogError> {
        match self.publisher.append_after(head, records).await {
            // Boxed, because a question takes state that publishing should not carry about.
            Err(error @ LogError::Disconnected(..)) => {
                Err(Box::pin(self.why_not_stored(error)).await)
            }
            appended => appended,
        }
    }
}

impl Stream for StreamSession {
    async fn create(
        &mut self,
        first: u64,
        origin: &Origin,
        incarnation: &str,
    ) -> Result<Head, LogError> {
        check_token(incarnation)?;
        let config = self.config(first, origin, incarnation);
        let created = self.api.ask("STREAM.CREATE", json!(config)).await?;
        let head = self.seen(created);
        if head.seq + 1 != first {
            // While the broker still removes one deleted stream's folder it cannot remove the next one's, does not report
            // so (nats-server 2.15.1, `fileStore.Delete`), and a new stream finds the old messages there.
            self.delete(incarnation).await?;
            return Err(LogError::disconnected(
                "the new stream held what was deleted",
            ));
        }
        Ok(head)
    }

    async fn close(&mut self, epoch: u32, incarnation: &str) -> Result<Head, LogError> {
        let mut config = self.current(incarnation).await?.config;
        config.sealed = true;
        config
            .metadata
            .insert(CLOSED_BY.to_owned(), epoch.to_string());
        let closed: Info = self.api.ask("STREAM.UPDATE", json!(config)).await?;
        Ok(head_of(&closed))
    }

    /// The broker deletes by name, so this checks right before that it is still that incarnation.
    async fn delete(&mut self, incarnation: &str) -> Result<(), LogError> {
        let current = self.current(incarnation).await;
        if optional(current, ErrorCode::STREAM_NOT_FOUND)?.is_some() {
            let _gone: Value = self.api.ask("STREAM.DELETE", json!({})).await?;
        }
        Ok(())
    }

    /// A purge takes what is before a number. From 0 it takes everything, and from beyond the end it moves the end.
    async fn trim(&mut self, first: u64) -> Result<(), LogError> {
        let Info { state, .. } = self.api.ask("STREAM.INFO", json!({})).await?;
        let first = first.min(state.last_sequence);
        if first > state.first_sequence {
            let purge = json!({"seq": first});
            let _purged: Value = self.api.ask("STREAM.PURGE", purge).await?;
        }
        Ok(())
    }

    /// An earlier version's stream republishes nothing, and carries a consumer for each reader.
    async fn refresh(&mut self) -> Result<(), LogError> {
        let Some(Info { config, state, .. }) = &self.info else {
            return Ok(());
        };
        let (stream, wanted) = (&self.api.stream, self.refreshed(config.clone()));
        if wanted != *config {
            tracing::info!(stream, "the stream is brought up to date in place");
            let _updated: Value = self.api.ask("STREAM.UPDATE", json!(wanted)).await?;
        }
        if state.consumer_count > 0 {
            self.delete_consumers().await?;
        }
        Ok(())
    }

    fn room(&self) -> Option<(u64, u64)> {
        let info = self.info.as_ref()?;
        let limit = u64::try_from(info.config.max_bytes).ok()?;
        Some((info.state.bytes, limit))
    }
}

impl StreamSession {
    fn seen(&mut self, info: Info) -> Head {
        self.publisher.batches = info.config.allow_atomic_publish;
        head_of(self.info.insert(info))
    }

    /// Streams are changed by name: is it still the one that was meant?
    async fn current(&self, incarnation: &str) -> Result<Info, LogError> {
        let info: Info = self.api.ask("STREAM.INFO", json!({})).await?;
        match head_of(&info).incarnation == incarnation {
            true => Ok(info),
            false => Err(LogError::disconnected("the stream was recreated meanwhile")),
        }
    }

    /// Once a stream's file could not be written, nats-server takes no message into that stream until it is restarted, also
    /// after there is room again (2.15.1). A publish is then not answered at all, and a batch as incomplete. A purge of a
    /// subject that no event has is answered with the reason, and without one it changes nothing.
    async fn why_not_stored(&self, error: LogError) -> LogError {
        if !self.api.link.is_connected() {
            return error;
        }
        let stream = &self.api.stream;
        let nothing = json!({"filter": format!("{}.NONE", stream.to_lowercase())}); // no subject of an event has capitals
        let purged: Result<Value, _> = self.api.ask("STREAM.PURGE", nothing).await;
        match purged.as_ref().map_err(jetstream_error) {
            Err(Some(reason)) => LogError::Stuck(format!(
                "the broker cannot write stream {stream} ({reason}), and stores nothing there until it is restarted: make room on its disk, then restart nats-server; no event is lost"
            )),
            Err(None) => {
                LogError::disconnected_by("the broker answers no other request either", error)
            }
            Ok(_) => error,
        }
    }

    /// One message comes from the stream's leader, and only from its very sequence: the relay wants its head. Many come
    /// from any node that holds a copy.
    async fn read_now(&self, after: u64, limit: usize) -> Result<Vec<Record>, LogError> {
        if limit <= 1 {
            return Ok(self.read_one(after + 1).await?.into_iter().collect());
        }
        let subject = format!("$JS.API.DIRECT.GET.{}", self.api.stream);
        let gone = "no stream answers a read: it is gone".to_owned();
        direct::read(self.api.link.clone(), subject, after + 1, limit, gone).await
    }

    async fn read_one(&self, seq: u64) -> Result<Option<Record>, LogError> {
        let found = self.api.ask("STREAM.MSG.GET", json!({"seq": seq})).await;
        let Some(Kept { message }) = optional(found, ErrorCode::NO_MESSAGE_FOUND)? else {
            return Ok(None);
        };
        let message = StreamMessage::try_from(message);
        let unreadable =
            |error| LogError::disconnected_by(format!("event {seq} is unreadable"), error);
        let message = message.map_err(unreadable)?;
        Ok(Some(Record {
            seq: message.sequence,
            subject: message.subject.to_string(),
            bytes: message.payload,
        }))
    }

    async fn delete_consumers(&self) -> Result<(), LogError> {
        let stream = &self.api.stream;
        let found: Consumers = self.api.ask("CONSUMER.NAMES", json!({})).await?;
        for name in found.consumers {
            tracing::info!(stream, name, "removing a consumer that no reader needs");
            let call = format!("CONSUMER.DELETE.{stream}.{name}");
            let _gone: Value = self.api.ask_at(call, json!({})).await?;
        }
        Ok(())
    }

    /// No single message can be deleted, and only a writer that knows the token can write to it.
    fn config(&self, first: u64, origin: &Origin, token: &str) -> Config {
        let root = self.api.stream.to_lowercase();
        self.refreshed(Config {
            name: self.api.stream.clone(),
            subjects: vec![format!("{root}.{token}.>")],
            subject_transform: Some(SubjectTransform {
                source: format!("{root}.{token}.>"),
                destination: format!("{root}.>"),
            }),
            first_sequence: Some(first),
            discard: DiscardPolicy::New,
            deny_delete: true,
            allow_direct: true,
            allow_atomic_publish: true,
            metadata: HashMap::from([
                (DATABASE_ID.to_owned(), origin.database_id.to_string()),
                (EPOCH.to_owned(), origin.epoch.to_string()),
                (INCARNATION.to_owned(), token.to_owned()),
            ]),
            ..Config::default()
        })
    }

    /// What an existing stream can be given as well: live copies for its readers, and its limit.
    fn refreshed(&self, config: Config) -> Config {
        let root = self.api.stream.to_lowercase();
        Config {
            republish: Some(Republish {
                source: format!("{root}.>"),
                destination: format!("{LIVE}{root}.>"),
                headers_only: false,
            }),
            max_bytes: i64::try_from(self.max_bytes).unwrap_or(i64::MAX),
            ..config
        }
    }
}

#[derive(Deserialize)]
struct Kept {
    message: RawMessage,
}

#[derive(Deserialize)]
struct Consumers {
    consumers: Vec<String>,
}

/// The token becomes one word of the subjects the stream takes; with a dot or a wildcard in it they would be others.
fn check_token(token: &str) -> Result<(), LogError> {
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err(LogError::Refused(format!(
            "{token:?} is no word of a subject"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_of_a_subject() {
        assert!(check_token("00c0ffee").is_ok());
        for bad in ["", "a.b", "*", ">", "a b", "\u{e9}"] {
            let refused = check_token(bad).unwrap_err();
            assert!(matches!(refused, LogError::Refused(_)), "{bad:?}");
        }
    }
}
