//! Reading many messages with one question: a batched Direct Get, which costs the broker no consumer.

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use serde_json::json;
use tokio::time::timeout;

use super::TIMEOUT;
use super::link::Link;
use crate::error::LogError;
use crate::log::Record;
use crate::log::reader::MAX_READ_BYTES;

/// Messages one question asks for, at most: the client throws away what an inbox has no room for.
const MAX_MESSAGES: usize = 16_000;

// How an answer ends: after its last message, or at once, because nothing is kept from `first` on or no stream is there.
const END_OF_BATCH: u16 = 204;
const NOTHING_THERE: u16 = 404;
const NOBODY_THERE: u16 = 503;

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
    let client = &link.client;
    let cut = |error| LogError::lost_because("the read was cut off", error);
    let inbox = client.new_inbox();
    let answers = client.subscribe(inbox.clone()).await;
    let answers = answers.map_err(|error| LogError::lost_because("no inbox", error))?;
    let batch = limit.min(MAX_MESSAGES);
    let question = json!({"seq": first, "batch": batch, "max_bytes": MAX_READ_BYTES}).to_string();
    let asked = client.publish_with_reply(subject.clone(), inbox, question.into());
    asked.await.map_err(cut)?;
    link.answer(&subject, collect(answers, unanswered)).await
}

async fn collect(mut answers: Subscriber, unanswered: String) -> Result<Vec<Record>, LogError> {
    let mut records = Vec::new();
    loop {
        let answer = timeout(TIMEOUT, answers.next()).await;
        let answer =
            answer.map_err(|_| LogError::lost("the broker did not answer a read in time"))?;
        let answer = answer.ok_or_else(|| LogError::lost("the connection was cut under a read"))?;
        match answer.status.map(|status| status.as_u16()) {
            None => records.push(record(answer)?),
            Some(END_OF_BATCH | NOTHING_THERE) => return Ok(records),
            Some(NOBODY_THERE) => {
                return Err(LogError::lost(unanswered));
            }
            Some(status) => {
                return Err(LogError::lost(format!(
                    "the broker answered a read with {status}"
                )));
            }
        }
    }
}

/// A direct answer and a live copy name the message's sequence and subject in their headers.
pub(super) fn record(answer: Message) -> Result<Record, LogError> {
    let header = |name| {
        answer
            .headers
            .as_ref()?
            .get(name)
            .map(|value| value.as_str())
    };
    let seq = header("Nats-Sequence").and_then(|seq| seq.parse().ok());
    match (seq, header("Nats-Subject")) {
        (Some(seq), Some(subject)) => Ok(Record {
            seq,
            subject: subject.to_owned(),
            bytes: answer.payload,
        }),
        _ => Err(LogError::lost("a message without its sequence")),
    }
}
