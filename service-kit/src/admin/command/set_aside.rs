//! `set-aside`: the events that were in a log once and are in none any more.

use anyhow::Context;
use relay::SetAside;
use serde_json::{Value, json};

use super::answer::{Answer, NOT_PRINTED, moment};
use crate::observe::output::print;
use crate::program::Parts;

/// Printed as they are read: there may be as many as a stream holds.
pub(super) async fn list(parts: &Parts, json: bool) -> anyhow::Result<Answer> {
    let file = parts.look().await?;
    let mut lead = "{\n  \"set_aside\": [\n    ";
    let mut said = Ok(true);
    let say = |event| {
        said = print(&match json {
            true => format!(
                "{}{}",
                std::mem::replace(&mut lead, ",\n    "),
                json_of(&event)
            ),
            false => line_of(&event),
        });
        matches!(said, Ok(true))
    };
    if file.each_set_aside(say).await? == 0 {
        let none: [Value; 0] = [];
        return Ok(Answer::new(json!({"set_aside": none})).line("set aside", "nothing"));
    }
    if said.context(NOT_PRINTED)? && json {
        print("\n  ]\n}\n").context(NOT_PRINTED)?;
    }
    Ok(Answer::printed())
}

fn line_of(event: &SetAside) -> String {
    let place = format!("{}@{}", event.log, event.seq);
    let (id, found_in, at) = (
        &event.event_id,
        event.found_in.as_str(),
        moment(event.at_ms),
    );
    format!(
        "{place}  {id}, in the {found_in} until {at}: {}\n",
        event.reason
    )
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
