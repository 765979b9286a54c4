//! Serves users, or runs an operator's command.

fn main() -> std::process::ExitCode {
    user_service::service().main()
}
