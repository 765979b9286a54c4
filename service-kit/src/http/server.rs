//! The accept loop. Our own, because `axum::serve` keeps a connection open for ever if its headers never arrive.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use relay::Stop;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::http::connections::{Connections, Place};
use crate::http::patient::Patient;
use crate::http::{Problem, codes};
use crate::process::machine::max_connections;

/// How long a client may take to send its headers. An idle connection is closed after as long.
pub const MAX_HEADER_TIME: Duration = Duration::from_secs(10);
/// A head that is not complete within this many bytes is refused. Not an exact limit: hyper asks for the length only
/// between two reads, and one read can bring about as much again, so a head of nearly twice this size may pass.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;
/// How long requests under way may take once the service stops; then their connections are cut.
pub const MAX_DRAIN_TIME: Duration = Duration::from_secs(12);

/// After a failed accept, mostly for want of file descriptors, trying again at once would spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// One log line in this many failures without a connection between them.
const FAILURES_A_LINE: u64 = 100;
/// How long a finished answer may take to be sent once the service stops and its connection looks idle.
const MAX_LAST_WORD_TIME: Duration = Duration::from_millis(500);

/// Whether the service stops. A handler that waits for news takes this, and answers at once with what there is.
#[derive(Clone, Debug, Default)]
pub struct Stopping(pub Stop);

impl<S: Send + Sync> FromRequestParts<S> for Stopping {
    type Rejection = Infallible;

    /// Without a server nothing stops.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// The refusal of a request whose body or position the service does not wait for any more.
pub(crate) fn shutting_down() -> Problem {
    let detail = "the service is shutting down; nothing was done; try again";
    Problem::new(codes::SHUTTING_DOWN, detail).retry_later()
}

/// Serves until stopped, finishes the requests under way, and closes every connection.
pub async fn serve(listener: TcpListener, api: Router, stop: Stop) {
    let connections = Connections::up_to(max_connections());
    let graceful = GracefulShutdown::new();
    while let Some((socket, place)) = accept(&listener, &connections, &stop).await {
        let (cut, service) = (place.connection.cut(), carrying(&place, &api, &stop));
        let socket = TokioIo::new(Patient::new(socket));
        let connection = http().serve_connection(socket, service);
        let connection = cut.run_until_cancelled_owned(graceful.watch(connection));
        tokio::spawn(async move {
            // Clients disconnect, send nonsense, or time out, which is their affair.
            if let Some(Err(error)) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener); // from here on the port refuses, so that clients turn to another instance
    drain(graceful, &connections).await;
}

/// Requests under way are answered. A client that has sent only part of a head is disconnected.
async fn drain(graceful: GracefulShutdown, connections: &Connections) {
    let mut drained = pin!(graceful.shutdown());
    if timeout(MAX_LAST_WORD_TIME, &mut drained).await.is_ok() {
        return;
    }
    connections.cut_idle();
    if timeout(MAX_DRAIN_TIME, drained).await.is_err() {
        tracing::warn!("requests under way did not end in time; cutting their connections");
        connections.cut_all();
    }
}

/// The API of one connection: each request carries the connection and whether the service stops.
fn carrying(
    place: &Place,
    api: &Router,
    stop: &Stop,
) -> impl Service<
    Request<Incoming>,
    Response = Response<impl HttpBody<Data = Bytes, Error = axum::Error> + use<>>,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    let (connection, stop) = (place.connection.clone(), Stopping(stop.clone()));
    let api = TowerToHyperService::new(api.clone());
    service_fn(move |mut request: Request<Incoming>| {
        let busy = connection.begin();
        request.extensions_mut().insert(connection.clone());
        request.extensions_mut().insert(stop.clone());
        let answer = api.call(request);
        async move {
            let answer = answer.await?;
            Ok(answer.map(|body| busy.until_sent(body)))
        }
    })
}

/// The next connection, once there is a place for it. `None`: stopped.
async fn accept(
    listener: &TcpListener,
    connections: &Connections,
    stop: &Stop,
) -> Option<(TcpStream, Place)> {
    let next = async {
        let socket = incoming(listener, connections).await;
        let peer = socket.peer_addr().ok().map(|peer| peer.ip());
        (socket, connections.admit(peer).await)
    };
    stop.run_until_cancelled(next).await
}

async fn incoming(listener: &TcpListener, connections: &Connections) -> TcpStream {
    let mut failures: u64 = 0;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let _ = socket.set_nodelay(true); // answers are small; without it they wait for each other
                return socket;
            }
            Err(error) => {
                if failures.is_multiple_of(FAILURES_A_LINE) {
                    tracing::warn!(%error, failures, "a connection could not be accepted");
                }
                failures += 1;
                connections.cut_one();
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
