//! Reads streams as the user `observer` of nats.conf, who may read everything and do nothing.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use relay::nats::Import;
use serde_json::{Value, json};

use crate::credentials::Password;
use crate::wire::{Login, Message, Wire};

/// The broker's address and a login. Each request opens a connection of its own, so a broker's restart does not matter.
#[derive(Clone, Debug)]
pub struct Observer {
    address: SocketAddr,
    login: Login,
}

/// A message as the stream stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its sequence in the stream.
    pub seq: u64,
    /// `payments.settled`.
    pub subject: String,
    /// The envelope.
    pub bytes: Vec<u8>,
}

/// The sequences of a stream, and the rest of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamInfo {
    /// The oldest sequence kept.
    pub first_seq: u64,
    /// The newest.
    pub last_seq: u64,
    /// How many are kept.
    pub messages: u64,
    /// The configuration of the stream, as the broker shows it.
    pub config: Value,
    /// The whole answer of the broker.
    pub all: Value,
}

/// Events per request. The server sends them all at once, so this limits its send buffer.
const BATCH: u64 = 1000;

impl Observer {
    /// Reads at this broker, as the user `observer`.
    pub fn new(address: SocketAddr, password: Password) -> Observer {
        let login = Login {
            user: "observer".to_owned(),
            password: password.reveal().to_owned(),
            inbox: "_INBOX_observer".to_owned(),
        };
        Observer { address, login }
    }

    /// How it logs in.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<Wire> {
        Wire::connect(self.address, &self.login).await
    }

    /// Whether login works and JetStream responds. A stream whose creation was interrupted by a kill is no reason to wait: its
    /// owner creates it again.
    pub async fn jetstream_answers(&self) -> Result<()> {
        let mut wire = self.connect().await?;
        let health = "$SYS.REQ.SERVER.PING.HEALTHZ";
        let question = json!({"js-server-only": true});
        let answer = wire.request_json(health, &question).await?;
        match answer["data"]["status"].as_str() {
            Some("ok") => Ok(()),
            _ => bail!("the broker is not healthy: {answer}"),
        }
    }

    /// Where a stream begins and ends, and how it is configured.
    pub async fn stream_info(&self, stream: &str) -> Result<StreamInfo> {
        let subject = Import::Info.subject(stream);
        StreamInfo::read(
            self.connect()
                .await?
                .request_json(&subject, &Value::Null)
                .await?,
        )
    }

    /// Every event of the stream, in order.
    pub async fn read_all(&self, stream: &str) -> Result<Vec<StoredEvent>> {
        self.read_from(stream, 1).await
    }

    /// Every event from this sequence on.
    pub async fn read_from(&self, stream: &str, first: u64) -> Result<Vec<StoredEvent>> {
        let mut wire = self.connect().await?;
        let mut events: Vec<StoredEvent> = Vec::new();
        loop {
            let next = events.last().map_or(first, |event| event.seq + 1);
            let batch = read_batch(&mut wire, stream, next).await?;
            if batch.is_empty() {
                return Ok(events);
            }
            events.extend(batch);
        }
    }
}

impl StreamInfo {
    /// From an answer to STREAM.INFO.
    pub fn read(all: Value) -> Result<StreamInfo> {
        let number = |name: &str| {
            all["state"][name]
                .as_u64()
                .with_context(|| format!("STREAM.INFO says no {name}: {all}"))
        };
        Ok(StreamInfo {
            first_seq: number("first_seq")?,
            last_seq: number("last_seq")?,
            messages: number("messages")?,
            config: all["config"].clone(),
            all,
        })
    }
}

async fn read_batch(wire: &mut Wire, stream: &str, first: u64) -> Result<Vec<StoredEvent>> {
    let subject = Import::DirectGet.subject(stream);
    let question = json!({"seq": first, "batch": BATCH}).to_string();
    // 204 ends a batch, 404 means that no event has this sequence or a later one.
    let is_last = |message: &Message| matches!(message.status, Some(204 | 404));
    let answers = wire
        .request_many(&subject, question.as_bytes(), is_last)
        .await?;
    answers.into_iter().map(stored_event).collect()
}

fn stored_event(message: Message) -> Result<StoredEvent> {
    if let Some(status) = message.status {
        bail!("DIRECT.GET answers {status}: {message:?}");
    }
    let seq = message
        .header("Nats-Sequence")
        .and_then(|seq| seq.parse().ok())
        .context("an event without its number")?;
    let subject = message
        .header("Nats-Subject")
        .context("an event without its subject")?
        .to_owned();
    Ok(StoredEvent {
        seq,
        subject,
        bytes: message.payload,
    })
}
