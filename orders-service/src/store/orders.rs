//! Orders: their current state.

use std::fmt::Display;

use event_schema::{DriverId, OrderPlaced, OrderSnapshot, UserId};
use relay::log::Sink;
use relay::rusqlite::{self, Connection, OptionalExtension};
use service_kit::Limit;

use super::rows;
use crate::domain::{Order, Status};

/// An [`Order`] as JSON.
pub(super) const ORDER: &str = "json_object('id', id, 'user_id', user_id, 'amount', amount_minor, 'currency', currency,
    'status', status, 'driver_id', orders.driver_id, 'note', note, 'cancel_reason', cancel_reason, 'problems', problems,
    'version', version, 'owner_version', office_version, 'created_at_ms', created_at_ms, 'changed_at_ms', changed_at_ms,
    'seq', orders.seq)";

/// A [`Delivery`](event_schema::sync::Delivery) as JSON: an order as its driver may see it.
pub(super) const DELIVERY: &str = "json_object('order_id', orders.id, 'status', status, 'version', version,
    'customer', (select name from user_cache where id = user_id), 'amount_minor', amount_minor, 'currency', currency,
    'note', note, 'cancel_reason', cancel_reason, 'problems', problems, 'seq', orders.seq,
    'created_at_ms', created_at_ms, 'changed_at_ms', changed_at_ms)";

/// Which orders a list shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    pub user_id: Option<UserId>,
    pub driver_id: Option<DriverId>,
    pub status: Option<Status>,
}

pub(super) fn insert(
    rows: &Connection,
    event: &OrderPlaced,
    emitted_at_ms: i64,
    seq: u64,
) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "insert into orders (id, user_id, amount_minor, currency, status, version, created_at_ms, changed_at_ms, seq)
         select ?1 ->> 'order_id', ?1 ->> 'user_id', ?1 ->> 'amount_minor', ?1 ->> 'currency', 'placed', ?1 ->> 'version',
           coalesce(?1 ->> 'created_at_ms', ?2), coalesce(?1 ->> 'created_at_ms', ?2), ?3",
    )?
    .execute((rows::to_json(event), emitted_at_ms, seq))
}

/// What can change of an order. Updates nothing if the order was not at the version before.
pub(super) fn update(rows: &Connection, order: &Order) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set status = ?1 ->> 'status', driver_id = ?1 ->> 'driver_id', note = ?1 ->> 'note',
         cancel_reason = ?1 ->> 'cancel_reason', problems = ?1 ->> 'problems', version = ?1 ->> 'version',
         office_version = ?1 ->> 'owner_version', changed_at_ms = ?1 ->> 'changed_at_ms'
         where id = ?1 ->> 'id' and version = (?1 ->> 'version') - 1",
    )?
    .execute([rows::to_json(order)])
}

pub fn find(rows: &Connection, id: impl Display) -> rusqlite::Result<Option<Order>> {
    rows.prepare_cached(&format!("select {ORDER} from orders where id = ?1"))?
        .query_row([id.to_string()], rows::json)
        .optional()
}

/// In the order of placing, after the sequence `after`; one more than the limit if there are more.
pub fn list(
    rows: &Connection,
    filter: Filter,
    after: Option<i64>,
    limit: Limit,
) -> rusqlite::Result<Vec<Order>> {
    let select = format!("select {ORDER} from orders where true");
    let (after, limit) = (after.unwrap_or(i64::MIN), limit.and_one_more().into());
    rows::list(rows, &select, &filter.columns(), after, limit)
}

/// Open orders of a user or of a driver.
pub fn open_of(rows: &Connection, filter: Filter) -> rusqlite::Result<Vec<Order>> {
    let open = "status in ('placed', 'assigned', 'picked_up')";
    let select = format!("select {ORDER} from orders where {open}");
    rows::list(rows, &select, &filter.columns(), i64::MIN, -1)
}

/// Whether the user has ever ordered.
pub fn has_any(rows: &Connection, user_id: UserId) -> rusqlite::Result<bool> {
    rows.prepare_cached("select 1 from orders where user_id = ?1 limit 1")?
        .exists([user_id.to_string()])
}

/// Every order as other services may know it, in the order of the ids.
pub fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let select = "select json_object('order_id', id, 'user_id', user_id, 'amount_minor', amount_minor, 'currency', currency,
        'status', status, 'version', version, 'created_at_ms', created_at_ms, 'driver_id', driver_id) from orders order by id";
    rows::share::<OrderSnapshot>(rows, select, to)
}

impl Filter {
    fn columns(self) -> [(&'static str, Option<String>); 3] {
        [
            ("user_id", self.user_id.map(|id| id.to_string())),
            ("driver_id", self.driver_id.map(|id| id.to_string())),
            (
                "status",
                self.status.map(|status| status.as_str().to_owned()),
            ),
        ]
    }
}
