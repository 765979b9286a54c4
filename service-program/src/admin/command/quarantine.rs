//! `quarantine`: lists the quarantined events, which no log holds any more.

use anyhow::Context;
use relay::operate::Quarantined;
use serde_json::{Value, json};

use crate::admin::command::answer::{Answer, NOT_PRINTED, moment};
use crate::admin::setup::Setup;
use service_kit::process::output::print;

/// Prints each event as it reads it: there may be as many as in a stream.
pub(super) async fn list(setup: &Setup, json: bool) -> anyhow::Result<Answer> {
    let file = setup.read_only().await?;
    let mut lead = "{\n  \"set_aside\": [\n    ";
    let mut printed = Ok(true);
    let print_one = |event| {
        printed = match json {
            true => print(&format!("{lead}{}", json_of(&event))),
            false => print(&line_of(&event)),
        };
        lead = ",\n    ";
        matches!(printed, Ok(true))
    };
    if file.each_quarantined(print_one).await? == 0 {
        let none = json!({"set_aside": []});
        return Ok(Answer::new(none).line("quarantined", "nothing"));
    }
    if printed.context(NOT_PRINTED)? && json {
        print("\n  ]\n}\n").context(NOT_PRINTED)?;
    }
    Ok(Answer::printed())
}

fn line_of(event: &Quarantined) -> String {
    let Quarantined {
        log, seq, event_id, ..
    } = event;
    let (found_in, at, reason) = (event.found_in.as_str(), moment(event.at_ms), &event.reason);
    format!("{log}@{seq}  {event_id}, in the {found_in} until {at}: {reason}\n")
}

fn json_of(event: &Quarantined) -> Value {
    json!({
        "log": event.log,
        "seq": event.seq,
        "event_id": event.event_id,
        "found_in": event.found_in.as_str(),
        "at": moment(event.at_ms),
        "reason": event.reason,
        "envelope": event.envelope.as_deref().map(String::from_utf8_lossy),
    })
}
