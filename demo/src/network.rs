//! The network of one device, which can be taken away: its driver goes offline, and comes back.
//!
//! The driver is offline while a file of a known name exists in the data folder (`touch`, `rm`), or while the simulated driver
//! is out of range.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_tests::Switch;

/// A switch in front of orders-service, and what turns it off.
#[derive(Debug)]
pub(crate) struct Network {
    switch: Switch,
    /// While it exists, the driver is offline.
    pub(crate) file: PathBuf,
    /// The simulated driver is out of range.
    pub(crate) out_of_range: AtomicBool,
}

impl Network {
    /// It is on; the file counts from the first [`Network::look`].
    pub(crate) fn before(server: SocketAddr, file: PathBuf) -> io::Result<Network> {
        Ok(Network {
            switch: Switch::before(server)?,
            file,
            out_of_range: AtomicBool::new(false),
        })
    }

    /// Where the device reaches orders-service.
    pub(crate) fn url(&self) -> String {
        self.switch.url()
    }

    pub(crate) fn is_on(&self) -> bool {
        self.switch.is_on()
    }

    /// Turns the switch to what it should be now. Answers whether it is on, if that is new. A person who uses the file wins:
    /// it ends the simulated trip.
    pub(crate) fn look(&self) -> Option<bool> {
        let by_hand = self.file.exists();
        if by_hand {
            self.out_of_range.store(false, Ordering::Relaxed);
        }
        let on = !by_hand && !self.out_of_range.load(Ordering::Relaxed);
        if on == self.is_on() {
            return None;
        }
        match on {
            true => self.switch.on(),
            false => self.switch.off(),
        }
        Some(on)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_file_takes_the_network_away_and_ends_a_simulated_trip() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("driver-1.offline");
        let network = Network::before(([127, 0, 0, 1], 1).into(), file.clone()).unwrap();
        assert!(network.is_on() && network.look().is_none());

        network.out_of_range.store(true, Ordering::Relaxed);
        assert_eq!((network.look(), network.look()), (Some(false), None));
        network.out_of_range.store(false, Ordering::Relaxed);
        assert_eq!(network.look(), Some(true));

        network.out_of_range.store(true, Ordering::Relaxed);
        fs::write(&file, "").unwrap();
        assert_eq!(network.look(), Some(false));
        fs::remove_file(&file).unwrap();
        assert_eq!((network.look(), network.is_on()), (Some(true), true));
    }

    #[test]
    fn a_file_from_an_earlier_run_counts_from_the_first_look() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let network = Network::before(([127, 0, 0, 1], 1).into(), file.path().into()).unwrap();
        assert!(network.is_on());
        assert_eq!(network.look(), Some(false));
    }
}
