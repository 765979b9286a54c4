//! The owner's side of a stream: its head and messages, making, trimming and deleting it.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::{
    self,
    stream::{
        Config, DeleteStatus, DiscardPolicy, Info, PurgeResponse, Republish, SubjectTransform,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::publish::Publisher;
use super::{
    Api, CLOSED_BY, DATABASE_ID, EPOCH, INCARNATION, LIVE, MAX_WAITING, Nats, api_error, direct,
    head_of,
};
use crate::error::{Cause, LogError};
use crate::log::{AppendLog, Connect, Head, Log, Origin, Record, Stream};

/// What one stream may hold, in bytes, unless told otherwise: the whole room of its account in the account files. When it
/// is full the broker refuses new events (`discard: new`), and the outbox keeps them.
pub const DEFAULT_STREAM_BYTES: u64 = 4 << 30;
const NO_JETSTREAM: &str = "the broker answers without JetStream: it is starting, or it has turned JetStream off, as on a full disk (its log says why); once that is mended, restart nats-server";
/// The owner asks again this often while it waits for its own stream to grow.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// The way of a stream's one writer to it.
#[derive(Clone)]
pub struct NatsStream {
    nats: Nats,
    stream: String,
    max_bytes: u64,
}

impl NatsStream {
    pub(super) fn new(nats: Nats, stream: &str) -> Self {
        Self {
            nats,
            stream: stream.to_owned(),
            max_bytes: DEFAULT_STREAM_BYTES,
        }
    }

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
            api: Api::new(link, "$JS.API", NO_JETSTREAM.to_owned()),
            way: self.clone(),
            info: None,
        })
    }

    fn stream(&self) -> &str {
        &self.stream
    }
}

/// One connection of a stream's writer.
pub struct StreamSession {
    way: NatsStream,
    api: Api,
    publisher: Publisher,
    /// The stream as it was at the last look.
    info: Option<Info>,
}

