//! The smallest service of relay's README, from its text.

mod visits {
    include!(concat!(env!("OUT_DIR"), "/visits.rs"));
}

include!(concat!(env!("OUT_DIR"), "/service.rs"));
