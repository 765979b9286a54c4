//! The owner's side: other services that keep a cache of its state load a snapshot, ask whether its log holds an event, and
//! report their position. Each request needs a service's token.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use futures::stream::{self, Stream, StreamExt};
use relay::WriteError;
use relay::error::{LogError, chain};
use relay::event::EventId;
use relay::log::{Holds, Line, Lines, Position, Producer};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::http::{Code, Json, Path, Problem, Query, Routes, codes};

/// Snapshots under way at a time. Each holds a read transaction, behind which the WAL cannot shrink.
pub const MAX_SNAPSHOTS: usize = 2;
/// The most lines in one chunk of the answer.
const LINES_A_CHUNK: usize = 64;

#[derive(Clone)]
struct Owner {
    answers: Arc<dyn Producer>,
    places: Arc<Semaphore>,
}

/// A position in the log: a sequence and the id of the event there, which identify it together.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct At {
    /// The sequence of the last event that the reader has applied. Together with `id`, or not at all.
    seq: Option<u64>,
    /// The id of that event.
    #[param(value_type = Option<String>, format = Uuid)]
    id: Option<EventId>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Event {
    /// Which event is asked about.
    #[param(value_type = String, format = Uuid)]
    id: EventId,
}

/// Whether the log holds an event.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Held {
    /// `yes`, `no`, or `pruned` when that event is not kept any more.
    #[schema(value_type = String, example = "yes")]
    pub(crate) holds: Holds,
}

/// The position of a reader.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Report {
    /// The last event it has applied; null before the first. It must be present, since null holds the whole log.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required = true)]
    at: Option<Applied>,
}

/// A sequence, and the event there.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Applied {
    seq: u64,
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
}

/// The routes by which other services read what this one shares: the snapshot, `holds`, and the reports of readers. Callers are
/// services.
pub fn snapshot_routes(answers: Arc<dyn Producer>) -> Routes {
    let places = Arc::new(Semaphore::new(MAX_SNAPSHOTS));
    Routes::default()
        .routes(routes!(snapshot))
        .routes(routes!(holds))
        .routes(routes!(report))
        .with_state(Owner { answers, places })
}

/// What this service shares
///
/// A line of JSON for each row, first the position, last the end. Without its end it is not whole.
#[utoipa::path(
    get, path = "/snapshot", tag = "other services", params(At), security(("service" = [])),
    responses((status = 200, description = "Lines: `position`, a `row` each, `end`", body = String, content_type = "application/x-ndjson")),
    extensions(("x-problems" = json!([codes::BUSY.name(), codes::NOT_OPEN.name()])))
)]
async fn snapshot(
    State(owner): State<Owner>,
    Query(at): Query<At>,
) -> Result<impl IntoResponse, Problem> {
    let at = at.position()?;
    let place = owner.places.try_acquire_owned().map_err(|_| {
        let detail = format!("{MAX_SNAPSHOTS} snapshots are being read already; try again");
        Problem::new(codes::BUSY, detail).retry_later()
    })?;
    let mut lines = owner.answers.snapshot(at).await?;
    // A failure before the first line has a status; a later one cuts the answer off.
    let first = match lines.recv().await {
        Some(line) => line?,
        None => return Err(LogError::disconnected("there is no snapshot").into()),
    };
    let body = Body::from_stream(encoded(first, lines, place));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body))
}

/// Is this event in the log?
#[utoipa::path(
    get, path = "/log/{seq}", tag = "other services", security(("service" = [])),
    params(("seq" = u64, Path, description = "The event's number"), Event),
    responses((status = 200, description = "The answer", body = Held)),
    extensions(("x-problems" = json!([codes::NOT_OPEN.name()])))
)]
async fn holds(
    State(owner): State<Owner>,
    Path(seq): Path<u64>,
    Query(Event { id }): Query<Event>,
) -> Result<Json<Held>, Problem> {
    let at = position(seq, id, codes::INVALID_ID)?;
    let holds = owner.answers.holds(at).await?;
    Ok(Json(Held { holds }))
}

