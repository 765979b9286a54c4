//! `adopt-stream` and `new-epoch`: what a person decides when two lines of events exist.

use relay::{Database, DecisionError, Plan};
use serde_json::{Value, json};

use super::answer::{Answer, count, id_or_none};
use crate::program::Parts;

pub(super) async fn adopt_stream(parts: &Parts, dry_run: bool) -> anyhow::Result<Answer> {
    let (db, to) = (parts.open().await?, parts.stream()?);
    let plan = match dry_run {
        true => relay::plan_adoption(&db, &to).await,
        false => relay::adopt_stream(&db, &to).await,
    };
    let answer = answer(&db, plan, dry_run, "outbox").await?;
    Ok(match dry_run {
        true => answer,
        false => answer.line(
            "next",
            format!(
                "start {}: it takes over the stream's events, then it writes",
                parts.about.name
            ),
        ),
    })
}

pub(super) async fn new_epoch(parts: &Parts, dry_run: bool) -> anyhow::Result<Answer> {
    let (db, to) = (parts.open().await?, parts.stream()?);
    let plan = match dry_run {
        true => relay::plan_new_epoch(&db, &to).await,
        false => relay::new_epoch(&db, &to).await,
    };
    let answer = answer(&db, plan, dry_run, "stream").await?;
    Ok(match dry_run {
        true => answer,
        false => answer.line(
            "next",
            format!(
                "start {}: it sets the stream's own events aside and makes the stream anew",
                parts.about.name
            ),
        ),
    })
}

async fn answer(
    db: &Database,
    plan: Result<Plan, DecisionError>,
    dry_run: bool,
    loser: &str,
) -> anyhow::Result<Answer> {
    db.close().await;
    let plan = plan?;
    let set_aside = format!("{} of the {loser}", count(plan.set_aside, "event"));
    let fork = plan.common + 1;
    let origin = format!(
        "database {}, epoch {}",
        plan.origin.database_id, plan.origin.epoch
    );
    Ok(Answer::new(json_of(&plan, dry_run, loser))
        .line(
            "both hold",
            match plan.common {
                0 => "nothing that is the same".to_owned(),
                common => format!("the same events up to {common}"),
            },
        )
        .line(
            "outbox",
            format!(
                "ends at {}; its event {fork}: {}",
                plan.outbox_head,
                id_or_none(plan.ours)
            ),
        )
        .line(
            "stream",
            format!(
                "ends at {}; its event {fork}: {}",
                plan.stream_head,
                id_or_none(plan.theirs)
            ),
        )
        .line(
            match (dry_run, loser) {
                (true, _) => "would set aside",
                (false, "outbox") => "set aside",
                (false, _) => "to set aside", // by the next start
            },
            set_aside,
        )
        .line(if dry_run { "would be" } else { "now" }, origin))
}

fn json_of(plan: &Plan, dry_run: bool, loser: &str) -> Value {
    json!({
        "done": !dry_run,
        "common": plan.common,
        "ours": plan.ours,
        "theirs": plan.theirs,
        "outbox_head": plan.outbox_head,
        "stream_head": plan.stream_head,
        "set_aside": plan.set_aside,
        "set_aside_of": loser,
        "database_id": plan.origin.database_id.to_string(),
        "epoch": plan.origin.epoch,
    })
}
