//! Follows the owner's feed: pages are staged until their checkpoint is complete, then applied together.

use std::sync::Arc;
use std::time::Duration;

use event_schema::sync::{FeedItem, FeedPage};
use relay::Tx;
use relay::rusqlite::{self, Connection};
use service_kit::codes::INVALID_QUERY;
use tokio::time::Instant;

use super::{Link, Step};
use crate::device::Device;
use crate::owner_api::{OwnerApi, OwnerError, Reply};
use crate::status::Part;
use crate::store::device::Identity;
use crate::store::{self, StoreError};

pub struct Follower {
    link: Link,
    /// How long the owner may wait for news.
    wait: Duration,
}

/// The pause after a reply without news, for an owner that does not wait for any.
const SHORTEST_POLL: Duration = Duration::from_secs(1);

/// Where the device stands in the feed, and what it asks with.
#[derive(Clone, PartialEq, Eq)]
struct Cursor {
    token: String,
    after: Option<String>,
    /// Pages of a checkpoint wait for its end, so the next request must not wait for news.
    mid_checkpoint: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// The page belongs to an incomplete checkpoint; or the cursor has moved since the request, and the page is dropped.
    Nothing,
    NoNews,
    Checkpoint,
}

impl Follower {
    pub fn new(device: &Device, owner: Arc<OwnerApi>, wait: Duration) -> Self {
        let link = Link::new(Part::Feed, device, owner);
        Self { link, wait }
    }

    /// Asks for one page, and stages or applies it.
    pub async fn step(&mut self) -> Step {
        let step = self.follow().await;
        self.link.finish(step)
    }

    async fn follow(&mut self) -> Result<Step, StoreError> {
        let now = self.link.take_now();
        let Some(cursor) = self.link.db().read(cursor).await? else {
            return Ok(Step::Idle);
        };
        // The page should show at once that the network is back, not when there is news or the wait is over.
        let may_wait = self.link.status().contact().online() && !now && !cursor.mid_checkpoint;
        let wait = if may_wait { self.wait } else { Duration::ZERO };
        let asked = Instant::now();
        let owner = self.link.owner.clone();
        match owner
            .feed(&cursor.token, cursor.after.as_deref(), wait)
            .await
        {
            Ok(Reply { value, .. }) if is_stuck(&cursor, &value) => {
                let why = "the feed's next page is the same page again".to_owned();
                self.refused(cursor, OwnerError::Unexpected(why)).await
            }
            Ok(reply) => self.take(cursor, reply, asked).await,
            Err(error) => self.refused(cursor, error).await,
        }
    }

    async fn take(
        &mut self,
        cursor: Cursor,
        Reply { value, date_ms }: Reply<FeedPage>,
        asked: Instant,
    ) -> Result<Step, StoreError> {
        let now_ms = self.link.device.now_ms();
        let token = cursor.token.clone();
        let work = move |tx: &Tx<'_>| take(tx, &cursor, &value, now_ms);
        let taken = self.link.store(token, date_ms, work).await?;
        if taken == Taken::Checkpoint {
            self.link.status().changed();
        }
        Ok(match taken {
            Taken::NoNews => Step::Wait(SHORTEST_POLL.saturating_sub(asked.elapsed())),
            Taken::Nothing | Taken::Checkpoint => Step::Progress,
        })
    }

    async fn refused(&mut self, cursor: Cursor, error: OwnerError) -> Result<Step, StoreError> {
        let token = cursor.token.clone();
        if cursor.after.is_some() && error.is_refused_as(INVALID_QUERY.name()) {
            tracing::warn!(%error, "the feed begins from scratch");
            let write = move |tx: &Tx<'_>| match self::cursor(tx)? == Some(cursor) {
                true => store::device::restart_feed(tx),
                false => Ok(()),
            };
            self.link.db().write(write).await?;
        }
        self.link.refused(&token, error).await
    }
}

/// `None`: the device has no token to ask with.
fn cursor(rows: &Connection) -> rusqlite::Result<Option<Cursor>> {
    let identity = store::device::get(rows)?;
    let Some(token) = identity.usable_token() else {
        return Ok(None);
    };
    let staged = store::deliveries::staged_next(rows)?;
    let mid_checkpoint = staged.is_some();
    let after = staged.or(identity.feed_token);
    Ok(Some(Cursor {
        token,
        after,
        mid_checkpoint,
    }))
}

/// The page promises more, but its next page is itself.
fn is_stuck(cursor: &Cursor, page: &FeedPage) -> bool {
    !page.complete && cursor.after.as_ref() == Some(&page.next)
}

fn take(
    rows: &Connection,
    asked: &Cursor,
    page: &FeedPage,
    now_ms: i64,
) -> rusqlite::Result<Taken> {
    if cursor(rows)?.as_ref() != Some(asked) {
        return Ok(Taken::Nothing);
    }
    let identity = store::device::get(rows)?;
    if asked.after == identity.feed_token && has_no_news(&identity, page) {
        return Ok(Taken::NoNews);
    }
    if page.snapshot {
        store::deliveries::unstage(rows)?; // it replaces the deliveries and the staged pages
    }
    store::deliveries::stage(rows, page)?;
    if !page.complete {
        return Ok(Taken::Nothing);
    }
    apply(rows, &identity, page)?;
    store::device::set_contact(rows, now_ms)?;
    Ok(Taken::Checkpoint)
}

fn has_no_news(identity: &Identity, page: &FeedPage) -> bool {
    let empty = page.items.is_empty() && page.judged.is_empty() && !page.snapshot;
    let same =
        identity.feed_token.as_ref() == Some(&page.next) && identity.feed_at == Some(page.at);
    empty && page.complete && same
}

/// Applies the whole checkpoint, of which `last` is the last page.
fn apply(rows: &Connection, before: &Identity, last: &FeedPage) -> rusqlite::Result<()> {
    let pages = store::deliveries::staged(rows)?;
    let replaces = before.feed_token.is_none() || pages.first().is_some_and(|page| page.snapshot);
    if replaces {
        store::deliveries::clear(rows)?;
    }
    for page in &pages {
        page.items.iter().try_for_each(|item| change(rows, item))?;
        page.judged
            .iter()
            .try_for_each(|judged| store::intents::decide(rows, judged))?;
    }
    store::intents::strip(rows)?;
    store::device::set_feed(rows, &last.next, last.at)?;
    // A log that is shorter than before has lost its tail, or is another one.
    let is_shorter = before.feed_at.is_some_and(|at| last.at < at);
    if replaces || is_shorter {
        store::intents::ask_again(rows, last.at)?;
    }
    store::intents::settle(rows, last.at)?;
    store::deliveries::trim(rows)?;
    store::deliveries::unstage(rows)
}

fn change(rows: &Connection, item: &FeedItem) -> rusqlite::Result<()> {
    match item {
        FeedItem::Put { delivery } => store::deliveries::put(rows, delivery),
        FeedItem::Remove { order_id } => store::deliveries::remove(rows, *order_id),
    }
}
