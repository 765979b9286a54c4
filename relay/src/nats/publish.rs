//! Publishing at a sequence: each message names the one before it, and the broker refuses it anywhere else.

use async_nats::jetstream::{ErrorCode, response::Response};
use async_nats::{HeaderMap, StatusCode, Subscriber};
use serde::Deserialize;

use super::direct;
use super::link::Link;
use crate::error::LogError;
use crate::log::{Head, Record, check_next};

/// From this many rows on a batch is faster: it costs the broker one flush, and a little more besides.
const BATCH_FROM: usize = 16;
/// Messages in one atomic batch, at most: the broker's limit.
const MAX_BATCH: usize = 1000;
/// Batches on their way at a time: the broker gathers the next ones while it flushes one.
const BATCHES_IN_FLIGHT: usize = 4;
/// Messages on their way at a time, where the stream takes no batches.
const MESSAGES_IN_FLIGHT: usize = 500;

pub(super) struct Publisher {
    link: Link,
    root: String,
    /// One subscription for all answers of the session; the last word of each subject is the sequence it is for.
    inbox: String,
    answers: Subscriber,
    /// Whether the stream takes atomic batches.
    pub(super) batches: bool,
}

/// An acknowledgement.
#[derive(Deserialize)]
struct Stored {
    seq: u64,
}

impl Publisher {
    pub(super) async fn new(link: Link, stream: &str) -> Result<Self, LogError> {
        let inbox = link.client.new_inbox();
        Ok(Self {
            answers: link.subscribe(format!("{inbox}.*")).await?,
            link,
            root: stream.to_lowercase(),
            inbox,
            batches: false,
        })
    }

    /// Keeps a few messages or batches on their way until everything is sent and answered. An error leaves answers
    /// on their way too, so it ends the session.
    pub(super) async fn append_after(
        &mut self,
        head: &Head,
        records: &[Record],
    ) -> Result<Head, LogError> {
        check_next(head, records)?;
        let in_batches = self.batches && records.len() >= BATCH_FROM;
        let (chunk_size, window) = match in_batches {
            true => (MAX_BATCH, BATCHES_IN_FLIGHT),
            false => (1, MESSAGES_IN_FLIGHT),
        };
        let (mut last, mut awaited) = (head.seq, 0);
        for chunk in records.chunks(chunk_size) {
            if awaited == window {
                self.await_answer().await?;
                awaited -= 1;
            }
            self.send(last, &head.incarnation, chunk).await?;
            last += chunk.len() as u64;
            awaited += 1;
        }
        for _ in 0..awaited {
            self.await_answer().await?;
        }
        Ok(Head {
            seq: last,
            ..head.clone()
        })
    }

    /// One message alone, or several as one atomic batch; only the last asks for an answer.
    async fn send(&self, last: u64, token: &str, chunk: &[Record]) -> Result<(), LogError> {
        let batch_id = nuid::next();
        for (index, record) in (1..).zip(chunk) {
            let (is_last, in_batch) = (index == chunk.len(), chunk.len() > 1);
            let mut headers = HeaderMap::new();
            headers.insert("Content-Type", "application/cloudevents+json");
            if index == 1 {
                headers.insert("Nats-Expected-Last-Sequence", last.to_string());
            }
            if in_batch {
                headers.insert("Nats-Batch-Id", batch_id.as_str());
                headers.insert("Nats-Batch-Sequence", index.to_string());
            }
            if in_batch && is_last {
                headers.insert("Nats-Batch-Commit", "1");
            }
            let (client, bytes) = (&self.link.client, record.bytes.clone());
            let subject = self.subject(token, record);
            let sent = match is_last {
                true => {
                    let reply = format!("{}.{}", self.inbox, record.seq);
                    client
                        .publish_with_reply_and_headers(subject, reply, headers, bytes)
                        .await
                }
                false => client.publish_with_headers(subject, headers, bytes).await,
            };
            sent.map_err(|error| LogError::disconnected_by("the publish was cut off", error))?;
        }
        Ok(())
    }

    /// `users.created` goes in through `users.<token>.created`: a writer that has not seen this incarnation cannot publish.
    fn subject(&self, token: &str, record: &Record) -> String {
        let rest = record.subject.strip_prefix(&self.root).unwrap_or_default();
        format!("{}.{token}{rest}", self.root)
    }

    /// An acknowledgement counts only if it names the very sequence that was meant.
    async fn await_answer(&mut self) -> Result<(), LogError> {
        let subjects = format!("{}.>", self.root);
        let answer = direct::next(&mut self.answers, "publish");
        let answer = self.link.answer(&subjects, answer).await?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(LogError::disconnected(
                "no stream takes this subject: it is gone or was recreated",
            ));
        }
        let wanted = answer
            .subject
            .rsplit('.')
            .next()
            .and_then(|seq| seq.parse().ok());
        let error = match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok(Stored { seq })) if Some(seq) == wanted => return Ok(()),
            Ok(Response::Ok(Stored { seq })) => {
                let why = format!("the broker stored at {seq} what belongs at {wanted:?}");
                return Err(LogError::disconnected(why));
            }
            Ok(Response::Err { error }) => error,
            Err(error) => {
                let why = "the broker's answer cannot be read";
                return Err(LogError::disconnected_by(why, error));
            }
        };
        Err(match error.error_code() {
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE
            | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                LogError::Refused(error.to_string())
            }
            _ => LogError::disconnected(format!("the broker refused a publish: {error}")),
        })
    }
}
