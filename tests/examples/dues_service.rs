//! A third service, for `cargo xtask up --with dues-service=…`: it notes what each order costs.

use std::process::ExitCode;

use event_schema::OrderEvent;
use relay::{ApplyError, Consumer, Received, Rows};
use service_program::Service;

const DUE: &str =
    "create table due (order_id text primary key, amount_minor integer not null) strict";

fn main() -> ExitCode {
    Service::new("dues-service", 7190)
        .about("Notes what each order costs.")
        .tables(&[DUE])
        .follows(Consumer::projection("dues-orders", note))
        .main()
}

fn note(rows: &Rows<'_>, received: &Received<OrderEvent>) -> Result<(), ApplyError> {
    if let OrderEvent::Placed(order) = &received.event {
        let row = (order.order_id.to_string(), order.amount_minor);
        rows.execute("insert or ignore into due values (?1, ?2)", row)?;
    }
    Ok(())
}
