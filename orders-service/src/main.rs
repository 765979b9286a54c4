//! orders-service: what it is stands in `config`; it serves, or does what an operator asks for.

use std::process::ExitCode;

use orders_service::config::Config;

fn main() -> ExitCode {
    service_kit::main::<Config>()
}
