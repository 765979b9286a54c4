//! The open connections. When all places are taken, a new connection replaces another: first one whose caller is unknown,
//! last an idle one of a known caller. So silent connections keep no caller out.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use http_body_util::BodyExt;
use relay::Stop;
use tokio::sync::Notify;

/// All that are open, up to a limit. Clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    open: Arc<Mutex<HashMap<u64, Arc<Connection>>>>,
    limit: usize,
    next: Arc<AtomicU64>,
    freed: Arc<Notify>,
    /// Cuts them all.
    cut: Stop,
}

/// One of them. Each of its requests carries it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: Option<IpAddr>,
    state: Mutex<State>,
    cut: Stop,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// It has carried a valid token.
    known: bool,
    /// From a request's last header to the end of its answer.
    busy: bool,
    /// When it became busy or idle.
    since: Instant,
}

/// Held while the connection is open.
pub(crate) struct Place {
    connections: Connections,
    number: u64,
    pub(crate) connection: Arc<Connection>,
}

/// Held while a request is under way.
pub(crate) struct Busy(Arc<Connection>);

/// A connection that is cut takes a moment to end. If none can be cut yet, another one may be soon.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Connections {
    pub(crate) fn up_to(limit: usize) -> Self {
        Self {
            open: Arc::default(),
            limit,
            next: Arc::default(),
            freed: Arc::default(),
            cut: Stop::new(),
        }
    }

    /// Waits for a place, and cuts another connection if all are taken.
    pub(crate) async fn admit(&self, peer: Option<IpAddr>) -> Place {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.place(peer) {
                return place;
            }
            self.cut_one();
            let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
        }
    }

    fn place(&self, peer: Option<IpAddr>) -> Option<Place> {
        let mut open = self.open();
        if open.len() >= self.limit {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let state = State {
            known: false,
            busy: false,
            since: Instant::now(),
        };
        let connection = Arc::new(Connection {
            peer,
            state: Mutex::new(state),
            cut: self.cut.child_token(),
        });
        open.insert(number, connection.clone());
        Some(Place {
            connections: self.clone(),
            number,
            connection,
        })
    }

    /// Cuts the least useful one: an unknown caller's, or else a known caller's without a request under way.
    pub(crate) fn cut_one(&self) {
        let open = self.open();
        let stay = open.values().filter(|one| !one.cut.is_cancelled());
        let stay = stay.map(|one| (*one.state(), one));
        let may_go: Vec<_> = stay
            .filter(|(state, _)| !(state.known && state.busy))
            .collect();
        let mut of_address: HashMap<_, usize> = HashMap::new();
        for (_, one) in &may_go {
            *of_address.entry(one.peer).or_default() += 1;
        }
        // The address with the most of them loses one, the oldest first: a new connection is about to send a request, and
        // an old one that is still sending is no better.
        let worth = |(state, one): &&(State, &Arc<Connection>)| {
            (state.known, Reverse(of_address[&one.peer]), state.since)
        };
        if let Some((_, one)) = may_go.iter().min_by_key(worth) {
            one.cut.cancel();
        }
    }

    /// Cuts those that wait for a request, or for the rest of its head.
    pub(crate) fn cut_idle(&self) {
        let open = self.open();
        let idle = open.values().filter(|one| !one.state().busy);
        idle.for_each(|one| one.cut.cancel());
    }

    pub(crate) fn cut_all(&self) {
        self.cut.cancel();
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// The connection of this request. A test without sockets has none.
    pub(crate) fn of(request: &Request) -> Option<Arc<Self>> {
        request.extensions().get::<Arc<Self>>().cloned()
    }

    /// From now on it keeps its place like a known caller's.
    pub(crate) fn is_of_known_caller(&self) {
        self.state().known = true;
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.turn(true);
        Busy(self.clone())
    }

    pub(crate) fn cut(&self) -> Stop {
        self.cut.clone()
    }

    fn turn(&self, busy: bool) {
        let mut state = self.state();
        (state.busy, state.since) = (busy, Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
        self.connections.freed.notify_one();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.turn(false);
    }
}

impl Busy {
    /// Holds it until the answer is sent.
    pub(crate) fn until_sent(self, body: Body) -> impl HttpBody<Data = Bytes, Error = axum::Error> {
        body.map_err(move |error| {
            let _held = &self;
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_goes_first_then_who_is_idle_and_never_a_known_callers_request() {
        let connections = Connections::up_to(4);
        let places: Vec<Place> = (0..4).filter_map(|_| connections.place(None)).collect();
        let [asks, idle, known, known_asks] = [0, 1, 2, 3].map(|at| places[at].connection.clone());
        let _under_way = [asks.begin(), known_asks.begin()];
        known.is_of_known_caller();
        known_asks.is_of_known_caller();
        assert!(connections.place(None).is_none(), "all places are taken");
        for next in [&idle, &asks, &known] {
            assert!(!next.cut.is_cancelled());
            connections.cut_one();
            assert!(next.cut.is_cancelled());
        }
        connections.cut_one();
        assert!(!known_asks.cut.is_cancelled());
        drop(places);
        assert!(connections.place(None).is_some());
    }

    #[test]
    fn an_address_with_many_connections_keeps_no_other_address_out() {
        let connections = Connections::up_to(4);
        let from = |host| connections.place(Some([10, 0, 0, host].into())).unwrap();
        let places = [1, 2, 2, 2].map(from);
        let [few, many, ..] = &places.each_ref().map(|place| &place.connection);
        connections.cut_one();
        assert!(many.cut.is_cancelled() && !few.cut.is_cancelled());
    }
}
