//! The deliveries as the owner last sent them, and the pages of a checkpoint that is not complete yet.

use event_schema::OrderId;
use event_schema::sync::{Delivery, FeedPage};
use relay::rusqlite::{self, Connection, OptionalExtension};

use super::{json, to_json};

pub fn find(rows: &Connection, id: OrderId) -> rusqlite::Result<Option<Delivery>> {
    rows.prepare_cached("select body from deliveries where order_id = ?1")?
        .query_row([id.to_string()], json)
        .optional()
}

/// All of them, in the order of placing; first those that an older owner sent without a sequence.
pub fn list(rows: &Connection) -> rusqlite::Result<Vec<Delivery>> {
    rows.prepare_cached("select body from deliveries order by body ->> '$.seq', order_id")?
        .query_map([], json)?
        .collect()
}

pub fn put(rows: &Connection, delivery: &Delivery) -> rusqlite::Result<()> {
    rows.prepare_cached("replace into deliveries (order_id, body) values (?1, ?2)")?
        .execute((delivery.order_id.to_string(), to_json(delivery)))?;
    Ok(())
}

pub fn remove(rows: &Connection, id: OrderId) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from deliveries where order_id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

pub fn clear(rows: &Connection) -> rusqlite::Result<()> {
    rows.execute("delete from deliveries", [])?;
    Ok(())
}

/// Finished deliveries that a device keeps.
pub const FINISHED_KEPT: u32 = 200;

/// Deletes all but the newest finished deliveries, by the owner's clock. A delivery with an open intent stays.
pub fn trim(rows: &Connection) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "delete from deliveries where order_id in
             (select order_id from deliveries where body ->> '$.status' in ('delivered', 'cancelled')
              order by body ->> '$.changed_at_ms' desc, order_id desc limit -1 offset ?1)
         and order_id not in (select order_id from intents where open = 1)",
    )?
    .execute([FINISHED_KEPT])?;
    Ok(())
}

/// Adds a page to the checkpoint that is not complete yet.
pub fn stage(rows: &Connection, page: &FeedPage) -> rusqlite::Result<()> {
    rows.prepare_cached("insert into staged (next, page) values (?1, ?2)")?
        .execute((&page.next, to_json(page)))?;
    Ok(())
}

/// Where the page after the last staged one begins.
pub fn staged_next(rows: &Connection) -> rusqlite::Result<Option<String>> {
    rows.prepare_cached("select next from staged order by n desc limit 1")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// In order.
pub fn staged(rows: &Connection) -> rusqlite::Result<Vec<FeedPage>> {
    rows.prepare_cached("select page from staged order by n")?
        .query_map([], json)?
        .collect()
}

pub fn unstage(rows: &Connection) -> rusqlite::Result<()> {
    rows.execute("delete from staged", [])?;
    Ok(())
}
