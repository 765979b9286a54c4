//! Where the workspace is.

use std::path::{Path, PathBuf};

pub use freehold_harness::paths::*;

/// The root of the workspace this was compiled in.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is inside the workspace")
}

/// The configuration of the broker, as an operator starts it.
pub fn nats_conf() -> PathBuf {
    workspace().join("nats.conf")
}
