//! `start-at`: a consumer that cannot continue by itself continues where the operator says.

use std::str::FromStr;

use relay::consume::Start;
use serde_json::json;

use crate::admin::command::answer::{Answer, position};
use crate::admin::setup::Setup;

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
                Err(_) => Err("expected a sequence, `first` or `now`"),
            },
        }
    }
}

/// Skips the events in between or applies them again, so the service must be stopped.
pub(super) async fn start_at(
    setup: &Setup,
    name: &str,
    Where(at): Where,
    dry_run: bool,
) -> anyhow::Result<Answer> {
    let consumer = setup.consumer(name)?;
    let (reader, known) = (setup.reader(consumer)?, consumer.clone());
    let offset = move |rows: &_| known.position(rows);
    let (from, to) = match dry_run {
        true => {
            let from = setup.read_only().await?.read(offset).await?;
            (from, consumer.plan_start(&reader, at).await?)
        }
        false => {
            let start = async |db: &relay::Database| {
                let from = db.read(offset).await?;
                Ok((from, consumer.start_at(db, &reader, at).await?))
            };
            setup.exclusively(start).await?
        }
    };
    let goes_on = if dry_run {
        "would go on after"
    } else {
        "goes on after"
    };
    let next = (!dry_run).then(|| {
        let about = setup.about.name;
        format!("start {about}: it applies later dead and parked events again")
    });
    let json = json!({"done": !dry_run, "consumer": name, "from": from, "to": to});
    Ok(Answer::new(json)
        .line("consumer", name)
        .line("was at", position(from))
        .line(goes_on, position(to))
        .lines("next", next))
}
