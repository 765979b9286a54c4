//! A tool that only some machines have, such as a browser. Without it, its tests are skipped, and a line on stderr says why.

use std::env;
use std::io::{self, Write};

use anyhow::{Result, bail};

/// A program of another project, if this machine has it or can get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// It is here.
    Here(T),
    /// Why not, and what to do about it.
    Missing(String),
}

impl<T> Found<T> {
    /// A missing tool is an error, not a skip, when this variable is `required`. `cargo xtask test` sets it once it has found
    /// the tool, so that a summary that says "run" cannot hide a test that skipped.
    pub fn unless_required(self, variable: &str) -> Result<Found<T>> {
        let required = env::var_os(variable).is_some_and(|word| word == "required");
        self.allowed(required, variable)
    }

    fn allowed(self, required: bool, variable: &str) -> Result<Found<T>> {
        match self {
            Found::Missing(reason) if required => {
                bail!("{reason} ({variable} is \"required\", so this is no skip)")
            }
            found => Ok(found),
        }
    }

    /// For the start of a test: the tool, or nothing after a line that says so.
    pub fn or_skip(self, tests: &str) -> Option<T> {
        match self {
            Found::Here(tool) => Some(tool),
            Found::Missing(reason) => {
                // Directly, because the test harness captures what a test prints.
                let _closed = writeln!(io::stderr(), "{tests} are SKIPPED: {reason}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_tool_is_never_skipped() {
        let missing: Found<()> = Found::Missing("there is none".to_owned());
        assert_eq!(missing.clone().allowed(false, "X").unwrap(), missing);
        let refusal = missing
            .allowed(true, "X")
            .expect_err("required")
            .to_string();
        assert!(refusal.starts_with("there is none"), "{refusal}");
    }
}
