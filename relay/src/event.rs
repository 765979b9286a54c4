//! An event: its envelope, what a consumer receives of it, what caused it, and the part that only its owner can read.

mod causation;
mod envelope;
mod keys;
mod received;
mod sealed;
pub(crate) mod trace;

pub(crate) use causation::Causation;
pub(crate) use envelope::is_event_type;
pub use envelope::{Envelope, EventId, MAX_ENVELOPE_BYTES, subject_of};
pub use freehold_event::{Event, schema_id};
pub use keys::{Keys, KeysError, KeysProblem};
pub use received::Received;
pub(crate) use received::received;
pub use sealed::SealedError;
pub(crate) use sealed::{Open, Sealed};
pub use trace::{Trace, traced, written};
