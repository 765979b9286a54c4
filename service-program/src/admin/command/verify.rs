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
    let worst = checks.iter().map(|(.., found)| outcome(found)).max();
    let worst = worst.unwrap_or(Outcome::Done);
    let each: Vec<Value> = checks.iter().map(json_of).collect();
    let answer = Answer::new(json!({"result": word(worst), "checks": each})).ends(worst);
    let line = |answer: Answer, (label, unit, found): &Check| {
        let text = match found {
            Verified::Equal { compared } => format!("equal, {} compared", count(*compared, unit)),
            Verified::Differs(first) => format!("differs: {first}"),
            Verified::NotYet(why) => format!("not compared: {why}"),
        };
        answer.line(label, text)
    };
    checks.iter().fold(answer, line)
}

fn json_of((what, _, found): &Check) -> Value {
    let result = word(outcome(found));
    match found {
        Verified::Equal { compared } => {
            json!({"what": what, "result": result, "compared": compared})
        }
        Verified::Differs(why) | Verified::NotYet(why) => {
            json!({"what": what, "result": result, "why": why})
        }
    }
}

fn outcome(found: &Verified) -> Outcome {
    match found {
        Verified::Equal { .. } => Outcome::Done,
        Verified::Differs(_) => Outcome::Differs,
        Verified::NotYet(_) => Outcome::Unknown,
    }
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
