//! The owner's side of a stream: its head, its messages, making it, and the fixed consumers of its readers.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, SubjectTransform};
use tokio::time::Instant;

use super::publish::Publisher;
use super::{DATABASE_ID, EPOCH, INCARNATION, Nats, api_error, context, head_of, stream_info};
use crate::error::LogError;
use crate::log::{AppendLog, Connect, Head, Log, Origin, Record, Stream};

/// What one stream may hold, in bytes: the whole room of its account in nats.conf. When it is full the broker refuses
/// new events (`discard: new`), and the outbox keeps them.
const MAX_STREAM_BYTES: i64 = 4 << 30;
/// The owner asks again this often while it waits for its own stream to grow.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// The way of a stream's one writer to it.
#[derive(Clone)]
pub struct NatsStream {
    nats: Nats,
    stream: String,
    readers: Vec<String>,
}

impl NatsStream {
    pub(super) fn new(nats: Nats, stream: &str, readers: &[&str]) -> Self {
        Self {
            nats,
            stream: stream.to_owned(),
            readers: readers.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

impl Connect for NatsStream {
    type Session = StreamSession;

    async fn connect(&self) -> Result<StreamSession, LogError> {
        let client = self.nats.open().await?;
        Ok(StreamSession {
            publisher: Publisher::new(client.clone(), &self.stream).await?,
            js: context(client, "$JS.API"),
            way: self.clone(),
            readers_made: false,
        })
    }

    fn stream(&self) -> &str {
        &self.stream
    }
}

/// One connection of a stream's writer.
pub struct StreamSession {
    way: NatsStream,
    js: jetstream::Context,
    publisher: Publisher,
    /// Whether this session has made sure that every reader has its consumer.
    readers_made: bool,
}

impl Log for StreamSession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let Some(info) = stream_info(&self.js, &self.way.stream).await? else {
            return Ok(None);
        };
        self.publisher.batches = info.config.allow_atomic_publish;
        self.make_readers().await;
        Ok(Some(head_of(&info)))
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
        self.publisher.append_after(head, records).await
    }
}

impl Stream for StreamSession {
    async fn create(&mut self, first: u64, origin: &Origin) -> Result<Head, LogError> {
        let config = stream_config(&self.way.stream, first, origin);
        let made = self.js.create_stream(config).await;
        let made = made.map_err(|error| {
            let what = format!("stream {} cannot be made", self.way.stream);
            LogError::lost_because(what, error)
        })?;
        let head = head_of(made.cached_info());
        self.publisher.batches = made.cached_info().config.allow_atomic_publish;
        self.readers_made = false;
        self.make_readers().await;
        Ok(head)
    }
}

impl StreamSession {
    /// One request for each message, from the stream's leader: the relay wants exactly one, its head.
    async fn read_now(&self, after: u64, limit: usize) -> Result<Vec<Record>, LogError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind::{JetStream, NoMessageFound};
        let stream = self.js.get_stream_no_info(&self.way.stream).await;
        let stream =
            stream.map_err(|error| LogError::lost_because("no such stream name", error))?;
        let mut records = Vec::new();
        while records.len() < limit {
            let seq = after + 1 + records.len() as u64;
            match stream.get_raw_message(seq).await {
                Ok(message) => records.push(Record {
                    seq: message.sequence,
                    subject: message.subject.to_string(),
                    bytes: message.payload,
                }),
                Err(error) => match error.kind() {
                    NoMessageFound => break,
                    JetStream(why) => {
                        return Err(api_error(format!("event {seq} cannot be read"), &why));
                    }
                    _ => {
                        return Err(LogError::lost_because(
                            format!("event {seq} cannot be read"),
                            error,
                        ));
                    }
                },
            }
        }
        Ok(records)
    }

    /// Every reader has one pull consumer, made here: who may make consumers could aim one at a stream's subject.
    /// Making one that exists changes nothing. One that cannot be made is no reason to stop publishing: the next
    /// contact tries again.
    async fn make_readers(&mut self) {
        if self.readers_made {
            return;
        }
        self.readers_made = true;
        for reader in &self.way.readers {
            let config = reader_config(reader);
            let made = self.js.create_consumer_on_stream(config, &self.way.stream);
            if let Err(error) = made.await {
                tracing::warn!(reader, %error, "a reader's consumer cannot be made");
                self.readers_made = false;
            }
        }
    }
}

/// As the log wants its copy: nobody can delete from it, and only who knows the token can write to it.
fn stream_config(stream: &str, first: u64, origin: &Origin) -> Config {
    let root = stream.to_lowercase();
    let token = draw_token();
    Config {
        name: stream.to_owned(),
        subjects: vec![format!("{root}.{token}.>")],
        subject_transform: Some(SubjectTransform {
            source: format!("{root}.{token}.>"),
            destination: format!("{root}.>"),
        }),
        first_sequence: Some(first),
        max_bytes: MAX_STREAM_BYTES,
        discard: DiscardPolicy::New,
        deny_delete: true,
        allow_direct: true,
        allow_atomic_publish: true,
        metadata: HashMap::from([
            (DATABASE_ID.to_owned(), origin.database_id.to_string()),
            (EPOCH.to_owned(), origin.epoch.to_string()),
            (INCARNATION.to_owned(), token),
        ]),
        ..Config::default()
    }
}

/// On disk, because a consumer in memory would need its owner awake after each restart of the broker. No
/// acknowledgements: the reader's own database knows how far it is.
fn reader_config(name: &str) -> pull::Config {
    pull::Config {
        name: Some(name.to_owned()),
        durable_name: Some(name.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::None,
        max_waiting: 16,
        max_batch: 5000,
        max_expires: Duration::from_secs(60),
        ..pull::Config::default()
    }
}

fn draw_token() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
