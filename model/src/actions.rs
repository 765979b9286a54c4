//! What can happen, one call on the product each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of at most two processes that write with the same identity: 0 or 1.
pub type Who = u8;

/// A step of the protocol, of the world around it, or of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    // The service.
    /// `Database::write` with one event, acknowledged.
    Commit(Who),
    /// The service opens for writes before it has seen the stream.
    Open(Who),
    /// The outbox drops rows that the stream no longer keeps.
    Prune(Who),

    // The relay.
    /// Is the stream a copy of this outbox? At a new connection, or on the timer.
    Contact(Who),
    /// The next row, by a verified connection.
    Publish(Who),
    /// A publish of a connection that is gone arrives after all (only without rule S3).
    Land(Who),

    // The consumer.
    /// Connects, or repeats the check on a timer.
    KConn,
    /// Reads and applies one event.
    KApply,
    /// Stores the position apart from the effect (only without rule K1).
    KSave,
    /// Asks a producer whether its log holds the position.
    KAsk(Who),
    /// Reports a fork and loads a snapshot.
    KFork(Who),
    /// Loads a snapshot because the stream is trimmed.
    KSnap(Who),

    // Copies that a fault may bring back later.
    /// Backs up a writer's outbox file.
    PBak(Who),
    /// Copies the broker's store.
    SBak,
    /// Backs up the consumer's file.
    KBak,

    // Faults.
    /// W: the broker loses its disk.
    Wipe,
    /// T: the broker loses this many last messages.
    LoseTail(u8),
    /// S: the broker comes back with an older copy of its store.
    OldBroker,
    /// D: the stream is deleted through the API; connections live on.
    Delete,
    /// t: the stream drops all messages before this number.
    Trim(u8),
    /// P: a writer's file is replaced by the backup, marked as restored.
    Restore(Who),
    /// u: the same, unnoticed by the service.
    RestoreUnknown(Who),
    /// K: the same, but the old process goes on with the file it has open: a stale relay.
    Stale,
    /// C: the machine is cloned; the clone starts from a copy of the file.
    Clone,
    /// c: the consumer's file is replaced by its backup.
    RestoreConsumer,
    /// R: a service process restarts.
    Restart(Who),

    // The operator.
    /// `adopt-stream`: the local tail is set aside, the stream's takes its place.
    Adopt(Who),
    /// `new-epoch`: the stream's foreign tail is set aside, the stream is made anew from this outbox.
    New(Who),
    /// The other writer is stopped for good.
    Kill(Who),
}

/// The kinds of faults, named by the letters of the first model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Wipe,
    LoseTail,
    OldBroker,
    Delete,
    Trim,
    Restore,
    RestoreUnknown,
    Stale,
    Clone,
    RestoreConsumer,
    Restart,
}

impl Fault {
    /// The fault of a letter; a letter that names none is a mistake in the table of bounds.
    pub(crate) const fn from_letter(letter: u8) -> Self {
        match letter {
            b'W' => Self::Wipe,
            b'T' => Self::LoseTail,
            b'S' => Self::OldBroker,
            b'D' => Self::Delete,
            b't' => Self::Trim,
            b'P' => Self::Restore,
            b'u' => Self::RestoreUnknown,
            b'K' => Self::Stale,
            b'C' => Self::Clone,
            b'c' => Self::RestoreConsumer,
            b'R' => Self::Restart,
            _ => panic!("no fault has this letter"),
        }
    }
}

impl Action {
    pub fn fault(self) -> Option<Fault> {
        Some(match self {
            Self::Wipe => Fault::Wipe,
            Self::LoseTail(_) => Fault::LoseTail,
            Self::OldBroker => Fault::OldBroker,
            Self::Delete => Fault::Delete,
            Self::Trim(_) => Fault::Trim,
            Self::Restore(_) => Fault::Restore,
            Self::RestoreUnknown(_) => Fault::RestoreUnknown,
            Self::Stale => Fault::Stale,
            Self::Clone => Fault::Clone,
            Self::RestoreConsumer => Fault::RestoreConsumer,
            Self::Restart(_) => Fault::Restart,
            _ => return None,
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The text is none that an action prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAction(String);

impl FromStr for Action {
    type Err = UnknownAction;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        let text = text.trim();
        let unknown = || UnknownAction(text.to_owned());
        let (name, number) = match text.strip_suffix(')').map(|rest| rest.split_once('(')) {
            None => (text, None),
            Some(Some((name, number))) => (name, number.parse().ok()),
            Some(None) => return Err(unknown()),
        };
        let action = match number {
            None => Self::plain(name),
            Some(number) => Self::numbered(name, number),
        };
        action.ok_or_else(unknown)
    }
}

impl Action {
    fn plain(name: &str) -> Option<Self> {
        let plain = [
            Self::KConn,
            Self::KApply,
            Self::KSave,
            Self::SBak,
            Self::KBak,
            Self::Wipe,
            Self::OldBroker,
            Self::Delete,
            Self::Stale,
            Self::Clone,
            Self::RestoreConsumer,
        ];
        plain.into_iter().find(|action| action.to_string() == name)
    }

    fn numbered(name: &str, number: u8) -> Option<Self> {
        let make: fn(u8) -> Self = match name {
            "Commit" => Self::Commit,
            "Open" => Self::Open,
            "Prune" => Self::Prune,
            "Contact" => Self::Contact,
            "Publish" => Self::Publish,
            "Land" => Self::Land,
            "KAsk" => Self::KAsk,
            "KFork" => Self::KFork,
            "KSnap" => Self::KSnap,
            "PBak" => Self::PBak,
            "LoseTail" => Self::LoseTail,
            "Trim" => Self::Trim,
            "Restore" => Self::Restore,
            "RestoreUnknown" => Self::RestoreUnknown,
            "Restart" => Self::Restart,
            "Adopt" => Self::Adopt,
            "New" => Self::New,
            "Kill" => Self::Kill,
            _ => return None,
        };
        Some(make(number))
    }
}

impl fmt::Display for UnknownAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no action is called {:?}", self.0)
    }
}

impl std::error::Error for UnknownAction {}
