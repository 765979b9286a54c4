//! Serves users, or runs an operator's command. `config` declares both.

use std::process::ExitCode;

use user_service::config::Config;

fn main() -> ExitCode {
    service_program::main::<Config>()
}
