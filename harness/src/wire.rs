//! A NATS client of a few hundred lines that sends on the wire exactly what a test tells it to.
//!
//! It logs in as any user, publishes with any reply subject and any header, and keeps every refusal: enough to act as an honest
//! observer or a hostile service. It is no client for production: one task, no reconnect, no pings of its own.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::chance;

/// One connection, logged in.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    inbox: String,
    last_number: u64,
    /// Messages not taken yet, in their order of arrival.
    pub messages: VecDeque<Message>,
    /// Every `-ERR` since the last look, without its quotes.
    pub errors: Vec<String>,
    /// The server's INFO when we connected.
    pub server: Value,
}

/// A user, its password, and the prefix of the inbox that it may subscribe to.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user at the broker.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The prefix of the subjects on which it gets answers.
    pub inbox: String,
}

/// A received message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub subject: String,
    /// Where an answer is expected.
    pub reply: Option<String>,
    /// The number in the first header line: 503 is "no responders", 204 the end of a batch.
    pub status: Option<u16>,
    /// Names and values, in their order.
    pub headers: Vec<(String, String)>,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// What to publish; only the subject is required.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Where it goes.
    pub subject: String,
    /// Where an answer is expected.
    pub reply: Option<String>,
    /// Names and values, in their order.
    pub headers: Vec<(String, String)>,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Loopback: an answer that takes longer will not come.
pub const PATIENCE: Duration = Duration::from_secs(10);

impl Wire {
    /// Connects and logs in; a wrong password is an error here.
    pub async fn connect(address: SocketAddr, login: &Login) -> Result<Wire> {
        let dialled = timeout(PATIENCE, TcpStream::connect(address))
            .await
            .context("the broker does not answer")?;
        let stream = dialled.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let inbox = format!("{}.{:016x}", login.inbox, chance::number());
        let mut wire = Wire {
            stream,
            received: Vec::with_capacity(64 * 1024),
            inbox,
            last_number: 0,
            messages: VecDeque::new(),
            errors: Vec::new(),
            server: Value::Null,
        };
        wire.log_in(login).await?;
        Ok(wire)
    }

