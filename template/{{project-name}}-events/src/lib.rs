//! What travels on stream {{project-name | shouty_snake_case}}. Its writer and its readers share this crate, so every event is declared once.
//!
//! The contract only grows: a new field is an `Option`, and a change that old readers cannot ignore is a new type beside the
//! old one. The recordings in `fixtures` prove that what was written once can still be read.

pub use freehold_event::Event;
use freehold_event::events;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

events! {
    /// A change of one {{item}}. {{project-name}}-service is the only writer. More types may come, so readers skip those that they do not know.
    #[derive(Clone, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum {{item | pascal_case}}Event on "{{project-name | shouty_snake_case}}" {
        "{{project-name | snake_case}}.recorded.v1" => Recorded({{item | pascal_case}}Recorded) about {{item | snake_case}}_id,
    }
}

/// A new {{item}}.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct {{item | pascal_case}}Recorded {
    pub {{item | snake_case}}_id: Uuid,
    /// The {{followed}} that it is about.
    pub {{followed | snake_case}}_id: Uuid,
    pub reason: String,
}
