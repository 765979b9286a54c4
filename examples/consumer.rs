//! The smallest consumer: it keeps the visits of another service in a file of its own. Beside the producer and its broker:
//!
//!     NATS_URL=nats://127.0.0.1:4222 cargo run -p freehold-examples --bin consumer

use relay::{Consumer, Database, Nats, Options, Received, Stop};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let table = "create table popular (page text primary key, count integer) strict";
    let db = Database::open("reports.db", Options::new("reports", "REPORTS", &[table])).await?;
    let nats = Nats::new(&std::env::var("NATS_URL")?, "reports", "secret", "_INBOX_reports");
    let consumer = Consumer::projection("popular", |rows, event: &Received<visits::VisitEvent>| {
        let visits::VisitEvent::Visited(visit) = &event.event;
        Ok(rows.execute("replace into popular values (?1, ?2)", (&visit.page, visit.count)).map(drop)?)
    });
    Ok(consumer.run(&db, nats.reader("VISITS"), Stop::new()).await?)
}