    async fn log_in(&mut self, login: &Login) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.server.is_null() {
            self.read_one(end).await?;
        }
        let hello = json!({
            "user": login.user, "pass": login.password, "name": "freehold-tests", "lang": "rust", "version": "0",
            "protocol": 1, "headers": true, "no_responders": true, "verbose": false, "pedantic": false, "echo": true,
        });
        // In one piece: after a refusal the server closes, and unread input would turn its message into a reset.
        self.send(format!("CONNECT {hello}\r\nPING\r\n").as_bytes())
            .await?;
        self.until_pong().await?;
        self.first_error()?;
        self.send(format!("SUB {}.* 1\r\n", self.inbox).as_bytes())
            .await?;
        self.flush().await?;
        self.first_error()
    }

    /// Sends it without waiting.
    pub async fn publish(&mut self, out: &Outgoing) -> Result<()> {
        self.send(&encode(out)).await
    }

    /// Subscribes; messages arrive in `messages`, a refusal in `errors`.
    pub async fn subscribe(&mut self, subject: &str) -> Result<()> {
        self.last_number += 1;
        // Number 1 is the inbox; the answers to requests come with it.
        let line = format!("SUB {subject} {}\r\n", self.last_number + 1);
        self.send(line.as_bytes()).await
    }

    /// Returns once the server has processed everything we sent: then every refusal has arrived.
    pub async fn flush(&mut self) -> Result<()> {
        self.send(b"PING\r\n").await?;
        self.until_pong().await
    }

    async fn until_pong(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.read_one(end).await? != Seen::Pong {}
        Ok(())
    }

    /// Reads for this long. To show that nothing arrives there is no event to wait for.
    pub async fn listen(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            match self.read_one(end).await {
                Ok(_) => {}
                Err(_) if Instant::now() >= end => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next message of any subscription, if one comes in time.
    pub async fn next_message(&mut self, deadline: Duration) -> Option<Message> {
        self.until_message(deadline).await.ok()?;
        self.messages.pop_front()
    }

    /// Waits until `messages` holds one.
    pub async fn until_message(&mut self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        while self.messages.is_empty() {
            self.read_one(end).await?;
        }
        Ok(())
    }

    /// One request, one answer. A refusal or "no responders" is an error.
    pub async fn request(&mut self, subject: &str, payload: &[u8]) -> Result<Message> {
        let reply = self.ask(subject, payload).await?;
        self.answer_to(&reply, subject).await
    }

    /// One request, many answers: reads until `is_last` says so of one (which is not returned).
    pub async fn request_many(
        &mut self,
        subject: &str,
        payload: &[u8],
        is_last: impl Fn(&Message) -> bool,
    ) -> Result<Vec<Message>> {
        let reply = self.ask(subject, payload).await?;
        let mut answers = Vec::new();
        loop {
            let message = self.answer_to(&reply, subject).await?;
            if is_last(&message) {
                return Ok(answers);
            }
            answers.push(message);
        }
    }

    /// A request whose answer is JSON; JetStream's `error` in it becomes an error of ours.
    pub async fn request_json(&mut self, subject: &str, question: &Value) -> Result<Value> {
        let payload = if question.is_null() {
            Vec::new()
        } else {
            question.to_string().into_bytes()
        };
        let message = self.request(subject, &payload).await?;
        let answer: Value = serde_json::from_slice(&message.payload)
            .with_context(|| format!("{subject} answers no JSON"))?;
        match answer.get("error") {
            Some(error) => bail!("{subject} answers {error}"),
            None => Ok(answer),
        }
    }

    /// A fresh reply subject inside our own inbox.
    pub fn new_reply(&mut self) -> String {
        self.last_number += 1;
        format!("{}.{}", self.inbox, self.last_number)
    }

    async fn ask(&mut self, subject: &str, payload: &[u8]) -> Result<String> {
        let reply = self.new_reply();
        let out = Outgoing {
            subject: subject.to_owned(),
            reply: Some(reply.clone()),
            payload: payload.to_vec(),
            ..Outgoing::default()
        };
        self.publish(&out).await?;
        Ok(reply)
    }

    async fn answer_to(&mut self, reply: &str, subject: &str) -> Result<Message> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(place) = self
                .messages
                .iter()
                .position(|message| message.subject == reply)
            {
                let message = self.messages.remove(place).expect("just found");
                return if message.status == Some(503) {
                    Err(anyhow!("no responders for {subject}"))
                } else {
                    Ok(message)
                };
            }
            self.first_error()?;
            self.read_one(end)
                .await
                .with_context(|| format!("no answer from {subject}"))?;
        }
    }

    fn first_error(&mut self) -> Result<()> {
        match self.errors.is_empty() {
            true => Ok(()),
            false => bail!("the broker says: {}", self.errors.remove(0)),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes))
            .await
            .context("the broker does not read")?
            .context("cannot send")
    }

    /// Processes one frame.
    async fn read_one(&mut self, end: Instant) -> Result<Seen> {
        let frame = self.next_frame(end).await?;
        match frame {
            Frame::Info(info) => self.server = info,
            Frame::Ping => self.send(b"PONG\r\n").await?,
            Frame::Pong => return Ok(Seen::Pong),
            Frame::Error(error) => self.errors.push(error),
            Frame::Message(message) => self.messages.push_back(message),
            Frame::Ok => {}
        }
        Ok(Seen::Other)
    }

    async fn next_frame(&mut self, end: Instant) -> Result<Frame> {
        loop {
            if let Some((frame, length)) = parse(&self.received)? {
                self.received.drain(..length);
                return Ok(frame);
            }
            let read = timeout_at(end, self.stream.read_buf(&mut self.received))
                .await
                .context("the broker is silent")??;
            if read == 0 {
                bail!(
                    "the broker closed the connection {}",
                    self.errors.join(", ")
                );
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Seen {
    Pong,
    Other,
}

impl Message {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

impl Outgoing {
    /// An empty message.
    pub fn to(subject: &str) -> Outgoing {
        Outgoing {
            subject: subject.to_owned(),
            ..Outgoing::default()
        }
    }

    /// Asks for an answer there.
    #[must_use]
    pub fn reply(mut self, subject: &str) -> Outgoing {
        self.reply = Some(subject.to_owned());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Outgoing {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the bytes.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Outgoing {
        self.payload = payload.into();
        self
    }
}

/// `PUB subject [reply] size` or, with headers, `HPUB subject [reply] header-size size`.
fn encode(out: &Outgoing) -> Vec<u8> {
    let subjects = [Some(out.subject.as_str()), out.reply.as_deref()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ");
    let headers = encode_headers(&out.headers);
    let mut bytes = if headers.is_empty() {
        format!("PUB {subjects} {}\r\n", out.payload.len()).into_bytes()
    } else {
        format!(
            "HPUB {subjects} {} {}\r\n{headers}",
            headers.len(),
            headers.len() + out.payload.len()
        )
        .into_bytes()
    };
    bytes.extend_from_slice(&out.payload);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn encode_headers(headers: &[(String, String)]) -> String {
    if headers.is_empty() {
        return String::new();
    }
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("NATS/1.0\r\n{lines}\r\n")
}

#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    Info(Value),
    Ping,
    Pong,
    Ok,
    Error(String),
    Message(Message),
}

/// The first frame in `bytes` and its length, or nothing while it is not whole.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Frame, usize)>> {
    let Some(line_end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let line = std::str::from_utf8(&bytes[..line_end]).context("a line that is no text")?;
    let body = line_end + 2;
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let frame = match word {
        "INFO" => Frame::Info(serde_json::from_str(rest).context("an INFO that is no JSON")?),
        "PING" => Frame::Ping,
        "PONG" => Frame::Pong,
        "+OK" => Frame::Ok,
        "-ERR" => Frame::Error(rest.trim_matches('\'').to_owned()),
        "MSG" | "HMSG" => return parse_message(word == "HMSG", rest, bytes, body),
        other => bail!("a frame we do not know: {other:?}"),
    };
    Ok(Some((frame, body)))
}

/// `MSG subject sid [reply] size` or `HMSG subject sid [reply] header-size size`, then as many bytes.
fn parse_message(
    with_headers: bool,
    rest: &str,
    bytes: &[u8],
    body: usize,
) -> Result<Option<(Frame, usize)>> {
    let words: Vec<_> = rest.split_whitespace().collect();
    let numbers = if with_headers { 2 } else { 1 };
    if words.len() < 2 + numbers {
        bail!("a message line with too few words: {rest:?}");
    }
    let number = |from_the_end: usize| {
        words[words.len() - from_the_end]
            .parse::<usize>()
            .context("a size that is no number")
    };
    let size = number(1)?;
    let headers_size = if with_headers { number(2)? } else { 0 };
    if bytes.len() < body + size + 2 {
        return Ok(None);
    }
    let (status, headers) = parse_headers(&bytes[body..body + headers_size]);
    let message = Message {
        subject: words[0].to_owned(),
        reply: (words.len() > 2 + numbers).then(|| words[2].to_owned()),
        status,
        headers,
        payload: bytes[body + headers_size..body + size].to_vec(),
    };
    Ok(Some((Frame::Message(message), body + size + 2)))
}

/// `NATS/1.0 [status text]`, then `Name: value` lines.
fn parse_headers(bytes: &[u8]) -> (Option<u16>, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|first| first.split(' ').nth(1))
        .and_then(|status| status.parse().ok());
    let pairs = lines.filter_map(|line| line.split_once(':'));
    (
        status,
        pairs
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> Message {
        match parse(bytes).unwrap() {
            Some((Frame::Message(message), length)) => {
                assert_eq!(length, bytes.len());
                message
            }
            other => panic!("no message: {other:?}"),
        }
    }

    #[test]
    fn it_reads_messages_with_and_without_reply_and_headers() {
        let plain = message(b"MSG users.created 2 5\r\nhello\r\n");
        assert_eq!(
            (plain.subject.as_str(), plain.text().as_str(), plain.reply),
            ("users.created", "hello", None)
        );
        let reply = message(b"MSG a 2 b.c 0\r\n\r\n");
        assert_eq!(reply.reply.as_deref(), Some("b.c"));
        let headers = message(b"HMSG a 1 30 32\r\nNATS/1.0\r\nNats-Sequence: 7\r\n\r\nhi\r\n");
        assert_eq!(
            (
                headers.header("nats-sequence"),
                headers.text().as_str(),
                headers.status
            ),
            (Some("7"), "hi", None)
        );
        let status = message(b"HMSG a 1 b 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
        assert_eq!(
            (status.status, status.reply.as_deref()),
            (Some(503), Some("b"))
        );
    }

    #[test]
    fn half_a_frame_is_waited_for_and_a_payload_may_hold_line_ends() {
        let whole = b"MSG a 1 4\r\n\r\n\r\n\r\n";
        assert_eq!(message(whole).payload, b"\r\n\r\n");
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]).unwrap(), None, "cut at {cut}");
        }
    }

    #[test]
    fn errors_lose_their_quotes_and_nonsense_is_refused() {
        let (frame, _) = parse(b"-ERR 'Authorization Violation'\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(frame, Frame::Error("Authorization Violation".to_owned()));
        assert!(parse(b"HTTP/1.1 200\r\n").is_err());
        assert!(parse(b"MSG a\r\n").is_err());
    }

    #[test]
    fn sent_frames_state_their_sizes() {
        let plain = Outgoing::to("users.x").reply("y").payload("abc");
        assert_eq!(encode(&plain), b"PUB users.x y 3\r\nabc\r\n");
        let headers = Outgoing::to("a").header("K", "v").payload("abc");
        assert_eq!(
            encode(&headers),
            b"HPUB a 18 21\r\nNATS/1.0\r\nK: v\r\n\r\nabc\r\n"
        );
    }
}
