//! `verify`: is the stream the outbox, byte for byte, and is each cache what its producer shares?

use std::time::Duration;

use relay::{Consumer, LogError, ReadOnly, Verified, chain, verify_cache, verify_stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Answer, count};
use crate::program::Parts;
use crate::program::exit::Outcome;

/// How long a cache that moves on may take to stand still beside its producer, and how often it is looked at.
const MAX_WAIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One comparison.
struct Check {
    label: String,
    unit: &'static str,
    found: Verified,
}

pub(super) async fn verify(parts: &Parts) -> anyhow::Result<Answer> {
    let db = parts.look().await?;
    let mut checks = vec![Check {
        label: format!("stream {}", parts.about.stream),
        unit: "event",
        found: or_not_said(verify_stream(&db, &parts.stream()?).await),
    }];
    let keep_copies = |consumer: &&Consumer| !consumer.is_reaction();
    for consumer in parts.consumers.iter().filter(keep_copies) {
        checks.push(Check {
            label: format!("cache {}", consumer.name()),
            unit: "row",
            found: cache(&db, consumer).await,
        });
    }
    Ok(answer(&checks))
}

/// Both sides must be at the same event, which a busy pair is only now and then.
async fn cache(db: &ReadOnly, consumer: &Consumer) -> Verified {
    let give_up = Instant::now() + MAX_WAIT;
    loop {
        let found = verify_cache(db, consumer).await;
        let moves = matches!(found, Ok(Verified::NotYet(_))) && consumer.producer().is_some();
        if !moves || Instant::now() >= give_up {
            return or_not_said(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn or_not_said(found: Result<Verified, LogError>) -> Verified {
    found.unwrap_or_else(|error| Verified::NotYet(chain(&error)))
}

fn answer(checks: &[Check]) -> Answer {
    let worst = checks.iter().map(Check::outcome).max();
    let outcome = worst.unwrap_or(Outcome::Done);
    let each: Vec<Value> = checks.iter().map(Check::json).collect();
    let mut answer = Answer::new(json!({"result": word(outcome), "checks": each}));
    for check in checks {
        answer = answer.line(&check.label, check.text());
    }
    answer.ends(outcome)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "equal",
        Outcome::Unknown => "unknown",
        Outcome::Differs => "differs",
    }
}

impl Check {
    fn outcome(&self) -> Outcome {
        match self.found {
            Verified::Equal { .. } => Outcome::Done,
            Verified::Differs(_) => Outcome::Differs,
            Verified::NotYet(_) => Outcome::Unknown,
        }
    }

    fn text(&self) -> String {
        match &self.found {
            Verified::Equal { compared } => {
                format!("equal, {} compared", count(*compared, self.unit))
            }
            Verified::Differs(first) => format!("differs: {first}"),
            Verified::NotYet(why) => format!("not compared: {why}"),
        }
    }

    fn json(&self) -> Value {
        let (what, result) = (&self.label, word(self.outcome()));
        match &self.found {
            Verified::Equal { compared } => {
                json!({"what": what, "result": result, "compared": compared})
            }
            Verified::Differs(why) | Verified::NotYet(why) => {
                json!({"what": what, "result": result, "why": why})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_a_difference_is_worse_than_not_knowing() {
        let check = |found| Check {
            label: "x".to_owned(),
            unit: "row",
            found,
        };
        let equal = || check(Verified::Equal { compared: 1 });
        let differs = || check(Verified::Differs("a".to_owned()));
        let unknown = || check(Verified::NotYet("b".to_owned()));
        assert_eq!(answer(&[equal(), equal()]).outcome(), Outcome::Done);
        assert_eq!(answer(&[equal(), unknown()]).outcome(), Outcome::Unknown);
        let all = answer(&[unknown(), differs(), equal()]);
        assert_eq!(all.outcome(), Outcome::Differs);
    }
}
