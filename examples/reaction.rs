//! A reaction: for another service's event it emits an event of its own. A page that was visited ten times gets an award.
//!
//!     cargo build -p freehold-examples && cargo xtask up --with visits-service=target/debug/visits-service \
//!         --with awards-service=target/debug/awards-service

use axum::extract::State;
use relay::rusqlite::{self, Connection};
use relay::{ApplyError, Consumer, Database, Fold, Received, Tx};
use service_kit::{Json, Problem, Routes, routes};
use service_program::Service;
use visits::VisitEvent;

const TABLES: &str = "
    create table awards (page text primary key, visits integer not null) strict;
    create table last_visits (page text primary key, seq integer not null) strict;";

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
pub struct Given {
    page: String,
    visits: u64,
}

// In a crate of its own, as soon as another service reads it.
relay::events! {
    enum AwardEvent on "AWARDS" { "awards.given.v1" => Given(Given) about page }
}

/// Runs in one transaction with the offset, so each event is answered once: no table of seen ids is needed.
fn react(tx: &Tx<'_>, received: &Received<VisitEvent>) -> Result<(), ApplyError> {
    let VisitEvent::Visited(visit) = &received.event;
    // A private row, which follows from no event of this service: no import brings it back, so nothing may depend on it.
    tx.execute("replace into last_visits values (?1, ?2)", (&visit.page, received.seq))?;
    if visit.count < 10 || is_given(tx, &visit.page)? {
        return Ok(());
    }
    let given = Given { page: visit.page.clone(), visits: visit.count };
    apply(tx, &given)?;
    tx.emit(&AwardEvent::Given(given))?;
    Ok(())
}

/// What the service decides by is in a table that follows from its own events: see its fold.
fn is_given(rows: &Connection, page: &str) -> rusqlite::Result<bool> {
    rows.prepare("select 1 from awards where page = ?1")?.exists([page])
}

/// List all awards
#[utoipa::path(get, path = "/awards", tag = "awards", security(("operator" = []), ("service" = [])),
    responses((status = 200, description = "Every award", body = Vec<Given>)))]
async fn list(State(db): State<Database>) -> Result<Json<Vec<Given>>, Problem> {
    Ok(Json(db.read(given).await?))
}

fn given(rows: &Connection) -> rusqlite::Result<Vec<Given>> {
    let mut awards = rows.prepare("select page, visits from awards order by page")?;
    awards.query_map([], |row| Ok(Given { page: row.get(0)?, visits: row.get(1)? }))?.collect()
}

fn apply(rows: &Connection, given: &Given) -> rusqlite::Result<()> {
    rows.execute("insert into awards values (?1, ?2)", (&given.page, given.visits)).map(drop)
}

pub fn service() -> Service {
    let fold = Fold::new(&["awards"], |rows, received: &Received<AwardEvent>| {
        let AwardEvent::Given(given) = &received.event;
        Ok(apply(rows, given)?)
    });
    Service::new("awards-service", 7112)
        .about("Gives an award to a page that was visited ten times.")
        .tables(&[TABLES])
        .emits::<AwardEvent>(fold)
        .follows(Consumer::reaction("awards-of-visits", react))
        .routes(|app| Ok(Routes::default().routes(routes!(list)).with_state(app.db.clone())))
}

fn main() -> std::process::ExitCode {
    service().main()
}
