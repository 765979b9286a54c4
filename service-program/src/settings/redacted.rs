//! A setting that may hold a password by mistake.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use anyhow::anyhow;

/// A setting that may hold a password by mistake. It is parsed after clap, whose errors print the value that they refuse.
/// Use it with `hide_env_values`, since `--help` prints the environment.
#[derive(Clone)]
pub struct Redacted(String);

impl Redacted {
    /// Parses it. The error names the flag and what is expected, and never prints the value; the type's own error must not
    /// either.
    ///
    /// # Errors
    ///
    /// The value does not parse; the text names the flag and not the value.
    pub fn read<T: FromStr<Err: fmt::Display>>(&self, flag: &str) -> anyhow::Result<T> {
        let read = self.0.parse();
        read.map_err(|error| anyhow!("{flag} is not valid: {error}"))
    }
}

impl FromStr for Redacted {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// Logs and panics print settings.
impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redacted(..)")
    }
}
