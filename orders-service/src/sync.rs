//! Sync with drivers' devices: uploads of intents, and the feed of deliveries.

mod feed;
mod intents;
mod token;
mod turns;

pub use feed::{DEFAULT_TAIL, page};
pub use intents::{UploadError, receive};
pub use token::{FeedToken, InvalidToken};
pub use turns::Turns;
