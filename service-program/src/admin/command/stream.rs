//! How a service's stream compares to its outbox, for `status`.

use std::cmp::Ordering;
use std::time::Duration;

use relay::log::{Connect, Head, Log};
use relay::nats::NatsStream;
use relay::operate::{ReadOnly, Report};
use tokio::time::timeout;

use crate::admin::command::answer::{count, database};
use crate::admin::setup::Setup;

/// A broker that takes longer counts as unreachable.
const MAX_BROKER_TIME: Duration = Duration::from_secs(5);

pub(super) struct StreamStatus {
    /// One word, for programs.
    pub(super) state: &'static str,
    /// The same as a sentence, for people.
    pub(super) text: String,
    pub(super) head: Option<u64>,
}

impl StreamStatus {
    pub(super) async fn ask(setup: &Setup, file: &ReadOnly, report: &Report) -> Self {
        let to = match setup.nats() {
            Ok(nats) => setup.stream(&nats),
            Err(why) => return Self::unknown(format!("not asked: {why}")),
        };
        match timeout(MAX_BROKER_TIME, compare(&to, file, report)).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => Self::unknown(relay::error::chain(error.as_ref())),
            Err(_) => Self::unknown(format!("the broker does not answer in {MAX_BROKER_TIME:?}")),
        }
    }

    fn new(state: &'static str, text: String, head: Option<u64>) -> Self {
        Self { state, text, head }
    }

    fn unknown(text: String) -> Self {
        Self::new("unknown", text, None)
    }

    /// An unreachable broker is no fault, since the service works without it, but its stream is unknown.
    pub(super) fn is_well(&self) -> Option<bool> {
        match self.state {
            "unknown" => None,
            state => Some(!["foreign", "forked", "ahead"].contains(&state)),
        }
    }
}

async fn compare(
    to: &NatsStream,
    file: &ReadOnly,
    report: &Report,
) -> anyhow::Result<StreamStatus> {
    let mut stream = to.connect().await?;
    let Some(Head { origin, seq, .. }) = stream.head().await? else {
        let text = "there is none: the service creates it when it reaches the broker";
        return Ok(StreamStatus::new("missing", text.to_owned(), None));
    };
    let ours = report.last.map_or(0, |last| last.seq);
    let (events, both) = (count(seq.abs_diff(ours), "event"), seq.min(ours));
    let (state, text) = if origin != report.origin {
        (
            "foreign",
            format!("not this file's: it is of database {}", database(&origin)),
        )
    } else if differs(&mut stream, file, both).await? {
        (
            "forked",
            format!("at {seq}; not this file's: its event {both} is another one"),
        )
    } else {
        match seq.cmp(&ours) {
            Ordering::Equal => ("equal", format!("equal, at {seq}")),
            Ordering::Less => ("behind", format!("at {seq}; {events} not yet published")),
            Ordering::Greater => (
                "ahead",
                format!("at {seq}; it holds {events} that this file lacks"),
            ),
        }
    };
    Ok(StreamStatus::new(state, text, Some(seq)))
}

/// Whether stream and file hold different events at this sequence.
async fn differs(stream: &mut impl Log, file: &ReadOnly, seq: u64) -> anyhow::Result<bool> {
    let before = seq.saturating_sub(1);
    let theirs = stream.read_after(before, 1, Duration::ZERO).await?.pop();
    let theirs = theirs.filter(|record| record.seq == seq);
    let theirs = theirs.and_then(|record| record.event_id());
    let ours = file.event_id(seq).await?;
    Ok(theirs.is_some() && ours.is_some() && theirs != ours)
}
