//! Logs: to stderr, for people on a terminal and as JSON elsewhere. They are best effort: see `output`.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use service_kit::process::output::Stderr;

/// async-nats logs each failed attempt to connect, which the relay and the consumers log once, with the reason.
/// rusqlite_migration logs paths of its source on the build machine.
pub(crate) const DEFAULT_FILTER: &str = "info,async_nats=off,rusqlite_migration=warn";

/// Call it once, first. It logs panics too: they are caught, so otherwise only their effect would show.
///
/// # Errors
///
/// `RUST_LOG` is not a filter.
pub fn start_logs() -> anyhow::Result<()> {
    let filter = filter(std::env::var("RUST_LOG").ok())?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        .log_internal_errors(false);
    if std::io::stderr().is_terminal() {
        logs.init();
    } else {
        let logs = logs.json().flatten_event(true);
        // There is one span, that of the request: once, and not in a list as well.
        logs.with_span_list(false).init();
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a panic")));
    Ok(())
}

/// For commands, which report in their answer: no logs unless RUST_LOG is set.
pub(crate) fn start_quiet_logs() {
    if let Ok(filter) = EnvFilter::try_from_default_env() {
        let logs = tracing_subscriber::fmt().with_env_filter(filter);
        logs.with_writer(|| Stderr).init();
    }
}

fn filter(asked: Option<String>) -> anyhow::Result<EnvFilter> {
    let asked = asked.filter(|filter| !filter.is_empty());
    let filter = asked.as_deref().unwrap_or(DEFAULT_FILTER);
    EnvFilter::try_new(filter).with_context(|| format!("RUST_LOG is no filter: {filter}"))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_others_log_by_the_way_is_left_out() {
        let logs = tracing_subscriber::fmt().with_env_filter(filter(None).unwrap());
        tracing::subscriber::with_default(logs.finish(), || {
            assert!(tracing::enabled!(target: "relay", Level::INFO));
            assert!(!tracing::enabled!(target: "rusqlite_migration", Level::INFO));
            assert!(tracing::enabled!(target: "rusqlite_migration", Level::WARN));
            assert!(!tracing::enabled!(target: "async_nats", Level::ERROR));
        });
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        assert!(filter(None).is_ok());
        assert!(filter(Some("warn,relay=debug".to_owned())).is_ok());
        assert!(filter(Some("relay=loud".to_owned())).is_err());
    }
}
