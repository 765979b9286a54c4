#![doc = include_str!("../README.md")]

mod actions;
mod bounds;
mod consumer;
mod faults;
mod ids;
mod operator;
mod properties;
mod protocol;
mod relay;
mod rules;
mod search;
mod service;
mod state;
mod step;
mod table;
mod walk;
pub mod world;

pub use actions::{Action, Fault, Reader, UnknownAction, Who};
pub use bounds::{ANYTHING, Bounds, Doctrine, Early, Kinds, ONE_WRITER, TWO_WRITERS};
pub use ids::{Id, IdSet, Ids};
pub use properties::{DECIDED, Property, SAFETY};
pub use protocol::Protocol;
pub use rules::{Rule, Rules};
pub use search::{
    Effort, Liveness, Outcome, broken_at_end, counterexample, rest_is_reachable, search,
};
pub use state::{Backups, Consumer, File, Gone, Link, Mode, State, Stream, Table, View, Writer};

pub use table::{CASES, COVERED, Case};
pub use walk::Walk;
