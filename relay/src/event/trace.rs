//! The trace: which request a piece of work belongs to. It belongs to the task, so that code that writes or emits need not
//! pass it on, and every event names the request it came from.

use std::cell::Cell;
use std::future::Future;

use super::Envelope;

/// A request, as traces across several services name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// As W3C Trace Context writes it: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
    pub traceparent: Option<String>,
    /// What the client, or the service it asked, calls the request.
    pub request_id: Option<String>,
}

/// What belongs to one [`traced`] future.
struct Scope {
    trace: Trace,
    /// The log's head right after the last write made here; none while nothing was written.
    written: Cell<Option<u64>>,
}

/// The longest id that is passed on: another service's ids become part of our events.
const MAX_CHARACTERS: usize = 128;

tokio::task_local! {
    static CURRENT: Scope;
}

/// Runs `work` as part of a request. What it spawns is no part of it.
pub async fn traced<T>(trace: Trace, work: impl Future<Output = T>) -> T {
    let written = Cell::new(None);
    CURRENT.scope(Scope { trace, written }, work).await
}

/// The log's head right after the last write that was made, and committed, in this [`traced`] future: the sequence of the last
/// event that the write emitted, or of the event before it when it emitted none.
pub fn written() -> Option<u64> {
    CURRENT.try_with(|scope| scope.written.get()).ok().flatten()
}

/// A later write has a later head, but of two that ran at once either may answer first.
pub(crate) fn note_written(seq: u64) {
    let _outside_of_requests =
        CURRENT.try_with(|scope| scope.written.set(scope.written.get().max(Some(seq))));
}

/// Whether this task is [`traced`], so that what it [`written`] may be asked.
pub(crate) fn is_traced() -> bool {
    CURRENT.try_with(|_| ()).is_ok()
}

impl Trace {
    /// That of the request which is being answered; empty where none is.
    pub fn current() -> Self {
        CURRENT
            .try_with(|scope| scope.trace.clone())
            .unwrap_or_default()
    }

    /// That of the request which an event came from.
    pub(crate) fn of(envelope: &Envelope<'_>) -> Self {
        let word = |text: &str| is_word(text).then(|| text.to_owned());
        Self {
            traceparent: envelope.traceparent.as_deref().and_then(word),
            request_id: envelope.requestid.as_deref().and_then(word),
        }
    }
}

fn is_word(text: &str) -> bool {
    (1..=MAX_CHARACTERS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_known_inside_its_own_future_and_nowhere_else() {
        let trace = |name: &str| Trace {
            request_id: Some(name.to_owned()),
            ..Trace::default()
        };
        let inside = traced(trace("a"), async {
            tokio::task::yield_now().await;
            let inner = traced(trace("b"), async { Trace::current() }).await;
            (inner, Trace::current())
        });
        assert_eq!(inside.await, (trace("b"), trace("a")));
        assert_eq!(Trace::current(), Trace::default());
    }

    #[tokio::test]
    async fn the_last_write_is_the_one_that_reached_farthest() {
        note_written(9); // of no request
        let place = traced(Trace::default(), async {
            assert_eq!(written(), None);
            note_written(3);
            note_written(2);
            written()
        });
        assert_eq!(place.await, Some(3));
        assert_eq!(written(), None);
    }

    #[test]
    fn only_words_of_a_bearable_length_are_passed_on() {
        assert!(is_word(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ));
        for bad in ["", "a b", "é", "\n", &"x".repeat(MAX_CHARACTERS + 1)] {
            assert!(!is_word(bad), "{bad}");
        }
    }
}
