//! What the operator decides about a fork: follow the stream, or keep this file.
//!
//! Each decision is one transaction in the database file, and the relay's next contact does the rest. A crash in between is
//! safe: the contact after it resumes.

use std::collections::BTreeSet;

use crate::consume::answered;
use crate::database::{self, Database, Gate, Identity, Tx};
use crate::error::{ApplyError, LogError, WriteError};
use crate::event::{Causation, Envelope, EventId};
use crate::log::{Connect, Head, Log, Origin, Record, id_at, record_at};
use crate::outbox::quarantine::{self, FoundIn};
use crate::outbox::{self, Ends, Outbox};

/// Why a file that has adopted the stream waits.
const FOLLOWS: &str = "it follows the stream from now on";

/// What a decision would do, found without changing anything; and, done, what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The last sequence at which both hold the same event; 0 when they share none.
    pub common: u64,
    /// What each holds right after it, if anything.
    pub ours: Option<EventId>,
    /// What the stream holds there.
    pub theirs: Option<EventId>,
    /// Where each ends.
    pub outbox_head: u64,
    /// The last sequence of the stream.
    pub stream_head: u64,
    /// Events to quarantine: this file's for adopt-stream, the stream's for new-epoch.
    pub quarantined: u64,
    /// The epoch and the database id that this file will have.
    pub origin: Origin,
    /// The incarnation of another database's stream, which new-epoch replaces.
    replaces: Option<String>,
}

