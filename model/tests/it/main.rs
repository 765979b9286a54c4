//! What the model says, small enough for every run. The command `--rules` and `--large` say the rest.

#![expect(
    clippy::print_stdout,
    reason = "--nocapture shows paths, lengths and states"
)]

mod bounds;
mod rules;
mod traces;
mod walks;
