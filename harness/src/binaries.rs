//! The programs of services, built once per process, so that no test runs yesterday's code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;

/// Names a folder that holds the binaries; nothing is built then.
pub const BINARIES_VARIABLE: &str = "FREEHOLD_BIN_DIR";

/// The folder with these programs of a workspace, built with our own profile.
pub fn built(workspace: &Path, programs: &[&str]) -> Result<PathBuf> {
    named_folder(programs).unwrap_or_else(|| build(workspace, programs, &own_folder()?))
}

/// The same, built with optimisations, however we were built.
pub fn optimised(workspace: &Path, programs: &[&str]) -> Result<PathBuf> {
    let build = || {
        let folder = own_folder()?.with_file_name("release");
        build(workspace, programs, &folder)
    };
    named_folder(programs).unwrap_or_else(build)
}

fn named_folder(programs: &[&str]) -> Option<Result<PathBuf>> {
    std::env::var_os(BINARIES_VARIABLE).map(|folder| complete(programs, PathBuf::from(folder)))
}

/// Where cargo put us: `target/debug`.
pub(crate) fn own_folder() -> Result<PathBuf> {
    let us = std::env::current_exe().context("cannot determine the path of this program")?;
    let folder =
        profile_folder(&us).with_context(|| format!("{} is in no target folder", us.display()))?;
    Ok(folder.to_owned())
}

fn complete(programs: &[&str], folder: PathBuf) -> Result<PathBuf> {
    match programs.iter().find(|name| !folder.join(name).is_file()) {
        Some(name) => bail!(
            "{BINARIES_VARIABLE} is {}, but there is no {name} in it",
            folder.display()
        ),
        None => Ok(folder),
    }
}

/// `target/debug` of `target/debug/xtask` and of `target/debug/deps/it-0123`: our own profile decides how they are built.
fn profile_folder(program: &Path) -> Option<&Path> {
    let folder = program.parent()?;
    let inner = folder
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples");
    if inner { folder.parent() } else { Some(folder) }
}

/// The profile of the folder `debug` is called `dev`.
fn profile_name(folder: &Path) -> Option<&str> {
    let name = folder.file_name()?.to_str()?;
    Some(if name == "debug" { "dev" } else { name })
}

/// cargo takes its own lock, so parallel test processes wait for one another. Its progress goes to our stderr. Features are those of
/// the whole workspace, so that whatever is asked for next builds no dependency again.
fn build(workspace: &Path, programs: &[&str], folder: &Path) -> Result<PathBuf> {
    let (Some(profile), Some(target)) = (profile_name(folder), folder.parent()) else {
        bail!("{} is no profile folder", folder.display());
    };
    let status = cargo(workspace)
        .args(["build", "--workspace", "--profile", profile])
        .args(programs.iter().flat_map(|program| ["--bin", program]))
        .arg("--target-dir")
        .arg(target)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .context("cargo does not run; without it, name a folder that holds the binaries with FREEHOLD_BIN_DIR")?;
    if !status.success() {
        bail!("the services do not build; cargo's own lines above say why");
    }
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binaries_are_expected_in_our_own_target_folder() {
        let folder = |program| profile_folder(Path::new(program)).and_then(Path::to_str);
        assert_eq!(
            folder("/w/target/debug/deps/it-0123"),
            Some("/w/target/debug")
        );
        assert_eq!(folder("/w/target/release/xtask"), Some("/w/target/release"));
        assert_eq!(
            folder("/w/target/debug/examples/x"),
            Some("/w/target/debug")
        );
        assert_eq!(profile_name(Path::new("/w/target/debug")), Some("dev"));
        assert_eq!(
            profile_name(Path::new("/w/target/release")),
            Some("release")
        );
    }

    #[test]
    fn a_named_folder_without_them_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = complete(&["user-service"], folder.path().to_owned())
            .expect_err("empty")
            .to_string();
        assert!(
            refusal.contains("there is no user-service in it"),
            "{refusal}"
        );
    }
}