/// Reports a reader's position
///
/// Retention keeps what the reader has still to read, as long as its last report is not too old. A position that the log
/// does not hold is answered and not stored.
#[utoipa::path(
    put, path = "/log/readers/{reader}", tag = "other services", security(("service" = [])), request_body = Report,
    params(("reader" = String, Path, description = "The reader's name", min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")),
    responses((status = 200, description = "Whether the log holds the position", body = Held)),
    extensions(("x-problems" = json!([codes::BUSY.name(), codes::DISK_FULL.name(), codes::NOT_OPEN.name()])))
)]
async fn report(
    State(owner): State<Owner>,
    Path(reader): Path<String>,
    Json(Report { at }): Json<Report>,
) -> Result<Json<Held>, Problem> {
    if !relay::publish::is_reader_name(&reader) {
        let detail = "expected 1 to 100 letters, digits, `.`, `_` and `-`";
        return Err(Problem::field(codes::INVALID_ID, "reader", detail));
    }
    let at = at.map(|Applied { seq, id }| position(seq, id, codes::INVALID_BODY));
    let at = at.transpose()?;
    let stored = owner.answers.report(&reader, at).await;
    let holds = stored.map_err(not_stored)?;
    Ok(Json(Held { holds }))
}

/// Lines are encoded as the client reads them. When it disconnects, the lines are dropped, which ends the read transaction.
fn encoded(
    first: Line,
    lines: Lines,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, LogError>> {
    let rest = stream::unfold((lines, place), |(mut lines, place)| async move {
        Some((lines.recv().await?, (lines, place)))
    });
    stream::iter([Ok(first)])
        .chain(rest)
        .ready_chunks(LINES_A_CHUNK)
        .map(|lines| {
            let mut bytes = Vec::new();
            for line in lines {
                let written = serde_json::to_writer(&mut bytes, &line?);
                written.expect("lines of plain types and raw JSON always serialize");
                bytes.push(b'\n');
            }
            Ok(bytes.into())
        })
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        Self::new(codes::NOT_OPEN, chain(&error)).retry_later()
    }
}

/// A refused write reads as it does on every other route.
fn not_stored(error: LogError) -> Problem {
    match error {
        LogError::Refused(why) => Problem::new(codes::BUSY, why).retry_later(),
        LogError::Disconnected(what, Some(source)) => {
            match source.downcast::<WriteError<LogError>>() {
                Ok(refused) => (*refused).into(),
                Err(source) => LogError::Disconnected(what, Some(source)).into(),
            }
        }
        other => other.into(),
    }
}

/// A sequence fits into the database's integers.
fn position(seq: u64, id: EventId, code: Code) -> Result<Position, Problem> {
    let too_large = |_| format!("a number too large, expected at most {}", i64::MAX);
    let checked = i64::try_from(seq).map_err(too_large);
    checked.map_err(|detail| Problem::field(code, "seq", detail))?;
    Ok(Position { seq, id })
}

impl At {
    fn position(self) -> Result<Option<Position>, Problem> {
        match (self.seq, self.id) {
            (Some(seq), Some(id)) => position(seq, id, codes::INVALID_QUERY).map(Some),
            (None, None) => Ok(None),
            (seq, _) => Err(Problem::field(
                codes::INVALID_QUERY,
                if seq.is_some() { "id" } else { "seq" },
                "a position is `seq` and `id`: send both or none",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_cannot_be_written_says_why() {
        let written = |error: WriteError<LogError>| {
            not_stored(LogError::disconnected_by(
                "the report cannot be stored",
                error,
            ))
            .code()
        };
        assert_eq!(written(WriteError::Full), codes::DISK_FULL);
        assert_eq!(written(WriteError::Busy("why".to_owned())), codes::BUSY);
        assert_eq!(
            not_stored(LogError::disconnected("why")).code(),
            codes::NOT_OPEN
        );
    }
}
