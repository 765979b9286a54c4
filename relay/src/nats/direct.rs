//! Reading many messages with one request: a batched Direct Get, which costs the broker no consumer.

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use serde_json::json;
use tokio::time::timeout;

use super::TIMEOUT;
use super::link::Link;
use crate::error::LogError;
use crate::log::Record;
use crate::log::reader::MAX_READ_BYTES;

/// Messages one request asks for, at most: the client throws away what an inbox has no room for.
const MAX_MESSAGES: usize = 16_000;

// How a response ends: after its last message, or at once, because nothing is kept from `first` on or no stream is there.
const END_OF_BATCH: u16 = 204;
const NOT_FOUND: u16 = 404;
const NO_RESPONDERS: u16 = 503;

/// Up to `limit` messages at `first` and after it, in order. A sequence whose message is gone is left out. In a cluster any
/// node that holds a copy answers, and one that is behind hands out nothing. `unanswered` says what is wrong when nothing
/// responds.
pub(super) async fn read(
    link: Link,
    subject: String,
    first: u64,
    limit: usize,
    unanswered: String,
) -> Result<Vec<Record>, LogError> {
    let inbox = link.client.new_inbox();
    let answers = link.subscribe(inbox.clone()).await?;
    let batch = limit.min(MAX_MESSAGES);
    let request = json!({"seq": first, "batch": batch, "max_bytes": MAX_READ_BYTES}).to_string();
    let publish = link
        .client
        .publish_with_reply(subject.clone(), inbox, request.into());
    let asked = publish.await;
    asked.map_err(|error| LogError::disconnected_by("the read was cut off", error))?;
    link.answer(&subject, collect(answers, unanswered)).await
}

async fn collect(mut answers: Subscriber, unanswered: String) -> Result<Vec<Record>, LogError> {
    let mut records = Vec::new();
    loop {
        let answer = next(&mut answers, "read").await?;
        let why = match answer.status.map(|status| status.as_u16()) {
            None => {
                records.push(record(answer)?);
                continue;
            }
            Some(END_OF_BATCH | NOT_FOUND) => return Ok(records),
            Some(NO_RESPONDERS) => unanswered,
            Some(status) => format!("the broker answered a read with {status}"),
        };
        return Err(LogError::disconnected(why));
    }
}

/// The next message of a subscription, within the time that the broker has.
pub(super) async fn next(answers: &mut Subscriber, of: &str) -> Result<Message, LogError> {
    match timeout(TIMEOUT, answers.next()).await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(cut(of)),
        Err(_) => Err(LogError::disconnected(format!(
            "the broker did not answer a {of} in time"
        ))),
    }
}

pub(super) fn cut(of: &str) -> LogError {
    LogError::disconnected(format!("the connection was cut under a {of}"))
}

/// A direct answer and a live copy name the message's sequence and subject in their headers.
pub(super) fn record(answer: Message) -> Result<Record, LogError> {
    let header = |name| Some(answer.headers.as_ref()?.get(name)?.as_str());
    let seq = header("Nats-Sequence").and_then(|seq| seq.parse().ok());
    match (seq, header("Nats-Subject")) {
        (Some(seq), Some(subject)) => Ok(Record {
            seq,
            subject: subject.to_owned(),
            bytes: answer.payload,
        }),
        _ => Err(LogError::disconnected("a message without its sequence")),
    }
}
