//! `cargo xtask reset`: the next `up` starts from nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::console::Console;
use crate::data_dir;

#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The folder to empty [default: .freehold in the workspace]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,
}

impl Reset {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let path = self.data_dir.unwrap_or_else(data_dir::default_path);
        let text = match data_dir::delete(&path)? {
            true => format!("deleted the data in {}", path.display()),
            false => format!(
                "nothing to delete: `up` keeps no data in {}",
                path.display()
            ),
        };
        let console = Console::on_stdout();
        console.line(&text);
        console.flush();
        Ok(ExitCode::SUCCESS)
    }
}