impl Log for StreamSession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        self.info = self.api.info(&self.way.stream).await?;
        let Some(info) = &self.info else {
            return Ok(None);
        };
        self.publisher.batches = info.config.allow_atomic_publish;
        Ok(Some(head_of(info)))
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
        let appended = self.publisher.append_after(head, records).await;
        match appended {
            // Boxed, because a question takes state that publishing should not carry about.
            Err(LogError::Lost(why, cause)) => Err(Box::pin(self.why_not_stored(why, cause)).await),
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
        let config = stream_config(&self.way, first, origin, incarnation);
        let made = async {
            let made = self.api.js.create_stream(config).await;
            let what = format!("stream {} cannot be made", self.way.stream);
            made.map_err(|error| LogError::lost_because(what, error))
        };
        let subject = self
            .api
            .subject(&format!("STREAM.CREATE.{}", self.way.stream));
        let made = self.api.link.answer(&subject, made).await?;
        let head = head_of(made.cached_info());
        if head.seq + 1 != first {
            // While the broker still removes one deleted stream's folder it cannot remove the next one's, does not say
            // so (nats-server 2.15.1, `fileStore.Delete`), and a new stream finds the old messages there.
            self.delete(incarnation).await?;
            return Err(LogError::lost("the new stream held what was deleted"));
        }
        self.publisher.batches = made.cached_info().config.allow_atomic_publish;
        self.info = Some(made.cached_info().clone());
        Ok(head)
    }

    async fn close(&mut self, epoch: u32, incarnation: &str) -> Result<Head, LogError> {
        let stream = &self.way.stream;
        let info = self.api.info(stream).await?;
        let info = info.ok_or_else(|| self.missing())?;
        self.check_same(&head_of(&info), incarnation)?;
        let mut config = info.config;
        config.sealed = true;
        config
            .metadata
            .insert(CLOSED_BY.to_owned(), epoch.to_string());
        let failed = format!("stream {stream} cannot be closed");
        let subject = format!("STREAM.UPDATE.{stream}");
        let closed: Option<Info> = self.api.ask(subject, json!(config), failed).await?;
        closed.as_ref().map(head_of).ok_or_else(|| self.missing())
    }

    /// The broker deletes by name, so another incarnation is looked for right before.
    async fn delete(&mut self, incarnation: &str) -> Result<(), LogError> {
        let stream = &self.way.stream;
        let Some(info) = self.api.info(stream).await? else {
            return Ok(());
        };
        self.check_same(&head_of(&info), incarnation)?;
        let failed = format!("stream {stream} cannot be deleted");
        let subject = format!("STREAM.DELETE.{stream}");
        let _gone: Option<DeleteStatus> = self.api.ask(subject, json!({}), failed).await?;
        Ok(())
    }

    /// A purge takes what is before a number. From 0 it takes everything, and from beyond the end it moves the end.
    async fn trim(&mut self, first: u64) -> Result<(), LogError> {
        let stream = &self.way.stream;
        let info = self.api.info(stream).await?;
        let state = info.ok_or_else(|| self.missing())?.state;
        let first = first.min(state.last_sequence);
        if first <= state.first_sequence {
            return Ok(());
        }
        let failed = format!("stream {stream} cannot be trimmed");
        let subject = format!("STREAM.PURGE.{stream}");
        let purged: Option<PurgeResponse> =
            self.api.ask(subject, json!({"seq": first}), failed).await?;
        purged.map(drop).ok_or_else(|| self.missing())
    }

    /// An earlier version's stream republishes nothing, and carries a consumer for each reader.
    async fn refresh(&mut self) -> Result<(), LogError> {
        let stream = &self.way.stream;
        let Some(Info { config, state, .. }) = &self.info else {
            return Err(self.missing());
        };
        let wanted = refreshed(config.clone(), &self.way);
        if wanted != *config {
            tracing::info!(stream, "the stream is brought up to date in place");
            let failed = format!("stream {stream} cannot be brought up to date");
            let subject = format!("STREAM.UPDATE.{stream}");
            let _updated: Option<Info> = self.api.ask(subject, json!(wanted), failed).await?;
        }
        if state.consumer_count > 0 {
            self.delete_consumers().await?;
        }
        Ok(())
    }

    async fn room(&mut self) -> Result<Option<(u64, u64)>, LogError> {
        Ok(self.info.as_ref().and_then(|info| {
            let limit = u64::try_from(info.config.max_bytes).ok()?;
            Some((info.state.bytes, limit))
        }))
    }
}

impl StreamSession {
    /// Streams are changed by name: is it still the one that was meant?
    fn check_same(&self, head: &Head, incarnation: &str) -> Result<(), LogError> {
        match head.incarnation == incarnation {
            true => Ok(()),
            false => {
                let stream = &self.way.stream;
                Err(LogError::lost(format!(
                    "stream {stream} was made anew meanwhile"
                )))
            }
        }
    }

    /// Once a stream's file could not be written, nats-server takes no message into that stream until it is restarted, also
    /// after there is room again (2.15.1). A publish is then not answered at all, and a batch as incomplete. A purge of what
    /// never was is answered with the reason, and without one it changes nothing.
    async fn why_not_stored(&self, why: String, cause: Option<Cause>) -> LogError {
        let stream = &self.way.stream;
        if !self.api.link.is_connected() {
            return LogError::Lost(why, cause);
        }
        let subject = format!("STREAM.PURGE.{stream}");
        let nothing = json!({"filter": format!("{}.NONE", stream.to_lowercase())}); // no subject of an event has capitals
        let failed = String::new();
        match self
            .api
            .ask::<PurgeResponse>(subject, nothing, failed)
            .await
        {
            Err(LogError::Lost(_, Some(reason))) if reason.is::<jetstream::Error>() => {
                LogError::Stuck(format!(
                    "the broker cannot write stream {stream} ({reason}), and stores nothing there until it is restarted: make room on its disk, then restart nats-server; no event is lost"
                ))
            }
            Err(_) => LogError::Lost(format!("{why}, and no other question"), cause),
            Ok(_) => LogError::Lost(why, cause),
        }
    }