/// Why a decision cannot be carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The stream of this name does not exist.
    #[error(
        "there is no stream {0}: start the service, which creates it and fills it from the outbox"
    )]
    NoStream(String),
    /// The kept parts of the two logs do not touch.
    #[error(
        "nothing joins the two: this file keeps events {}, the stream {}; restore a newer backup, or decide with new-epoch",
        range(.ours), range(.theirs)
    )]
    Unjoinable {
        /// The first and last sequence of the outbox.
        ours: (u64, u64),
        /// The first and last sequence of the stream.
        theirs: (u64, u64),
    },
    /// The events needed to compute the tables as of the last common event are not kept.
    #[error(
        "this file's tables cannot be taken back to event {common}: its outbox begins at {first}; restore a backup from before the fork instead"
    )]
    NoWayBack {
        /// The last common sequence.
        common: u64,
        /// The first one kept.
        first: u64,
    },
    /// The stream has lost this many events.
    #[error(
        "the stream has lost {0} of its events, so this file cannot import them; repair the broker's copy, or decide with new-epoch"
    )]
    Holed(u64),
    /// This epoch of the same database has closed the stream to replace it.
    #[error(
        "epoch {0} of this database closed the stream and did not finish replacing it: start that one, or decide with new-epoch"
    )]
    Closed(u32),
    /// The message at this sequence is not an event of Freehold's.
    #[error(
        "the stream's message {0} is no event of ours, so this file cannot import it; decide with new-epoch"
    )]
    NoEvent(u64),
    /// There is nothing to decide, and why.
    #[error("nothing is forked: {0}")]
    NothingForked(&'static str),
    /// The stream could not be read.
    #[error("this file and the stream cannot be compared")]
    Log(#[from] LogError),
    /// The decision could not be stored.
    #[error("nothing was changed")]
    Write(#[from] WriteError<ApplyError>),
}

/// What following the stream would mean for this file.
///
/// # Errors
///
/// [`DecisionError`]: nothing is forked, the stream cannot be read or has lost events, or this file's tables cannot be taken
/// back to the last common event.
pub async fn plan_adoption(db: &Database, to: &impl Connect) -> Result<Plan, DecisionError> {
    let compared = compare(db, to).await?;
    let Compared { own, head, .. } = &compared;
    if head.holes > 0 {
        return Err(DecisionError::Holed(head.holes));
    }
    if let Some(by) = head.closed_by.filter(|by| *by > head.origin.epoch) {
        return Err(DecisionError::Closed(by));
    }
    let common = compared.common.ok_or(DecisionError::Unjoinable {
        ours: (own.first, own.seq),
        theirs: (head.first, head.seq),
    })?;
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
    Ok(compared.plan(own.seq - common, head.origin.clone()))
}

/// Follows the stream: quarantines what only this file holds, rebuilds its tables from what is left, and marks the file, so
/// that the relay imports the stream's events before the service writes again.
///
/// # Errors
///
/// As [`plan_adoption`]; or [`DecisionError::Write`], and nothing is changed.
pub async fn adopt_stream(db: &Database, to: &impl Connect) -> Result<Plan, DecisionError> {
    let (plan, open) = (plan_adoption(db, to).await?, db.clone());
    let adopted = db.write_past_gate(move |tx| {
        adopt(tx, &plan)?;
        open.set_gate(Gate::MustImport(FOLLOWS.to_owned())); // the next write would not follow this transaction's log
        Ok(plan)
    });
    Ok(adopted.await?)
}

/// What keeping this file would mean for the stream.
///
/// # Errors
///
/// [`DecisionError`]: nothing is forked, or the stream is missing or cannot be read.
pub async fn plan_new_epoch(db: &Database, to: &impl Connect) -> Result<Plan, DecisionError> {
    let compared = compare(db, to).await?;
    let Compared { own, head, .. } = &compared;
    let is_ours = head.origin.database_id == own.origin.database_id;
    let lacks_nothing = compared.common == Some(own.seq) && head.seq > own.seq && head.holes == 0;
    if lacks_nothing && is_ours && head.closed_by.is_none() && !compared.unfit {
        return Err(DecisionError::NothingForked(
            match head.origin.epoch == own.origin.epoch {
                true => {
                    "this file holds nothing that the stream lacks; start the service, and it imports the rest"
                }
                false => {
                    "this file holds nothing that the stream lacks; adopt-stream loses nothing, and imports the rest"
                }
            },
        ));
    }
    let latest = if is_ours { head.latest_epoch() } else { 0 };
    let origin = Origin {
        epoch: own.origin.epoch.max(latest) + 1,
        ..own.origin.clone()
    };
    let first_shared = own.first.max(head.first);
    let shared = (compared.common.unwrap_or(0) + 1).saturating_sub(first_shared);
    let kept = head.seq + 1 - head.first - head.holes;
    Ok(compared.plan(kept.saturating_sub(shared), origin))
}

/// Keeps this file, as a new epoch: the relay's next contact quarantines what only the stream holds, and recreates it.
///
/// # Errors
///
/// As [`plan_new_epoch`]; or [`DecisionError::Write`], and nothing is changed.
pub async fn new_epoch(db: &Database, to: &impl Connect) -> Result<Plan, DecisionError> {
    let plan = plan_new_epoch(db, to).await?;
    let done = db.write_past_gate(move |tx| {
        database::set_origin(tx, &plan.origin)?;
        if let Some(incarnation) = &plan.replaces {
            database::set_replaces(tx, incarnation)?;
        }
        let detail = format!(
            "epoch {} from event {} on; the stream ended at {}",
            plan.origin.epoch, plan.common, plan.stream_head
        );
        tx.audit("new epoch", &detail)?;
        Ok(plan)
    });
    Ok(done.await?)
}

fn adopt(tx: &Tx<'_>, plan: &Plan) -> Result<(), ApplyError> {
    if plan.quarantined > 0 {
        let (stream, reason) = (&tx.context().stream, "the operator chose the stream");
        let mut unanswered = BTreeSet::new();
        each_after(tx, plan.common, |record| {
            unanswered.extend(causation(record).map(|causation| causation.consumer));
            Ok(quarantine::record(
                tx,
                FoundIn::Outbox,
                stream,
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
        "from event {} on; {} own events were quarantined",
        plan.common, plan.quarantined
    );
    Ok(tx.audit("stream adopted", &detail)?)
}

/// Rebuilds the service's own tables from the outbox.
fn fold_again(tx: &Tx<'_>) -> Result<(), ApplyError> {
    let fold = tx.context().fold.as_ref();
    let fold = fold.ok_or_else(|| {
        let why = "this program does not state how its tables follow from its events";
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

/// Every row of the outbox after a sequence. One read hands out only so many bytes, so it takes several.
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

/// Both logs, and the last sequence they share.
struct Compared {
    own: Ends,
    head: Head,
    /// `None`: no event that both keep is the same, and nothing shows that they share what came before.
    common: Option<u64>,
    ours: Option<EventId>,
    theirs: Option<EventId>,
    /// The last attempt to import what only the stream holds failed, and cannot succeed.
    unfit: bool,
}

async fn compare(db: &Database, to: &impl Connect) -> Result<Compared, DecisionError> {
    let (mut stream, outbox) = (to.connect().await?, db.outbox());
    let head = stream.head().await?;
    let head = head.ok_or_else(|| DecisionError::NoStream(to.stream().to_owned()))?;
    let own = outbox.ends().await?;
    let unfit = db.read(Identity::load).await.map_err(LogError::from)?.unfit;
    let common = common(&outbox, &mut stream, &own, &head).await?;
    let after = common.map_or(own.first.max(head.first), |common| common + 1);
    Ok(Compared {
        ours: outbox.event_id(after).await?,
        theirs: match after <= head.seq {
            true => id_at(&mut stream, after).await?,
            false => None,
        },
        own,
        head,
        common,
        unfit: unfit.is_some(),
    })
}

/// Each event names the one before it, so two logs that differ at one sequence differ at every later one. This searches
/// for the last common one by bisection.
async fn common(
    outbox: &Outbox,
    stream: &mut impl Log,
    own: &Ends,
    head: &Head,
) -> Result<Option<u64>, LogError> {
    let (first, last) = (own.first.max(head.first), own.seq.min(head.seq));
    let (mut same, mut differ) = (first - 1, last + 1);
    while same + 1 < differ {
        let middle = same + (differ - same) / 2;
        let theirs = id_at(stream, middle).await?;
        match theirs.is_some() && theirs == outbox.event_id(middle).await? {
            true => same = middle,
            false => differ = middle,
        }
    }
    if same >= first || same == 0 {
        return Ok(Some(same));
    }
    // They share no event that both keep: the first event that one of them keeps may name the other's last.
    if first > head.seq {
        return Ok(None);
    }
    let named = record_at(stream, first)
        .await?
        .and_then(|record| record.prev());
    let joined = match own.seq == same {
        true => named == own.last,
        false => head.first == first && named == outbox.event_id(same).await?,
    };
    Ok((named.is_some() && joined).then_some(same))
}

impl Compared {
    fn plan(&self, quarantined: u64, origin: Origin) -> Plan {
        let is_foreign = self.head.origin.database_id != self.own.origin.database_id;
        Plan {
            common: self.common.unwrap_or(0),
            ours: self.ours,
            theirs: self.theirs,
            outbox_head: self.own.seq,
            stream_head: self.head.seq,
            quarantined,
            origin,
            replaces: is_foreign.then(|| self.head.incarnation.clone()),
        }
    }
}

fn range((first, last): &(u64, u64)) -> String {
    match first > last {
        true => "none".to_owned(),
        false => format!("{first} to {last}"),
    }
}
