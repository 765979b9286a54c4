//! The model's results, small enough for every run. `--rules` and `--large` check the rest.

#![expect(
    clippy::print_stdout,
    reason = "--nocapture shows paths, lengths and states"
)]

mod bounds;
mod rules;
mod traces;
mod walks;
