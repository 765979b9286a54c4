//! The network between a device and orders-service, with a switch: on, off, or so bad that requests arrive but no answer
//! comes back.
//!
//! Plain threads, as in `proxy`: a world is dropped while the test's own runtime is blocked.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::ports::Port;

/// Listens until it is dropped. It is on at first.
#[derive(Debug)]
pub struct Switch {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Network {
    #[default]
    On,
    /// Connections are closed as soon as they are opened.
    Off,
    /// Requests arrive; the first byte of an answer ends the connection.
    Deaf,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    swallowed: AtomicU64,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    network: Network,
    /// Both ends of each connection, so that it can be cut.
    connections: Vec<[TcpStream; 2]>,
}

impl Switch {
    /// In front of this server.
    pub fn before(server: SocketAddr) -> io::Result<Switch> {
        let port = Port::any()?;
        let listener = TcpListener::bind(port.address())?;
        let shared = Arc::new(Shared {
            server,
            state: Mutex::default(),
            swallowed: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Switch { port, shared })
    }

    /// The server's address for the client.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The network works from now on.
    pub fn on(&self) {
        self.turn(Network::On);
    }

    /// Cuts every connection, and each new one at once.
    pub fn off(&self) {
        self.turn(Network::Off);
    }

    /// From now on answers are lost, also those to requests in flight.
    pub fn lose_answers(&self) {
        self.turn(Network::Deaf);
    }

    /// Whether it works.
    pub fn is_on(&self) -> bool {
        self.shared.state().network == Network::On
    }

    /// Answers lost so far: each proves that its request had arrived.
    pub fn lost_answers(&self) -> u64 {
        self.shared.swallowed.load(Ordering::SeqCst)
    }

    fn turn(&self, network: Network) {
        let mut state = self.shared.state();
        state.network = network;
        if network == Network::Off {
            state.connections.drain(..).for_each(cut);
        }
    }
}

/// The accepting thread waits in the kernel; one more connection wakes it.
impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.off();
        let _woken = TcpStream::connect(self.port.address());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection, or refuses it: both under one lock, so that none escapes `off`.
    fn admit(&self, ends: [TcpStream; 2]) -> bool {
        let mut state = self.state();
        let open = |[client, _]: &[TcpStream; 2]| client.peer_addr().is_ok();
        state.connections.retain(open);
        match state.network {
            Network::Off => {
                cut(ends);
                false
            }
            Network::On | Network::Deaf => {
                state.connections.push(ends);
                true
            }
        }
    }
}

fn cut([client, server]: [TcpStream; 2]) {
    let _ended = client.shutdown(Shutdown::Both);
    let _ended = server.shutdown(Shutdown::Both);
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
    if shared.state().network == Network::Off {
        return client.shutdown(Shutdown::Both);
    }
    let server = TcpStream::connect(shared.server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    if !shared.admit([client.try_clone()?, server.try_clone()?]) {
        return Ok(());
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ended = io::copy(&mut &*client, &mut &server);
            let _ended = server.shutdown(Shutdown::Both);
        });
        let ended = forward_answers(&server, client, shared);
        let _ended = client.shutdown(Shutdown::Both);
        let _ended = server.shutdown(Shutdown::Both);
        ended
    })
}

fn forward_answers(
    mut server: &TcpStream,
    mut client: &TcpStream,
    shared: &Shared,
) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = server.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        if shared.state().network == Network::Deaf {
            shared.swallowed.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        client.write_all(&chunk[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with itself; reports what it has received.
    fn echo() -> (SocketAddr, std::sync::mpsc::Receiver<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (heard, hear) = std::sync::mpsc::channel();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, heard) = (client.unwrap(), heard.clone());
                thread::spawn(move || {
                    let mut byte = [0];
                    while client.read_exact(&mut byte).is_ok() {
                        heard.send(byte[0]).unwrap();
                        let _gone = client.write_all(&byte);
                    }
                });
            }
        });
        (address, hear)
    }

    fn connected(switch: &Switch) -> TcpStream {
        TcpStream::connect(switch.port.address()).unwrap()
    }

    fn say(connection: &mut TcpStream, byte: u8) -> io::Result<u8> {
        let mut answer = [byte];
        connection.write_all(&answer)?;
        connection.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    #[test]
    fn off_cuts_every_connection_and_on_admits_new_ones() {
        let (server, _heard) = echo();
        let switch = Switch::before(server).unwrap();
        let mut before = connected(&switch);
        assert_eq!(say(&mut before, 1).unwrap(), 1);
        switch.off();
        say(&mut before, 2).expect_err("cut");
        say(&mut connected(&switch), 3).expect_err("refused");
        switch.on();
        assert_eq!(say(&mut connected(&switch), 4).unwrap(), 4);
    }

    #[test]
    fn a_lost_answer_belongs_to_a_request_that_arrived() {
        let (server, heard) = echo();
        let switch = Switch::before(server).unwrap();
        switch.lose_answers();
        say(&mut connected(&switch), 7).expect_err("no answer");
        assert_eq!((heard.recv().unwrap(), switch.lost_answers()), (7, 1));
    }
}
