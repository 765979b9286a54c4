//! `adopt-stream` and `new-epoch`: what the operator decides about a fork.

use relay::event::EventId;
use relay::operate::Plan;
use serde_json::json;

use crate::admin::command::answer::{Answer, count, database};
use crate::admin::setup::Setup;

pub(super) async fn adopt_stream(setup: &Setup, dry_run: bool) -> anyhow::Result<Answer> {
    let to = setup.stream(&setup.nats()?);
    let decide = async |db: &_| match dry_run {
        true => Ok(relay::operate::plan_adoption(db, &to).await?),
        false => Ok(relay::operate::adopt_stream(db, &to).await?),
    };
    let plan = setup.exclusively(decide).await?;
    let next = "it imports the stream's events, then it accepts writes";
    Ok(answer(setup, &plan, "outbox", next, dry_run))
}

pub(super) async fn new_epoch(setup: &Setup, dry_run: bool) -> anyhow::Result<Answer> {
    let to = setup.stream(&setup.nats()?);
    let decide = async |db: &_| match dry_run {
        true => Ok(relay::operate::plan_new_epoch(db, &to).await?),
        false => Ok(relay::operate::new_epoch(db, &to).await?),
    };
    let plan = setup.exclusively(decide).await?;
    let next = "it quarantines the stream's own events and recreates the stream";
    Ok(answer(setup, &plan, "stream", next, dry_run))
}

fn answer(setup: &Setup, plan: &Plan, loser: &str, next: &str, dry_run: bool) -> Answer {
    let json = json!({
        "done": !dry_run,
        "common": plan.common,
        "ours": plan.ours,
        "theirs": plan.theirs,
        "outbox_head": plan.outbox_head,
        "stream_head": plan.stream_head,
        "set_aside": plan.quarantined,
        "set_aside_of": loser,
        "database_id": plan.origin.database_id.to_string(),
        "epoch": plan.origin.epoch,
    });
    let both = match plan.common {
        0 => "no event in common".to_owned(),
        common => format!("the same events up to {common}"),
    };
    let ends = |head, next: Option<EventId>| {
        let id = next.map_or_else(|| "none".to_owned(), |id| id.to_string());
        format!("ends at {head}; its event {}: {id}", plan.common + 1)
    };
    let (quarantined, now) = match (dry_run, loser) {
        (true, _) => ("would quarantine", "would be"),
        (false, "outbox") => ("quarantined", "now"),
        (false, _) => ("to quarantine", "now"), // by the next start
    };
    let of_loser = format!("{} of the {loser}", count(plan.quarantined, "event"));
    let next = (!dry_run).then(|| format!("start {}: {next}", setup.about.name));
    Answer::new(json)
        .line("both hold", both)
        .line("outbox", ends(plan.outbox_head, plan.ours))
        .line("stream", ends(plan.stream_head, plan.theirs))
        .line(quarantined, of_loser)
        .line(now, format!("database {}", database(&plan.origin)))
        .lines("next", next)
}
