//! What a person decides when two lines of events exist: follow the stream's, or keep this file's.
//!
//! Each decision is one transaction in the outbox. The relay's next contact does the rest, and whoever kills anything in
//! between kills nothing for good: the next contact carries on.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::consume::answered;
use crate::database::{self, Database, Gate, Tx};
use crate::error::{ApplyError, Cause, LogError, ReadError, WriteError};
use crate::event::{Causation, Envelope, EventId};
use crate::log::{Connect, Head, Log, Origin, Record, Stream, record_at};
use crate::outbox::quarantine::{self, FoundIn};
use crate::outbox::{self, Ends};

/// Why a file that has adopted the stream waits.
const FOLLOWS: &str = "it follows the stream's line of events from now on";

/// What a decision would do, found without changing anything; and, done, what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The last place at which both lines hold the same event; 0 when they share none.
    pub common: u64,
    /// What each holds right after it, if anything.
    pub ours: Option<EventId>,
    pub theirs: Option<EventId>,
    /// Where each ends.
    pub outbox_head: u64,
    pub stream_head: u64,
    /// Events that will be set aside: this file's for adopt-stream, the stream's for new-epoch.
    pub set_aside: u64,
    /// The epoch and the database id that this file will have.
    pub origin: Origin,
    /// The stream that will be replaced, or followed.
    incarnation: String,
    foreign: bool,
}

