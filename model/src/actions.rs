//! The actions, each one call on the library.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of at most two processes that write with the same identity: 0 or 1.
pub type Who = u8;

/// One of at most two consumers: 0 or 1.
pub type Reader = u8;

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
    /// Looks at the stream, at a new connection or on the timer, and takes the next step: opens, creates the stream, imports one row,
    /// or replaces a stream (close, save, delete, create: one contact each).
    Contact(Who),
    /// A process begins its first look, which its next contact decides (only where the broker can be reached).
    Look(Who),
    /// The next row, by a verified connection.
    Publish(Who),
    /// A publish of a connection that is gone arrives after all (only without rule S3).
    Land(Who),

    // A consumer.
    /// Connects and looks, or repeats the look on a timer.
    KConn(Reader),
    /// The same, with the get at the offset answered by a replica that is behind: nothing (0), or the n-th of what is gone.
    KPast(Reader, u8),
    /// Reads the next event by get, and applies it.
    KApply(Reader),
    /// A live copy of what the stream holds at this place.
    KLive(Reader, u8),
    /// A late copy, live or by get: the n-th of what the stream held once.
    KLate(Reader, u8),
    /// Stores the position apart from the effect (only without rule K1).
    KSave(Reader),
    /// Asks a producer whether its log holds the position.
    KAsk(Reader, Who),
    /// Reports a fork and loads a snapshot.
    KFork(Reader, Who),
    /// Loads a snapshot because the stream is trimmed.
    KSnap(Reader, Who),

    // Copies that a fault may bring back later.
    /// Backs up a writer's outbox file.
    PBak(Who),
    /// Copies the broker's store.
    SBak,
    /// Backs up a consumer's file.
    KBak(Reader),

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
    /// c: the file of the consumer that was backed up is replaced by the backup.
    RestoreConsumer,
    /// R: a service process restarts.
    Restart(Who),
    /// x: a relay's connection is lost, and what its session knew. Right after a publish: it was stored, but its sender heard
    /// nothing. As common as it is, it is not counted among the faults.
    Cut(Who),

    // The operator.
    /// `adopt-stream`, one transaction: the local tail is quarantined; the next contacts import the stream's.
    Adopt(Who),
    /// `new-epoch`, one transaction: a higher epoch; the next contacts quarantine the stream's foreign tail and recreate it.
    New(Who),
    /// A writer is stopped for good; what only it holds is handed to the other.
    Kill(Who),
}

/// The kinds of faults, named by the letters of the first model; `x` and `l` are ours.
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
    Cut,
    /// Live copies come, repeated, late or of an older incarnation, and replicas lag. No action of its own: `KLive`, `KLate`
    /// and `KPast` do no more than the reading expects.
    Live,
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
            b'x' => Self::Cut,
            b'l' => Self::Live,
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
            Self::Cut(_) => Fault::Cut,
            _ => return None,
        })
    }
}

impl fmt::Display for Action {
    /// `Contact(1)`, `KAsk(0:1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").replace(", ", ":"))
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
        let (name, numbers) = match text.strip_suffix(')') {
            None => (text, ""),
            Some(text) => text.split_once('(').ok_or_else(unknown)?,
        };
        let numbers: Result<Vec<u8>, _> = match numbers {
            "" => Ok(Vec::new()),
            some => some.split(':').map(str::parse).collect(),
        };
        let numbers = numbers.map_err(|_| unknown())?;
        Self::named(name, &numbers).ok_or_else(unknown)
    }
}

impl Action {
    fn named(name: &str, numbers: &[u8]) -> Option<Self> {
        match *numbers {
            [] => Self::plain(name),
            [number] => Self::numbered(name, number),
            [reader, who] => Self::between(name, reader, who),
            _ => None,
        }
    }

    fn plain(name: &str) -> Option<Self> {
        let plain = [
            Self::SBak,
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
            "Look" => Self::Look,
            "Publish" => Self::Publish,
            "Cut" => Self::Cut,
            "Land" => Self::Land,
            "KConn" => Self::KConn,
            "KApply" => Self::KApply,
            "KSave" => Self::KSave,
            "PBak" => Self::PBak,
            "KBak" => Self::KBak,
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

    fn between(name: &str, reader: Reader, who: Who) -> Option<Self> {
        let make: fn(Reader, Who) -> Self = match name {
            "KPast" => Self::KPast,
            "KLive" => Self::KLive,
            "KLate" => Self::KLate,
            "KAsk" => Self::KAsk,
            "KFork" => Self::KFork,
            "KSnap" => Self::KSnap,
            _ => return None,
        };
        Some(make(reader, who))
    }
}

impl fmt::Display for UnknownAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no action is called {:?}", self.0)
    }
}

impl std::error::Error for UnknownAction {}
