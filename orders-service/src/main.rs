//! orders-service as a program: it serves, or runs an operator's command. `config` declares it.

use std::process::ExitCode;

use orders_service::config::Config;

fn main() -> ExitCode {
    service_program::main::<Config>()
}
