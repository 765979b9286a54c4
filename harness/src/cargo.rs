//! The cargo that runs us, without the environment that it set for our package.
//!
//! `cargo run` and `cargo test` set the name, version and folder of the package in a program's environment. A second cargo would
//! pass them on to build scripts, and some (ring's) watch them: half of the tree would be rebuilt at every change between
//! "from a shell" and "from a test".

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// A cargo command in this folder.
pub fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(folder);
    for (name, _) in
        env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_about_our_package))
    {
        command.env_remove(name);
    }
    command
}

/// Settings (`CARGO_HOME`, `CARGO_TARGET_DIR`, `CARGO_BUILD_…`, `CARGO_NET_…`) are the user's and stay.
fn is_about_our_package(name: &str) -> bool {
    let prefixes = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
        "OUT_DIR",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stay_and_variables_of_our_package_are_removed() {
        let set: Vec<_> = cargo(Path::new("."))
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.is_some()))
            .collect();
        assert!(
            set.contains(&(OsString::from("CARGO_MANIFEST_DIR"), false)),
            "cargo set the folder of this test: {set:?}"
        );
        assert!(!is_about_our_package("CARGO_HOME") && !is_about_our_package("CARGO_TARGET_DIR"));
    }
}
