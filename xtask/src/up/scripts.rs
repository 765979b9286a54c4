//! For operators: a script for each service and each device that runs its program with the settings of this system, to
//! serve or for a command, such as `.freehold/user-service status`.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use freehold_tests::{Part, Service};

use crate::data_dir::{DataDir, quoted};

/// Writes the script, and answers where. The passwords stay where they are; a device needs none.
pub(super) fn write(
    service: &Service,
    credentials: Option<&Path>,
    data: &DataDir,
) -> Result<PathBuf> {
    let path = path(service, data);
    let failed = || format!("cannot write {}", path.display());
    fs::write(&path, text(service, credentials)).with_context(failed)?;
    fs::set_permissions(&path, Permissions::from_mode(0o700)).with_context(failed)?;
    Ok(path)
}

pub(super) fn path(service: &Service, data: &DataDir) -> PathBuf {
    data.path().join(service.name())
}

fn text(service: &Service, credentials: Option<&Path>) -> String {
    let (name, program) = (service.name(), quoted(service.program()));
    let mut script = format!(
        "#!/bin/sh\n# {name} as `cargo xtask up` runs it: alone to serve, or with more (--help).\n"
    );
    if let Some(credentials) = credentials {
        let _ = writeln!(script, "set -a\n. {}\nset +a", quoted(credentials));
    }
    let _ = write!(script, "exec {program}");
    for argument in service.arguments() {
        let _ = write!(script, " {}", quoted(Path::new(&argument)));
    }
    script.push_str(" \"$@\"\n");
    script
}
