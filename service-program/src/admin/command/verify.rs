//! `verify`: is the stream the outbox, byte for byte, and is each cache what its producer shares?

use std::time::Duration;

use relay::Consumer;
use relay::error::{LogError, chain};
use relay::operate::{ReadOnly, Verified, verify_cache, verify_stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::admin::command::answer::{Answer, count};
use crate::admin::setup::Setup;
use crate::process::exit::Outcome;

/// How long to wait for a busy cache and its producer to be at the same event, and how often to compare them.
const MAX_WAIT: Duration = Duration::from_secs(10);
const COMPARE_EVERY: Duration = Duration::from_millis(200);

/// One comparison: its label, the unit of what it compared, and its result.
type Check = (String, &'static str, Verified);

pub(super) async fn verify(setup: &Setup) -> anyhow::Result<Answer> {
    let (db, stream) = (setup.read_only().await?, setup.stream(&setup.nats()?));
    let found = or_unknown(verify_stream(&db, &stream).await);
    let mut checks = vec![(format!("stream {}", setup.about.stream), "event", found)];
    let keeps_copy = |consumer: &&Consumer| !consumer.is_reaction();
    for consumer in setup.consumers.iter().filter(keeps_copy) {
        let found = cache(&db, consumer).await;
        checks.push((format!("cache {}", consumer.name()), "row", found));
    }
    Ok(answer(&checks))
}

async fn cache(db: &ReadOnly, consumer: &Consumer) -> Verified {
    let give_up = Instant::now() + MAX_WAIT;
    loop {
        let found = verify_cache(db, consumer).await;
        let moves = matches!(found, Ok(Verified::NotYet(_))) && consumer.producer().is_some();
        if !moves || Instant::now() >= give_up {
            return or_unknown(found);
        }
        tokio::time::sleep(COMPARE_EVERY).await;
    }
}

fn or_unknown(found: Result<Verified, LogError>) -> Verified {
    found.unwrap_or_else(|error| Verified::NotYet(chain(&error)))
}

/// The worst result decides, and a difference is worse than an unknown.
fn answer(checks: &[Check]) -> Answer {
    let described: Vec<_> = checks.iter().map(describe).collect();
    let worst = described.iter().map(|(outcome, ..)| *outcome).max();
    let worst = worst.unwrap_or(Outcome::Done);
    let each: Vec<&Value> = described.iter().map(|(.., json)| json).collect();
    let answer = Answer::new(json!({"result": word(worst), "checks": each})).ends(worst);
    let lines = checks.iter().zip(&described);
    lines.fold(answer, |answer, ((label, ..), (_, text, _))| {
        answer.line(label, text)
    })
}

/// What a result comes to, as text and as JSON.
fn describe((what, unit, found): &Check) -> (Outcome, String, Value) {
    let (outcome, text, detail) = match found {
        Verified::Equal { compared } => {
            let text = format!("equal, {} compared", count(*compared, unit));
            (Outcome::Done, text, ("compared", json!(compared)))
        }
        Verified::Differs(first) => (
            Outcome::Differs,
            format!("differs: {first}"),
            ("why", json!(first)),
        ),
        Verified::NotYet(why) => (
            Outcome::Unknown,
            format!("not compared: {why}"),
            ("why", json!(why)),
        ),
    };
    let json = json!({"what": what, "result": word(outcome), (detail.0): detail.1});
    (outcome, text, json)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "equal",
        Outcome::Unknown => "unknown",
        Outcome::Differs => "differs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_a_difference_is_worse_than_not_knowing() {
        let check = |found| ("x".to_owned(), "row", found);
        let equal = || check(Verified::Equal { compared: 1 });
        let differs = || check(Verified::Differs("a".to_owned()));
        let unknown = || check(Verified::NotYet("b".to_owned()));
        assert_eq!(answer(&[equal(), equal()]).outcome, Outcome::Done);
        assert_eq!(answer(&[equal(), unknown()]).outcome, Outcome::Unknown);
        let all = answer(&[unknown(), differs(), equal()]);
        assert_eq!(all.outcome, Outcome::Differs);
    }
}
