//! An event: its envelope, what a consumer receives of it, what caused it, and the part that only its owner can read.

mod causation;
mod envelope;
mod received;
mod sealed;
pub(crate) mod trace;

pub(crate) use causation::Causation;
pub(crate) use envelope::is_event_type;
pub use envelope::{Decode, Envelope, EventId, MAX_ENVELOPE_BYTES, NewEvent, subject_of};
pub use received::Received;
pub(crate) use received::received;
pub use sealed::{Keys, KeysError};
pub(crate) use sealed::{Open, Sealed};
pub use trace::{Trace, traced, written};
