//! The network of one device, which can be taken away: its driver goes offline, and comes back.
//!
//! The driver is offline while a file of a known name lies in the data folder, which any shell can see to (`touch`, `rm`), or
//! while the simulated driver is out of reach. Whoever uses the file has the network for themselves for a while.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold_tests::Switch;
use tokio::sync::watch;
use tokio::time::sleep;

/// There until the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    switch: Switch,
    /// While it lies there, the driver is offline.
    file: PathBuf,
    on: watch::Sender<bool>,
    hands: Mutex<Hands>,
}

/// Who wants what.
#[derive(Debug, Default)]
struct Hands {
    /// The simulated driver is out of reach.
    away: bool,
    /// When somebody last used the file.
    by_hand: Option<Instant>,
}

/// How soon the file is noticed.
const LOOK: Duration = Duration::from_millis(100);
/// Whoever has used the file finds the network as they left it for so long.
const HANDS_OFF: Duration = Duration::from_secs(300);

impl Network {
    /// In front of this server. It is on; the file counts once it is watched.
    pub(super) fn before(server: SocketAddr, file: PathBuf) -> io::Result<Network> {
        let shared = Shared {
            switch: Switch::before(server)?,
            file,
            on: watch::Sender::new(true),
            hands: Mutex::default(),
        };
        Ok(Network {
            shared: Arc::new(shared),
        })
    }

    /// From now on the file counts.
    pub(super) fn watch_file(&self) {
        self.shared.look();
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            while let Some(shared) = shared.upgrade() {
                shared.look();
                drop(shared);
                sleep(LOOK).await;
            }
        });
    }

    /// Where orders-service seems to be.
    pub(super) fn url(&self) -> String {
        self.shared.switch.url()
    }

    pub(super) fn file(&self) -> &Path {
        &self.shared.file
    }

    pub(super) fn is_on(&self) -> bool {
        *self.shared.on.borrow()
    }

    pub(super) fn changes(&self) -> watch::Receiver<bool> {
        self.shared.on.subscribe()
    }

    /// For somebody who types instead of touching the file: the same thing.
    pub(super) fn turn(&self, on: bool) -> io::Result<()> {
        match on {
            false => fs::write(&self.shared.file, "")?,
            true => remove(&self.shared.file)?,
        }
        self.shared.hands().take(Instant::now());
        self.shared.look();
        Ok(())
    }

    /// For the simulation. False when somebody has the network for themselves, or had it a moment ago.
    pub(super) fn be_away(&self, away: bool) -> bool {
        self.shared.hands().be_away(away, Instant::now());
        self.shared.look();
        self.is_on() != away
    }
}

fn remove(file: &Path) -> io::Result<()> {
    fs::remove_file(file).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

impl Shared {
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Under one lock from the look to the turn, so that two looks at a time do not end with the older one.
    fn look(&self) {
        let mut hands = self.hands();
        let on = !hands.is_off(self.file.exists(), Instant::now());
        self.on.send_if_modified(|was| {
            let changed = std::mem::replace(was, on) != on;
            match on {
                true if changed => self.switch.on(),
                false if changed => self.switch.off(),
                _ => {}
            }
            changed
        });
    }
}

impl Hands {
    fn is_off(&mut self, file: bool, now: Instant) -> bool {
        if file {
            self.take(now);
        }
        file || self.away
    }

    fn take(&mut self, now: Instant) {
        self.away = false;
        self.by_hand = Some(now);
    }

    fn be_away(&mut self, away: bool, now: Instant) {
        let taken = |at: Instant| now.duration_since(at) < HANDS_OFF;
        self.away = away && !self.by_hand.is_some_and(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_tests::{eventually, seconds};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// Answers what it is sent with just that.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn network() -> (Network, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("driver-1.offline");
        let network = Network::before(echo().await, file).unwrap();
        (network, folder)
    }

    async fn answers(network: &Network) -> Result<(), String> {
        let address = network.url().replace("http://", "");
        let said = async {
            let mut wire = TcpStream::connect(address).await?;
            wire.write_all(b"?").await?;
            wire.read_u8().await
        };
        match said.await {
            Ok(b'?') => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    #[tokio::test]
    async fn a_file_takes_the_network_away_and_without_it_it_is_back() {
        let (network, _folder) = network().await;
        network.watch_file();
        answers(&network).await.expect("on");
        fs::write(network.file(), "").unwrap();
        eventually("offline", seconds(10), async || {
            match answers(&network).await {
                Ok(()) => Err("it answers"),
                Err(_) => Ok(()),
            }
        })
        .await;
        assert!(!network.is_on());
        fs::remove_file(network.file()).unwrap();
        eventually("online", seconds(10), async || answers(&network).await).await;
        assert!(network.is_on());
    }

    #[tokio::test]
    async fn a_file_that_lies_there_at_the_start_counts_once_it_is_watched() {
        let (network, _folder) = network().await;
        fs::write(network.file(), "").unwrap();
        answers(&network).await.expect("nobody looks yet");
        network.watch_file();
        assert!(!network.is_on());
        answers(&network).await.expect_err("offline");
    }

    #[tokio::test]
    async fn who_is_away_comes_back_and_who_uses_the_file_has_the_network_for_themselves() {
        let (network, _folder) = network().await;
        network.watch_file();
        assert!(network.be_away(true) && !network.is_on());
        assert!(network.be_away(false) && network.is_on());

        assert!(network.be_away(true));
        network.turn(true).unwrap();
        assert!(network.is_on(), "by hand counts more");
        assert!(!network.be_away(true), "and is not taken back");
        network.turn(false).unwrap();
        assert!(network.file().exists() && !network.is_on());
    }

    #[test]
    fn hands_are_off_for_a_while() {
        let (mut hands, now) = (Hands::default(), Instant::now());
        assert!(hands.is_off(true, now));
        hands.be_away(true, now + HANDS_OFF - LOOK);
        assert!(!hands.is_off(false, now + HANDS_OFF));
        hands.be_away(true, now + HANDS_OFF + LOOK);
        assert!(hands.is_off(false, now + HANDS_OFF + LOOK));
    }
}
