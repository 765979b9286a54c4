//! Cargo's helpers that a task needs and the test run does not.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use freehold_tests::cargo::cargo;
use freehold_tests::paths::workspace;

use crate::say;

/// Below `target/`: nothing else on the machine changes, and `cargo clean` removes it.
pub(crate) fn find_or_install(name: &str, version: &str) -> Result<PathBuf> {
    let home = workspace()
        .join("target/tools")
        .join(format!("{name}-{version}"));
    let program = home.join("bin").join(name);
    if !program.is_file() {
        say(&format!(
            "installing {name} {version} into {} (some minutes, once)",
            home.display()
        ));
        let install = format!("install {name} --locked --version {version} --root");
        let status = cargo().args(install.split(' ')).arg(&home).status();
        let status = status.context("cannot run cargo")?;
        ensure!(
            status.success(),
            "{name} {version} cannot be installed: it needs the registry of crates. Nothing was checked"
        );
    }
    Ok(program)
}
