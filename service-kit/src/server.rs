//! The accept loop. Our own, because `axum::serve` keeps a connection whose headers never come open for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Extensions;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use relay::Stop;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::Peer;
use crate::machine::max_connections;
use crate::patient::Patient;

/// Connections at a time, where the machine gives descriptors for so many; more wait in the system's queue until one closes.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send its headers. An idle connection is closed after as long.
pub const MAX_HEADER_TIME: Duration = Duration::from_secs(10);
/// A head that is not complete within this many bytes is refused. Not an exact limit: hyper asks for the length only
/// between two reads, and one read can bring about as much again, so a head of nearly twice this size may pass.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How long requests under way may take once the service stops; then their connections are cut.
pub const MAX_DRAIN_TIME: Duration = Duration::from_secs(12);

/// After a failed accept, mostly for want of file descriptors, trying again at once would spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Serves until stopped, finishes the requests under way, and closes every connection.
pub(crate) async fn serve(listener: TcpListener, api: Router, stop: Stop) {
    let places = Arc::new(Semaphore::new(max_connections()));
    let graceful = GracefulShutdown::new();
    let cut = Stop::new();
    while let Some((socket, place)) = accept(&listener, &places, &stop).await {
        let peer = socket.peer_addr().ok().map(|peer| Peer(peer.ip()));
        let service = TowerToHyperService::new(api.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().extend(carrying(peer));
            service.call(request)
        });
        let socket = TokioIo::new(Patient::new(socket));
        let connection = http().serve_connection(socket, service);
        let connection = cut
            .clone()
            .run_until_cancelled_owned(graceful.watch(connection));
        tokio::spawn(async move {
            // Clients break off, send nonsense, or time out: theirs, and of interest only to who looks for it.
            if let Some(Err(error)) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener); // from here on the port refuses, so that clients turn to another instance
    if tokio::time::timeout(MAX_DRAIN_TIME, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests under way did not end in time; cutting their connections");
        cut.cancel();
    }
}

/// What a request brings along of its connection.
fn carrying(peer: Option<Peer>) -> Extensions {
    let mut extensions = Extensions::new();
    peer.map(|peer| extensions.insert(peer));
    extensions
}

/// The next connection, once there is a place for it. `None`: stopped.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    stop: &Stop,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let next = async {
        let place = places.clone().acquire_owned().await;
        (
            incoming(listener).await,
            place.expect("the semaphore is never closed"),
        )
    };
    stop.run_until_cancelled(next).await
}

async fn incoming(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let _ = socket.set_nodelay(true); // answers are small; without it they wait for each other
                return socket;
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(MAX_HEADER_TIME)
        .max_buf_size(MAX_HEADER_BYTES);
    http
}
