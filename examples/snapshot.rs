//! A cache that can begin with a snapshot: the rows that `service.rs` shares, as of one event, and then the events after it.
//!
//!     cargo build -p freehold-examples && cargo xtask up --with visits-service=target/debug/visits-service \
//!         --with reports-service=target/debug/reports-service

use relay::consume::Start;
use relay::log::{Sink, row};
use relay::rusqlite::{self, Connection};
use relay::{ApplyError, Consumer, Received, Rows};
use service_program::Service;
use visits::{VisitEvent, Visited};

const TABLE: &str = "create table popular (page text primary key, count integer not null) strict";

fn apply(rows: &Rows<'_>, received: &Received<VisitEvent>) -> Result<(), ApplyError> {
    let VisitEvent::Visited(visited) = &received.event;
    load(rows, visited)
}

/// A row of the snapshot, into the emptied table.
fn load(rows: &Rows<'_>, visited: &Visited) -> Result<(), ApplyError> {
    rows.execute("replace into popular values (?1, ?2)", (&visited.page, visited.count))?;
    Ok(())
}

/// The cache as such rows, in its producer's order: `reports-service verify` compares the two.
fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut pages = rows.prepare("select page, count from popular order by page")?;
    let mut pages = pages.query_map([], |row| Ok(Visited { page: row.get(0)?, count: row.get(1)? }))?;
    while pages.next().transpose()?.is_some_and(|page| to(row(&page))) {}
    Ok(())
}

pub fn service() -> Service {
    let cache = Consumer::projection("reports-popular", apply)
        .loads(&["popular"], load, share) // also when it cannot follow the stream any more
        .starts(Start::Snapshot); // without this line it begins with the first event
    Service::new("reports-service", 7113).about("Keeps the visits of every page.").tables(&[TABLE]).follows(cache)
}

fn main() -> std::process::ExitCode {
    service().main()
}
