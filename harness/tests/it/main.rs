//! The harness alone, without services.

mod ends;
