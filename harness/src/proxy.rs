//! A proxy between a service and the broker that can lose an acknowledgement: the event is stored, but its owner gets no
//! answer.
//!
//! It reads both directions frame by frame. Armed, it lets the next event with a reply subject pass; from then on it returns
//! nothing, and once the broker's answer arrives, which proves that the event is stored, it cuts the connection.
//! Plain threads on purpose: a world is checked while the test's own runtime is blocked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::Value;

use crate::ports::Port;
use crate::wire::{Frame, Message, parse};

/// Listens until it is dropped. A connection ends when either side does.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    /// What the subject of an event begins with, `users.`; requests to JetStream begin with `$JS`.
    events: String,
    armed: AtomicU64,
    lost: Mutex<Vec<Value>>,
    closed: AtomicBool,
}

/// Of one connection: the reply subject of the answer to be lost.
type Awaited = Mutex<Option<String>>;

impl Proxy {
    /// To this broker, watching the events of this stream.
    pub fn start(server: SocketAddr, stream: &str) -> io::Result<Proxy> {
        let port = Port::any()?;
        let listener = TcpListener::bind(port.address())?;
        let shared = Arc::new(Shared {
            server,
            events: format!("{}.", stream.to_lowercase()),
            armed: AtomicU64::new(0),
            lost: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Proxy { port, shared })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Loses this many acknowledgements, each with its connection.
    pub fn lose_acks(&self, count: u64) {
        self.shared.armed.fetch_add(count, Ordering::SeqCst);
    }

    /// Those lost so far, with the bytes that the broker sent: each proves that its event, or its batch of `count`, is stored.
    pub fn lost_acks(&self) -> Vec<Value> {
        self.shared.lost().clone()
    }
}

/// The accepting thread waits in the kernel; one more connection wakes it.
impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.address());
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = shared.clone();
        // An error is a connection that has ended: both its ends see that for themselves.
        thread::spawn(move || connect(&client, &shared));
    }
}

/// Both directions of one connection, until either ends.
fn connect(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(shared.server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let awaited = Awaited::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            if forward_requests(client, &server, shared, &awaited).is_err() {
                let _ended = server.shutdown(Shutdown::Both);
            }
        });
        let ended = forward_answers(&server, client, shared, &awaited);
        let _ended = client.shutdown(Shutdown::Both);
        let _ended = server.shutdown(Shutdown::Both);
        ended
    })
}

/// Client to server. The event whose answer is awaited is the last thing that passes.
fn forward_requests(
    client: &TcpStream,
    mut server: &TcpStream,
    shared: &Shared,
    awaited: &Awaited,
) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut frame = Vec::new();
    loop {
        frame.clear();
        if client.read_until(b'\n', &mut frame)? == 0 {
            return server.shutdown(Shutdown::Write);
        }
        let publish = Publish::parse(&frame);
        let rest = publish.as_ref().map_or(0, |publish| publish.size + 2);
        client.by_ref().take(rest).read_to_end(&mut frame)?;
        let trapped = publish.and_then(|publish| shared.trap(publish));
        if let Some(reply) = trapped {
            // Noted before the event is sent, so the answer cannot slip past.
            *awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
            return server.write_all(&frame);
        }
        server.write_all(&frame)?;
    }
}

/// Server to client. Ends with the answer that is to be lost.
fn forward_answers(
    mut server: &TcpStream,
    mut client: &TcpStream,
    shared: &Shared,
    awaited: &Awaited,
) -> io::Result<()> {
    let mut received = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = server.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        received.extend_from_slice(&chunk[..read]);
        while let Some((frame, length)) = parse(&received).map_err(io::Error::other)? {
            let expected = awaited.lock().unwrap_or_else(PoisonError::into_inner);
            match (expected.as_deref(), frame) {
                (None, _) => client.write_all(&received[..length])?,
                (Some(reply), Frame::Message(answer)) if answer.subject == reply => {
                    shared.lost().extend(acknowledgement(&answer));
                    return Ok(());
                }
                _ => {}
            }
            drop(expected);
            received.drain(..length);
        }
    }
}

/// A refusal is an answer, too, but it stores nothing.
fn acknowledgement(answer: &Message) -> Option<Value> {
    let json: Value = serde_json::from_slice(&answer.payload).ok()?;
    (json["seq"].is_u64() && json.get("error").is_none()).then_some(json)
}

impl Shared {
    fn lost(&self) -> MutexGuard<'_, Vec<Value>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reply subject of this publish, if its answer is to be lost.
    fn trap(&self, publish: Publish) -> Option<String> {
        let reply = publish.reply?;
        let is_event = publish.subject.starts_with(&self.events);
        let one_less = |armed: u64| armed.checked_sub(1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        (is_event && self.armed.fetch_update(set, fetch, one_less).is_ok()).then_some(reply)
    }
}

/// The first line of `PUB subject [reply] size` or `HPUB subject [reply] header-size size`.
#[derive(Debug, PartialEq, Eq)]
struct Publish {
    subject: String,
    reply: Option<String>,
    /// Headers and payload, without the line end after them.
    size: u64,
}

impl Publish {
    fn parse(line: &[u8]) -> Option<Publish> {
        let line = std::str::from_utf8(line).ok()?;
        let words: Vec<_> = line.split_whitespace().collect();
        let sizes = match words.first()?.to_uppercase().as_str() {
            "PUB" => 1,
            "HPUB" => 2,
            _ => return None,
        };
        let reply = (words.len() > 2 + sizes).then(|| words[2].to_owned());
        Some(Publish {
            subject: (*words.get(1)?).to_owned(),
            reply,
            size: words.last()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_distinguishes_events_with_a_reply_subject_from_other_frames() {
        let shared = Shared {
            server: ([127, 0, 0, 1], 1).into(),
            events: "users.".to_owned(),
            armed: AtomicU64::new(1),
            lost: Mutex::default(),
            closed: AtomicBool::new(false),
        };
        let trap = |line: &str| shared.trap(Publish::parse(line.as_bytes())?);
        assert_eq!(trap("PING\r\n"), None);
        assert_eq!(trap("SUB users.> 1\r\n"), None);
        assert_eq!(trap("PUB $JS.API.STREAM.INFO.USERS _INBOX.1 0\r\n"), None);
        assert_eq!(trap("HPUB users.t.created 20 30\r\n"), None, "unanswered");
        let event = "HPUB users.t.created _INBOX.2 20 30\r\n";
        assert_eq!(trap(event).as_deref(), Some("_INBOX.2"));
        assert_eq!(trap(event), None, "it was armed once");
    }

    #[test]
    fn a_payload_is_as_long_as_its_line_says() {
        let size = |line: &str| Publish::parse(line.as_bytes()).map(|publish| publish.size);
        assert_eq!(size("PUB a 7\r\n"), Some(7));
        assert_eq!(size("PUB a b 7\r\n"), Some(7));
        assert_eq!(size("HPUB a 12 34\r\n"), Some(34));
        assert_eq!(size("CONNECT {}\r\n"), None);
    }
}
