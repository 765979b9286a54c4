//! Caches: projections of other services' streams, one module each.

pub mod users;
