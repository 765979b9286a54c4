//! For operators: one script for each service and device. It runs the program with the settings of this system, to serve or
//! for a command, such as `.freehold/user-service status`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use freehold_tests::{Part, Service};

/// How each of them begins, after its name.
const MARK: &str = "as `cargo xtask up` runs it: alone to serve, or with more (--help).";

/// It holds the service's passwords, and only its owner can read it.
pub(crate) fn write(service: &Service, path: &Path) -> Result<()> {
    fs::write(path, text(service))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Whether this file is a script of ours, whatever its service is called.
pub(crate) fn is_ours(path: &Path) -> bool {
    fs::read_to_string(path)
        .is_ok_and(|text| text.lines().nth(1).is_some_and(|line| line.ends_with(MARK)))
}

fn text(service: &Service) -> String {
    let settings = service.env.iter();
    let settings: String = settings
        .map(|(name, value)| format!("export {name}={}\n", quoted(Path::new(value))))
        .collect();
    let arguments = service.arguments().into_iter();
    let arguments: String = arguments
        .map(|word| format!(" {}", quoted(Path::new(&word))))
        .collect();
    format!(
        "#!/bin/sh\n# {} {MARK}\n{settings}exec {}{arguments} \"$@\"\n",
        service.name(),
        quoted(service.program()),
    )
}

/// As a shell reads it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
