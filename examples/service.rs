//! A service: a keyed POST, a GET, one table, one event, and the rows of its snapshots. `reaction.rs` and `snapshot.rs` follow it.
//!
//!     cargo build -p freehold-examples && cargo xtask up --with visits-service=target/debug/visits-service

use axum::extract::State;
use relay::log::{Sink, row};
use relay::rusqlite::{self, Connection, OptionalExtension};
use relay::{Database, Fold, Received};
use service_kit::{ETag, IdempotencyKey, Idempotent, Json, Path, Problem, Reply, Routes, routes};
use service_program::Service;
use visits::{VisitEvent, Visited};

const TABLE: &str = "create table visits (page text primary key, count integer not null) strict";

/// A page and how often it was visited by now. A request names the page alone.
#[derive(serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
struct Page {
    page: String,
    #[serde(skip_deserializing)]
    count: u64,
}

/// Count a visit
#[utoipa::path(post, path = "/visits", tag = "visits", security(("operator" = [])), request_body = Page,
    params(IdempotencyKey), responses((status = 200, description = "Counted, once for each key", body = Page)))]
async fn visit(Idempotent(Page { page, .. }, once): Idempotent<Page>) -> Result<Reply, Problem> {
    let write = once.write(move |tx| {
        let visited = Visited { count: count(tx, &page)? + 1, page };
        apply(tx, &visited)?;
        let reply = Reply::ok(ETag(visited.count), &visited);
        tx.emit(&VisitEvent::Visited(visited))?; // in the transaction of the row and of the reply
        Ok(reply)
    });
    write.await
}

/// Read the visits of a page
#[utoipa::path(get, path = "/visits/{page}", tag = "visits", security(("operator" = []), ("service" = [])),
    params(("page" = String, Path, description = "The page")), responses((status = 200, description = "Its visits", body = Page)))]
async fn read(State(db): State<Database>, Path(page): Path<String>) -> Result<Json<Page>, Problem> {
    let found = db.read(move |rows| Ok::<_, rusqlite::Error>(Page { count: count(rows, &page)?, page }));
    Ok(Json(found.await?))
}

/// The only function that changes the table, for a new event and for one that comes back from the stream.
fn apply(rows: &Connection, visited: &Visited) -> rusqlite::Result<()> {
    rows.execute("replace into visits values (?1, ?2)", (&visited.page, visited.count)).map(drop)
}

fn count(rows: &Connection, page: &str) -> rusqlite::Result<u64> {
    let found = rows.query_row("select count from visits where page = ?1", [page], |row| row.get(0));
    Ok(found.optional()?.unwrap_or(0))
}

fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut pages = rows.prepare("select page, count from visits order by page")?;
    let mut pages = pages.query_map([], |row| Ok(Visited { page: row.get(0)?, count: row.get(1)? }))?;
    while pages.next().transpose()?.is_some_and(|page| to(row(&page))) {}
    Ok(())
}

pub fn service() -> Service {
    let fold = Fold::new(&["visits"], |rows, received: &Received<VisitEvent>| {
        let VisitEvent::Visited(visited) = &received.event;
        Ok(apply(rows, visited)?)
    });
    Service::new("visits-service", 7111)
        .about("Counts visits to pages.")
        .tables(&[TABLE, service_kit::IDEMPOTENCY_MIGRATION, service_kit::IDEMPOTENCY_AGES_MIGRATION])
        .emits::<VisitEvent>(fold)
        .shares(share)
        .routes(|app| Ok(Routes::default().routes(routes!(visit)).routes(routes!(read)).with_state(app.db.clone())))
}

fn main() -> std::process::ExitCode {
    service().main()
}
