//! Loopback ports that stay reserved, even while the child that uses one is down.
//!
//! They are **below** the system's range of client ports: a client that keeps dialling a dead port of that range can be given
//! that same port, connect to itself, and prevent our child from binding it again.
//! A lease (a locked file in the user's cache) keeps other Freehold processes away while nothing is bound.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::time::Duration;

use crate::{chance, paths};

/// Below Linux' client range (32768 and up), macOS' (49152 and up), and above the usual ports of services.
const RANGE: Range<u16> = 15000..32000;
/// With thousands of free ports the first tries succeed; this ends the search on a machine without any.
const TRIES: usize = 500;

/// A loopback port and its lease, which ends when it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lease: File,
}

impl Port {
    /// A free port of our range.
    pub fn any() -> io::Result<Port> {
        (0..TRIES)
            .find_map(|_| Port::exactly(chance::in_range(RANGE)).ok())
            .ok_or_else(|| {
                io::Error::other(format!(
                    "no free port found in {RANGE:?} after {TRIES} tries"
                ))
            })
    }

    /// This port, or why not.
    pub fn exactly(number: u16) -> io::Result<Port> {
        let lease = lease(number)?;
        if !is_free(number) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("port {number} is in use by another program"),
            ));
        }
        Ok(Port {
            number,
            _lease: lease,
        })
    }

    /// This port when it is free, else any.
    pub fn preferably(number: u16) -> io::Result<Port> {
        Port::exactly(number).or_else(|_| Port::any())
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// On this machine, for IPv4.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

fn lease(number: u16) -> io::Result<File> {
    let folder = paths::cache().join("ports");
    fs::create_dir_all(&folder)?;
    let file = File::create(folder.join(format!("{number}.lock")))?;
    let held = || {
        io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("port {number} is held by another Freehold process"),
        )
    };
    file.try_lock().map_err(|_| held())?;
    Ok(file)
}

/// Binding alone is not enough on macOS, where a listener on all addresses does not keep us from binding one of them.
fn is_free(number: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
    TcpListener::bind(address).is_ok()
        && TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_leased_once_and_free_again_when_dropped() {
        let port = Port::any().expect("a free port");
        assert!(RANGE.contains(&port.number()));
        assert!(
            Port::exactly(port.number()).is_err(),
            "the lease keeps others away though nothing is bound"
        );
        let number = port.number();
        drop(port);
        Port::exactly(number).expect("free again");
    }

    #[test]
    fn a_port_with_a_listener_is_taken() {
        let port = Port::any().expect("a free port");
        let number = port.number();
        drop(port);
        let _listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).expect("we can listen");
        let refusal = Port::exactly(number).expect_err("there is a listener");
        assert!(
            refusal.to_string().contains("in use by another program"),
            "{refusal}"
        );
        assert_ne!(
            Port::preferably(number).expect("another one").number(),
            number
        );
    }
}
