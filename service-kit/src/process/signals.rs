//! How a person or a supervisor stops a service: SIGINT (Ctrl-C) or SIGTERM.

use relay::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::process::output::flush_stderr;

/// Is cancelled by the first signal, so that the service stops in order. A second one ends the process at once:
/// whatever was committed stays, whatever was not is rolled back at the next start.
pub fn stop_on_signal() -> Stop {
    let stop = Stop::new();
    tokio::spawn(obey(
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        stop.clone(),
    ));
    stop
}

async fn obey(mut interrupt: Signal, mut terminate: Signal, stop: Stop) {
    either(&mut interrupt, &mut terminate).await;
    tracing::info!("stopping: finishing what is under way");
    stop.cancel();
    either(&mut interrupt, &mut terminate).await;
    tracing::warn!("asked twice: ending at once");
    flush_stderr();
    std::process::exit(1);
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("SIGINT and SIGTERM can be listened to")
}
