//! For operators: one script for each service and device. It runs the program with the settings of this system, to serve or
//! for a command, such as `.freehold/user-service status`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use freehold_tests::{Part, Service};

use crate::data_dir::{DataDir, quoted};

/// The passwords stay in their file; a device needs none.
pub(crate) fn write(service: &Service, credentials: Option<&Path>, data: &DataDir) -> Result<()> {
    let path = data.at(service.name());
    fs::write(&path, text(service, credentials))
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn text(service: &Service, credentials: Option<&Path>) -> String {
    let read = credentials.map(|file| format!("set -a\n. {}\nset +a\n", quoted(file)));
    let arguments = service.arguments().into_iter();
    let arguments: String = arguments
        .map(|word| format!(" {}", quoted(Path::new(&word))))
        .collect();
    format!(
        "#!/bin/sh\n# {} as `cargo xtask up` runs it: alone to serve, or with more (--help).\n{}exec {}{arguments} \"$@\"\n",
        service.name(),
        read.unwrap_or_default(),
        quoted(service.program()),
    )
}
