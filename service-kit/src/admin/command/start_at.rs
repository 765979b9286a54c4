//! `start-at`: a consumer that cannot go on by itself goes on where the operator says.

use std::str::FromStr;

use relay::{Consumer, Position, Start};
use serde_json::json;

use super::answer::{Answer, place};
use crate::program::Parts;

/// `first`, `now`, or the sequence of the last event that counts as applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where(Start);

impl FromStr for Where {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "first" => Ok(Self(Start::First)),
            "now" => Ok(Self(Start::Now)),
            seq => match seq.parse() {
                Ok(seq) => Ok(Self(Start::At(seq))),
                Err(_) => Err("a sequence, `first` or `now`"),
            },
        }
    }
}

pub(super) async fn plan(parts: &Parts, name: &str, at: Where) -> anyhow::Result<Answer> {
    let consumer = parts.consumer(name)?;
    let (known, db) = (consumer.clone(), parts.look().await?);
    let from = db.read(move |rows| known.position(rows)).await?;
    let to = consumer.plan_start(&parts.reader(consumer)?, at.0).await?;
    Ok(answer(consumer, "would go on after", from, to, false))
}

/// Skips or reads again what lies between, so the service must not run meanwhile.
pub(super) async fn start_at(parts: &Parts, name: &str, at: Where) -> anyhow::Result<Answer> {
    let consumer = parts.consumer(name)?;
    let (known, reader, db) = (
        consumer.clone(),
        parts.reader(consumer)?,
        parts.open().await?,
    );
    let from = db.read(move |rows| known.position(rows)).await?;
    let to = consumer.start_at(&db, &reader, at.0).await;
    db.close().await;
    let about = parts.about.name;
    Ok(answer(consumer, "goes on after", from, to?, true).line(
        "next",
        format!("start {about}: what it has set aside after that it reads again"),
    ))
}

fn answer(
    consumer: &Consumer,
    goes_on: &str,
    from: Option<Position>,
    to: Option<Position>,
    done: bool,
) -> Answer {
    let name = consumer.name();
    Answer::new(json!({"done": done, "consumer": name, "from": from, "to": to}))
        .line("consumer", name)
        .line("was at", place(from))
        .line(goes_on, place(to))
}
