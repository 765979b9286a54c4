//! The cargo that runs us.

use std::process::Command;

use crate::paths;

/// A cargo command in the root of the workspace, without the environment that cargo set for our package.
pub fn cargo() -> Command {
    freehold_harness::cargo::cargo(paths::workspace())
}
