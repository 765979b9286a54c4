//! Serves {{project-name}}, or runs an operator's command.

fn main() -> std::process::ExitCode {
    {{project-name | snake_case}}_service::service().main()
}
