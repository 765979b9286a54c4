//! The harness alone, without services.

mod guard;
