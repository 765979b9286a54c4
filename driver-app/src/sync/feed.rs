//! The way down: pages are put aside until their checkpoint is complete, and then it is applied whole.

use std::sync::Arc;
use std::time::Duration;

use event_schema::sync::{FeedItem, FeedPage};
use relay::Tx;
use relay::rusqlite::{self, Connection};
use service_kit::codes::INVALID_QUERY;
use tokio::time::Instant;

use super::status::Way;
use super::{Backoff, Step, broken, refused};
use crate::device::Device;
use crate::owner_api::{Answer, Ask, Owner, Refusal};
use crate::store::device::Identity;
use crate::store::{self, StoreError};

/// Follows the feed.
pub struct Follower {
    device: Device,
    owner: Arc<dyn Owner>,
    /// How long the owner may wait for news.
    wait: Duration,
    backoff: Backoff,
    hurries: u64,
}

/// Changes a page, at most.
pub const PAGE: u32 = 200;
/// An owner that has no news and does not wait for any is not asked more often.
const SHORTEST_POLL: Duration = Duration::from_secs(1);

/// Where the device stands, and what it asks with.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    token: String,
    after: Option<String>,
    /// There are pages of a checkpoint that wait for its end: no news would be no reason to wait.
    amid_checkpoint: bool,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It was asked for before something changed, and is none of what the device asks for now.
    Dropped,
    Staged,
    Applied,
    /// It says that nothing is new.
    Known,
}

impl Follower {
    pub fn new(device: &Device, owner: Arc<dyn Owner>, wait: Duration) -> Self {
        Self {
            device: device.clone(),
            owner,
            wait,
            backoff: Backoff::default(),
            hurries: device.status.hurries(),
        }
    }

    /// Asks for one page, and puts it where it belongs.
    pub async fn step(&mut self) -> Step {
        match self.follow().await {
            Ok(step) => step,
            Err(error) => broken(&self.device, Way::Down, &error, &mut self.backoff),
        }
    }

    async fn follow(&mut self) -> Result<Step, StoreError> {
        let in_a_hurry = self.hurry();
        let Some(place) = self.device.db.read(place).await? else {
            return Ok(Step::Idle);
        };
        // Whether there is a network should be known at once, not when there is news or the owner's patience ends.
        let known_to_be_online = self.device.status.contact().online() && !in_a_hurry;
        let ask = Ask {
            after: place.after.clone(),
            limit: PAGE,
            wait: if known_to_be_online && !place.amid_checkpoint {
                self.wait
            } else {
                Duration::ZERO
            },
        };
        let asked = Instant::now();
        match self.owner.feed(&place.token, &ask).await {
            Ok(answer) if leads_nowhere(&place, &answer.value) => {
                let refusal = Refusal::Unclear("the feed's next page is the same again".to_owned());
                self.refused(place, refusal).await
            }
            Ok(answer) => self.take(place, answer, asked).await,
            Err(refusal) => self.refused(place, refusal).await,
        }
    }

    /// True when somebody has said "now" since the last step.
    fn hurry(&mut self) -> bool {
        let hurries = self.device.status.hurries();
        let told = std::mem::replace(&mut self.hurries, hurries) != hurries;
        if told {
            self.backoff.reset();
        }
        told
    }

    async fn take(
        &mut self,
        place: Place,
        answer: Answer<FeedPage>,
        asked: Instant,
    ) -> Result<Step, StoreError> {
        let (page, now_ms) = (answer.value, self.device.now_ms());
        let write = move |tx: &Tx<'_>| {
            let accepted_again = store::device::accept(tx, &place.token)?;
            Ok((take(tx, &place, &page, now_ms)?, accepted_again))
        };
        let (taken, accepted_again) = self.device.db.write(write).await?;
        self.backoff.reset();
        self.device.status.heard(Way::Down, now_ms, answer.date_ms);
        if taken == Taken::Applied || accepted_again {
            self.device.status.changed();
        }
        if accepted_again {
            self.device.ring(); // the way up may be waiting
        }
        Ok(match taken {
            Taken::Known => Step::Wait(SHORTEST_POLL.saturating_sub(asked.elapsed())),
            _ => Step::Progress,
        })
    }

    async fn refused(&mut self, place: Place, refusal: Refusal) -> Result<Step, StoreError> {
        let unknown_place =
            matches!(&refusal, Refusal::Refused { code, .. } if code == INVALID_QUERY.name());
        if place.after.is_some() && unknown_place {
            self.begin_again(place.clone(), &refusal).await?;
        }
        refused(
            &self.device,
            Way::Down,
            &place.token,
            refusal,
            &mut self.backoff,
        )
        .await
    }

    /// The owner does not know this place of its feed.
    async fn begin_again(&self, at: Place, why: &Refusal) -> Result<(), StoreError> {
        tracing::warn!(%why, "the feed begins from scratch");
        let write = move |tx: &Tx<'_>| match place(tx)? == Some(at) {
            true => store::device::restart_feed(tx),
            false => Ok(()),
        };
        Ok(self.device.db.write(write).await?)
    }
}

/// `None`: there is nobody to ask as.
fn place(rows: &Connection) -> rusqlite::Result<Option<Place>> {
    let identity = store::device::get(rows)?;
    let Some(token) = identity.pass().map(str::to_owned) else {
        return Ok(None);
    };
    let staged = store::deliveries::staged_next(rows)?;
    Ok(Some(Place {
        token,
        amid_checkpoint: staged.is_some(),
        after: staged.or(identity.feed_token),
    }))
}

/// More is to come, from where this page came from.
fn leads_nowhere(place: &Place, page: &FeedPage) -> bool {
    !page.complete && place.after.as_ref() == Some(&page.next)
}

fn take(rows: &Connection, asked: &Place, page: &FeedPage, now_ms: i64) -> rusqlite::Result<Taken> {
    if place(rows)?.as_ref() != Some(asked) {
        return Ok(Taken::Dropped);
    }
    let identity = store::device::get(rows)?;
    if asked.after == identity.feed_token && says_nothing(&identity, page) {
        return Ok(Taken::Known);
    }
    if page.snapshot {
        store::deliveries::unstage(rows)?; // it replaces what is here, and what was on its way
    }
    store::deliveries::stage(rows, page)?;
    if !page.complete {
        return Ok(Taken::Staged);
    }
    apply(rows, &identity, page)?;
    store::device::set_contact(rows, now_ms)?;
    Ok(Taken::Applied)
}

/// A question for news that ended without any.
fn says_nothing(identity: &Identity, page: &FeedPage) -> bool {
    let empty = page.items.is_empty() && page.judged.is_empty() && !page.snapshot;
    let stands =
        identity.feed_token.as_ref() == Some(&page.next) && identity.feed_at == Some(page.at);
    empty && page.complete && stands
}

/// The whole checkpoint, of which `last` is the end.
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
            .try_for_each(|judged| store::intents::judge(rows, judged))?;
    }
    store::intents::strip(rows)?;
    store::device::set_feed(rows, &last.next, last.at)?;
    if replaces || is_shorter(before, last) {
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

/// A log that is shorter than before has lost its tail, or is another one.
fn is_shorter(before: &Identity, last: &FeedPage) -> bool {
    before.feed_at.is_some_and(|at| last.at < at)
}
