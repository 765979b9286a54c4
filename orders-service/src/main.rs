//! orders-service as a program: it serves, or runs an operator's command.

fn main() -> std::process::ExitCode {
    orders_service::service().main()
}
