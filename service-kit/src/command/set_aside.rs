//! `set-aside`: the events that were in a log once and are in none any more.

use relay::SetAside;
use serde_json::{Value, json};

use super::answer::{Answer, moment};
use crate::program::Parts;

pub(super) async fn list(parts: &Parts) -> anyhow::Result<Answer> {
    let found = parts.look().await?.set_aside().await?;
    let each: Vec<Value> = found.iter().map(json_of).collect();
    let mut answer = Answer::new(json!({"set_aside": each}));
    if found.is_empty() {
        answer = answer.line("set aside", "nothing");
    }
    for event in &found {
        let place = format!("{}@{}", event.log, event.seq);
        let found_in = event.found_in.as_str();
        let text = format!(
            "{}, in the {found_in} until {}: {}",
            event.event_id,
            moment(event.at_ms),
            event.reason
        );
        answer = answer.line(place, text);
    }
    Ok(answer)
}

fn json_of(event: &SetAside) -> Value {
    let envelope = event.envelope.as_deref().map(String::from_utf8_lossy);
    json!({
        "log": event.log,
        "seq": event.seq,
        "event_id": event.event_id,
        "found_in": event.found_in.as_str(),
        "at": moment(event.at_ms),
        "reason": event.reason,
        "envelope": envelope,
    })
}
