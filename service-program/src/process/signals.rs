//! SIGINT (Ctrl-C) and SIGTERM stop a service.

use relay::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

use service_kit::process::output::flush_stderr;

/// The first signal cancels it, so that the service stops in order. A second one ends the process at once: committed
/// writes stay, and the next start rolls back the others.
pub fn stop_on_signal() -> Stop {
    let stop = Stop::new();
    tokio::spawn(stop_then_end(
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        stop.clone(),
    ));
    stop
}

async fn stop_then_end(mut interrupt: Signal, mut terminate: Signal, stop: Stop) {
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
