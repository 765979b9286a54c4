//! `cargo xtask reset`: the next `up` starts from nothing.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::data_dir;

/// Deletes what `up` keeps.
#[derive(Debug, Args)]
pub struct Reset {
    /// The folder to empty [default: .freehold in the workspace]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
}

impl Reset {
    pub fn run(self) -> Result<ExitCode> {
        let path = self.data_dir.unwrap_or_else(data_dir::default_path);
        let done = match data_dir::delete(&path)? {
            true => "deleted the data in",
            false => "nothing to delete: `up` keeps no data in",
        };
        let _gone = writeln!(std::io::stdout(), "{done} {}", path.display());
        Ok(ExitCode::SUCCESS)
    }
}
