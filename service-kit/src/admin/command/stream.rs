//! How a service's stream stands to its outbox, for `status`.

use std::time::Duration;

use relay::{Connect, Head, Log, NatsStream, ReadOnly, Report};

use super::answer::count;
use crate::program::Parts;

/// A broker that answers later is one that cannot be reached.
const MAX_BROKER_TIME: Duration = Duration::from_secs(5);

/// How the stream stands to the outbox.
pub(super) struct StreamSeen {
    /// One word, for programs.
    pub(super) state: &'static str,
    /// The same for people.
    pub(super) text: String,
    pub(super) head: Option<u64>,
}

impl StreamSeen {
    pub(super) async fn look(parts: &Parts, file: &ReadOnly, report: &Report) -> Self {
        let to = match parts.stream() {
            Ok(to) => to,
            Err(why) => return Self::unknown(format!("not asked: {why}")),
        };
        let asked = tokio::time::timeout(MAX_BROKER_TIME, ask(&to, file, report));
        match asked.await {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => Self::unknown(relay::chain(error.as_ref())),
            Err(_) => Self::unknown(format!("the broker does not answer in {MAX_BROKER_TIME:?}")),
        }
    }

    fn new(state: &'static str, text: impl Into<String>, head: Option<u64>) -> Self {
        let text = text.into();
        Self { state, text, head }
    }

    fn unknown(why: String) -> Self {
        Self::new("unknown", why, None)
    }

    pub(super) fn is_known(&self) -> bool {
        self.state != "unknown"
    }

    /// The broker may be away: the service goes on without it.
    pub(super) fn is_well(&self) -> bool {
        !["foreign", "forked", "ahead"].contains(&self.state)
    }
}

/// Its head, and whether the last place that both reach holds the same event.
async fn ask(to: &NatsStream, file: &ReadOnly, report: &Report) -> anyhow::Result<StreamSeen> {
    let mut stream = to.connect().await?;
    let Some(head) = stream.head().await? else {
        let text = "there is none: the service makes it when it meets the broker";
        return Ok(StreamSeen::new("missing", text, None));
    };
    let both = head.seq.min(report.last.map_or(0, |last| last.seq));
    let theirs = match both {
        0 => None,
        seq => stream.read_after(seq - 1, 1, Duration::ZERO).await?.pop(),
    };
    let theirs = theirs.filter(|record| record.seq == both);
    let theirs = theirs.and_then(|record| record.event_id());
    let ours = file.event_id(both).await?;
    let forked =
        head.origin == report.origin && theirs.is_some() && ours.is_some() && theirs != ours;
    Ok(match forked {
        true => {
            let text = format!(
                "at {}; it is not this file's: at {both} it holds another event",
                head.seq
            );
            StreamSeen::new("forked", text, Some(head.seq))
        }
        false => compare(report, &head),
    })
}

fn compare(report: &Report, head: &Head) -> StreamSeen {
    let (ours, theirs) = (report.last.map_or(0, |last| last.seq), head.seq);
    let (state, text) = if head.origin != report.origin {
        let text = format!(
            "not this file's: it is of database {} in epoch {}",
            head.origin.database_id, head.origin.epoch
        );
        ("foreign", text)
    } else if theirs == ours {
        ("equal", format!("equal, at {theirs}"))
    } else if theirs < ours {
        let waiting = count(ours - theirs, "event");
        (
            "behind",
            format!("at {theirs}; {waiting} not yet published"),
        )
    } else {
        let more = count(theirs - ours, "event");
        (
            "ahead",
            format!("at {theirs}; it holds {more} that this file lacks"),
        )
    };
    StreamSeen::new(state, text, Some(theirs))
}
