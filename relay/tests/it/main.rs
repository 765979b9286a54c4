//! The library over real files and the in-memory broker: what it refuses, what it survives, what it never does.

mod conformance;
mod consumer;
mod database;
mod outbox;
mod publishing;
mod support;
