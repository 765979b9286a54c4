//! An event. Read `envelope` first: the bytes that every log shares; then `received`: what a consumer gets of it; `sealed` and
//! `keys`: the part that only its owner can read; `causation` and `trace`: what it answers, and the request it came from.

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