/// Why a decision cannot be carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    #[error("there is no stream {0}: start the service, and it is made and filled from the outbox")]
    NoStream(String),
    #[error(
        "nothing joins the two: this file keeps events {}, the stream {}; {cure}", range(.ours), range(.theirs)
    )]
    Unjoinable {
        ours: (u64, u64),
        theirs: (u64, u64),
        cure: &'static str,
    },
    #[error(
        "this file's tables cannot be taken back to event {common}: its outbox begins at {first}; restore a backup from before the fork instead"
    )]
    NoWayBack { common: u64, first: u64 },
    #[error(
        "the stream has lost {0} of its events, so its line cannot be taken over; repair the broker's copy, or decide with new-epoch"
    )]
    Holed(u64),
    #[error(
        "epoch {0} of this database closed the stream and did not finish replacing it: start that one, or decide with new-epoch"
    )]
    Closed(u32),
    #[error(
        "the stream's message {0} is no event of ours, so its line cannot be taken over; decide with new-epoch"
    )]
    NoEvent(u64),
    #[error("nothing is forked: {0}")]
    NothingForked(&'static str),
    #[error("the stream cannot be read")]
    Stream(#[from] LogError),
    #[error("this database cannot be read")]
    Read(#[source] Cause),
    #[error("nothing was changed")]
    Write(#[source] Cause),
}

/// What following the stream's line would mean for this file.
pub async fn plan_adoption<C>(db: &Database, to: &C) -> Result<Plan, DecisionError>
where
    C: Connect,
    C::Session: Stream,
{
    let compared = compare(db, to).await?;
    if compared.head.holes > 0 {
        return Err(DecisionError::Holed(compared.head.holes));
    }
    if let Some(by) = compared
        .head
        .closed_by
        .filter(|by| *by > compared.head.origin.epoch)
    {
        return Err(DecisionError::Closed(by));
    }
    let Some(common) = compared.common else {
        return Err(compared.unjoinable("restore a newer backup, or decide with new-epoch"));
    };
    let Compared { own, head, .. } = &compared;
    if head.seq > common && compared.theirs.is_none() {
        return Err(DecisionError::NoEvent(common + 1));
    }
    if head.seq <= common && head.origin == own.origin && head.closed_by.is_none() {
        let cure = "the stream holds nothing that this file lacks; start the service, and it publishes the rest";
        return Err(DecisionError::NothingForked(cure));
    }
    if own.seq > common && own.first > 1 {
        let first = own.first;
        return Err(DecisionError::NoWayBack { common, first });
    }
    Ok(compared.plan(common, own.seq - common, head.origin.clone()))
}

/// Follows the stream's line: what only this file holds is set aside, its tables are folded again from what is left, and
/// the file is marked, so that the relay takes over the stream's events before the service writes again.
pub async fn adopt_stream<C>(db: &Database, to: &C) -> Result<Plan, DecisionError>
where
    C: Connect,
    C::Session: Stream,
{
    let plan = plan_adoption(db, to).await?;
    let (done, open) = (plan.clone(), db.clone());
    decide(db, move |tx| {
        adopt(tx, &plan)?;
        open.set_gate(Gate::MustImport(FOLLOWS.to_owned())); // no write after this one goes on from here
        Ok(())
    })
    .await?;
    Ok(done)
}

/// What keeping this file's line would mean for the stream.
pub async fn plan_new_epoch<C>(db: &Database, to: &C) -> Result<Plan, DecisionError>
where
    C: Connect,
    C::Session: Stream,
{
    let compared = compare(db, to).await?;
    let Compared { own, head, .. } = &compared;
    let foreign = head.origin.database_id != own.origin.database_id;
    let theirs = if foreign { 0 } else { head.latest_epoch() };
    let origin = Origin {
        epoch: own.origin.epoch.max(theirs) + 1,
        ..own.origin.clone()
    };
    let comes_home = compared.common == Some(own.seq) && head.seq > own.seq && head.holes == 0;
    let one_database = head.origin.database_id == own.origin.database_id;
    if comes_home && one_database && head.closed_by.is_none() && !compared.unfit {
        let cure = match head.origin.epoch == own.origin.epoch {
            true => {
                "this file holds nothing that the stream lacks; start the service, and it takes over the rest"
            }
            false => {
                "this file holds nothing that the stream lacks; adopt-stream loses nothing, and takes over the rest"
            }
        };
        return Err(DecisionError::NothingForked(cure));
    }
    let common = compared.common.unwrap_or(0);
    let shared = (common + 1).saturating_sub(own.first.max(head.first));
    let kept = head.seq + 1 - head.first - head.holes;
    Ok(compared.plan(common, kept.saturating_sub(shared), origin))
}

/// Keeps this file's line, as a new epoch: the relay's next contact saves what only the stream holds and makes it anew.
pub async fn new_epoch<C>(db: &Database, to: &C) -> Result<Plan, DecisionError>
where
    C: Connect,
    C::Session: Stream,
{
    let plan = plan_new_epoch(db, to).await?;
    let done = plan.clone();
    decide(db, move |tx| {
        database::set_origin(tx, &plan.origin)?;
        if plan.foreign {
            database::set_replaces(tx, &plan.incarnation)?;
        }
        let detail = format!(
            "epoch {} from event {} on; the stream's other line ended at {}",
            plan.origin.epoch, plan.common, plan.stream_head
        );
        Ok(database::audit(tx, tx.now_ms(), "new epoch", &detail)?)
    })
    .await?;
    Ok(done)
}

fn adopt(tx: &Tx<'_>, plan: &Plan) -> Result<(), ApplyError> {
    let reason = "another line of events was chosen";
    if plan.set_aside > 0 {
        let mut unanswered = BTreeSet::new();
        each_after(tx, plan.common, |record| {
            unanswered.extend(causation(record).map(|causation| causation.consumer));
            Ok(quarantine::record(
                tx,
                FoundIn::Outbox,
                tx.context().stream,
                record,
                reason,
            )?)
        })?;
        outbox::cut_after(tx, plan.common)?;
        fold_again(tx)?;
        for consumer in &unanswered {
            answered::take_back(tx, consumer)?;
        }
    }
    database::set_origin(tx, &plan.origin)?;
    database::mark(tx, tx.now_ms(), FOLLOWS)?;
    let detail = format!(
        "from event {} on; {} own events were set aside",
        plan.common, plan.set_aside
    );
    Ok(database::audit(tx, tx.now_ms(), "stream adopted", &detail)?)
}

/// The service's own tables, made anew from the outbox.
fn fold_again(tx: &Tx<'_>) -> Result<(), ApplyError> {
    let fold = tx.context().fold.as_ref();
    let fold = fold.ok_or_else(|| {
        let why = "this program does not say how its tables follow from its events";
        ApplyError::Fatal(why.to_owned())
    })?;
    fold.clear(tx)?;
    each_after(tx, 0, |record| {
        let envelope = Envelope::parse(&record.bytes);
        let envelope = envelope.map_err(|error| ApplyError::Fatal(error.to_string()))?;
        fold.apply(tx, &envelope)
    })
}

fn causation(record: &Record) -> Option<Causation> {
    Causation::of(&Envelope::parse(&record.bytes).ok()?)
}

/// Every row of the outbox after a place. One read hands out only so many bytes, so it takes several.
fn each_after(
    tx: &Tx<'_>,
    mut after: u64,
    mut work: impl FnMut(&Record) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    loop {
        let rows = outbox::rows_after(tx, after, 1000)?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = last.seq;
        rows.iter().try_for_each(&mut work)?;
    }
}

/// One transaction, whatever the gate says: a decision is what opens it again.
async fn decide(
    db: &Database,
    work: impl FnOnce(&Tx<'_>) -> Result<(), ApplyError> + Send + 'static,
) -> Result<(), DecisionError> {
    let done = db.apply(work).await;
    done.map_err(|error: WriteError<ApplyError>| DecisionError::Write(Box::new(error)))
}

/// Both lines, and the last place they share.
struct Compared {
    own: Ends,
    head: Head,
    /// `None`: no event that both keep is the same, and nothing shows that they share what came before.
    common: Option<u64>,
    ours: Option<EventId>,
    theirs: Option<EventId>,
    /// What only the stream holds could not be imported at the last try.
    unfit: bool,
}

async fn compare<C>(db: &Database, to: &C) -> Result<Compared, DecisionError>
where
    C: Connect,
    C::Session: Stream,
{
    let mut stream = to.connect().await?;
    let head = stream.head().await?;
    let head = head.ok_or_else(|| DecisionError::NoStream(to.stream().to_owned()))?;
    let own = db.outbox().ends().await?;
    let unfit = read(db, database::unfit).await?.is_some();
    let common = common(db, &mut stream, &own, &head).await?;
    let after = common.map_or(own.first.max(head.first), |common| common + 1);
    Ok(Compared {
        ours: own_id(db, after).await?,
        theirs: match after <= head.seq {
            true => id_at(&mut stream, after).await?,
            false => None,
        },
        own,
        head,
        common,
        unfit,
    })
}

/// Two lines that differ at one place differ at every later one, since each event names the one before it. So the last
/// common place is found by halving.
async fn common(
    db: &Database,
    stream: &mut impl Log,
    own: &Ends,
    head: &Head,
) -> Result<Option<u64>, DecisionError> {
    let (first, last) = (own.first.max(head.first), own.seq.min(head.seq));
    let (mut same, mut differ) = (first - 1, last + 1);
    while same + 1 < differ {
        let middle = same + (differ - same) / 2;
        let theirs = id_at(stream, middle).await?;
        match theirs.is_some() && theirs == own_id(db, middle).await? {
            true => same = middle,
            false => differ = middle,
        }
    }
    if same >= first || same == 0 {
        return Ok(Some(same));
    }
    // Nothing that both keep is the same: the first event that one of them keeps may name the other's last.
    let named = match first <= head.seq {
        true => record_at(stream, first)
            .await?
            .and_then(|record| record.prev()),
        false => None,
    };
    let joined = match own.seq == same {
        true => named == own.last,
        false => head.first == first && named == own_id(db, same).await?,
    };
    Ok((named.is_some() && joined).then_some(same))
}

async fn own_id(db: &Database, seq: u64) -> Result<Option<EventId>, DecisionError> {
    read(db, move |rows| outbox::event_id(rows, seq)).await
}

async fn read<T: Send + 'static>(
    db: &Database,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, DecisionError> {
    let read = db.read(work).await;
    read.map_err(|error: ReadError<rusqlite::Error>| DecisionError::Read(Box::new(error)))
}

async fn id_at(stream: &mut impl Log, seq: u64) -> Result<Option<EventId>, LogError> {
    Ok(record_at(stream, seq)
        .await?
        .and_then(|record| record.event_id()))
}

impl Compared {
    fn plan(&self, common: u64, set_aside: u64, origin: Origin) -> Plan {
        Plan {
            common,
            ours: self.ours,
            theirs: self.theirs,
            outbox_head: self.own.seq,
            stream_head: self.head.seq,
            set_aside,
            origin,
            incarnation: self.head.incarnation.clone(),
            foreign: self.head.origin.database_id != self.own.origin.database_id,
        }
    }

    fn unjoinable(&self, cure: &'static str) -> DecisionError {
        DecisionError::Unjoinable {
            ours: (self.own.first, self.own.seq),
            theirs: (self.head.first, self.head.seq),
            cure,
        }
    }
}

fn range((first, last): &(u64, u64)) -> String {
    match first > last {
        true => "none".to_owned(),
        false => format!("{first} to {last}"),
    }
}
