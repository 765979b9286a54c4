//! What this service keeps of other services' data: projections of their streams, one module each.

pub mod users;
