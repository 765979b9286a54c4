//! The smallest service: it counts a visit and publishes it as an event. With the broker of `nats-server -c examples/nats.conf`:
//!
//!     NATS_URL=nats://127.0.0.1:4222 cargo run -p freehold-examples --bin producer

use relay::{Database, EmitError, Nats, Options, Relay, Stop, Tx};
use visits::{VisitEvent, Visited};

const TABLE: &str = "create table visits (page text primary key, count integer) strict";

/// The row and the event, in one transaction: the file holds both or neither.
fn visit(tx: &Tx<'_>, page: String) -> Result<u64, EmitError> {
    let sql = "insert into visits values (?1, 1) on conflict do update set count = count + 1 returning count";
    let count = tx.query_row(sql, [&page], |row| row.get(0))?;
    tx.emit(&VisitEvent::Visited(Visited { page, count }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Database::open("visits.db", Options::new("visits", "VISITS", &[TABLE])).await?;
    db.write(|tx| visit(tx, "/welcome".to_owned())).await?; // on the disk, with or without a broker
    let nats = Nats::new(&std::env::var("NATS_URL")?, "visits", "secret", "_INBOX_visits");
    let relay = Relay::new(&db, nats.stream("VISITS"));
    Ok(relay.run(Stop::new()).await?)
}