    fn missing(&self) -> LogError {
        LogError::lost(format!("there is no stream {}", self.way.stream))
    }

    /// One message comes from the stream's leader, and only from its very place: the relay wants its head. Many come
    /// from whoever holds a copy.
    async fn read_now(&self, after: u64, limit: usize) -> Result<Vec<Record>, LogError> {
        match limit {
            0 | 1 => Ok(self.read_one(after + 1).await?.into_iter().collect()),
            _ => {
                let subject = format!("$JS.API.DIRECT.GET.{}", self.way.stream);
                let gone = "no stream answers a read: it is gone".to_owned();
                direct::read(self.api.link.clone(), subject, after + 1, limit, gone).await
            }
        }
    }

    async fn read_one(&self, seq: u64) -> Result<Option<Record>, LogError> {
        let subject = format!("STREAM.MSG.GET.{}", self.way.stream);
        let subject = self.api.subject(&subject);
        self.api.link.answer(&subject, self.read_raw(seq)).await
    }

    async fn read_raw(&self, seq: u64) -> Result<Option<Record>, LogError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind::{JetStream, NoMessageFound};
        let stream = self.api.js.get_stream_no_info(&self.way.stream).await;
        let stream =
            stream.map_err(|error| LogError::lost_because("no such stream name", error))?;
        let failed = format!("event {seq} cannot be read");
        match stream.get_raw_message(seq).await {
            Ok(message) => Ok(Some(Record {
                seq: message.sequence,
                subject: message.subject.to_string(),
                bytes: message.payload,
            })),
            Err(error) => match error.kind() {
                NoMessageFound => Ok(None),
                JetStream(why) => Err(api_error(failed, &why)),
                _ => Err(LogError::lost_because(failed, error)),
            },
        }
    }

    async fn delete_consumers(&self) -> Result<(), LogError> {
        let stream = &self.way.stream;
        let failed = || format!("the consumers of stream {stream} cannot be removed");
        let subject = format!("CONSUMER.NAMES.{stream}");
        let found: Option<Consumers> = self.api.ask(subject, json!({}), failed()).await?;
        for name in found.unwrap_or_default().consumers {
            tracing::info!(
                stream,
                name,
                "a consumer that no reader needs any more is removed"
            );
            let subject = format!("CONSUMER.DELETE.{stream}.{name}");
            let _gone: Option<Value> = self.api.ask(subject, json!({}), failed()).await?;
        }
        Ok(())
    }
}

#[derive(Default, Deserialize)]
struct Consumers {
    consumers: Vec<String>,
}

/// The token becomes one word of the subjects the stream takes; a dot or a wildcard in it would open other doors.
fn check_token(token: &str) -> Result<(), LogError> {
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err(LogError::Refused(format!(
            "{token:?} is no word of a subject"
        ))),
    }
}

/// As the log wants its copy: no single message can be deleted, and only who knows the token can write to it.
fn stream_config(way: &NatsStream, first: u64, origin: &Origin, token: &str) -> Config {
    let root = way.stream.to_lowercase();
    let config = Config {
        name: way.stream.clone(),
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
    };
    refreshed(config, way)
}

/// What a stream that exists can be given as well: live copies for its readers, and its limit.
fn refreshed(config: Config, way: &NatsStream) -> Config {
    let root = way.stream.to_lowercase();
    Config {
        republish: Some(Republish {
            source: format!("{root}.>"),
            destination: format!("{LIVE}{root}.>"),
            headers_only: false,
        }),
        max_bytes: i64::try_from(way.max_bytes).unwrap_or(i64::MAX),
        ..config
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
