//! What a driver can do with a delivery, and how it looks with the driver's own intents on top. Pure.

mod intent;

use event_schema::sync::{
    DecideConflict, Deliver, Delivery, Kind, MAX_NOTE_CHARACTERS, PickUp, ReportProblem,
};
use event_schema::{Decision, IntentId, Note, ProblemKind};
use serde::Serialize;
use serde_json::Value;

pub use intent::{LocalIntent, State, Verdict};

/// What a driver does, in the words of the intent that will carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub kind: Kind,
    /// Of the arguments.
    pub schema_version: u32,
    pub arguments: Value,
    /// Of a decision: the intent in conflict.
    pub about: Option<IntentId>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArgument {
    #[error("a note has at most {MAX_NOTE_CHARACTERS} characters, not {0}")]
    NoteTooLong(usize),
    #[error("expected one of nobody_home, wrong_address, damaged, refused, other")]
    UnknownProblem,
    #[error("expected accepted or insisted")]
    UnknownDecision,
}

/// The statuses this program understands. An owner may use others; the driver sees such a delivery but cannot change it.
const ASSIGNED: &str = "assigned";
const PICKED_UP: &str = "picked_up";
const DELIVERED: &str = "delivered";

/// The actions that a delivery's status allows. `delivery` is what the driver sees.
pub fn can(delivery: &Delivery) -> &'static [&'static str] {
    match delivery.status.as_str() {
        ASSIGNED => &["pick_up", "report_problem"],
        PICKED_UP => &["deliver", "report_problem"],
        _ => &[],
    }
}

/// May the driver do this now? `delivery` is what the driver sees.
pub fn allows(delivery: &Delivery, kind: &Kind) -> bool {
    can(delivery).contains(&kind.as_str())
}

/// The delivery as its driver should see it: the owner's state with the driver's pending intents on top, in order.
///
/// An intent that the status does not allow changes nothing: the owner's state includes its effect already, or an earlier
/// intent had no effect. The owner's version and times stay.
pub fn overlay<'a>(
    delivery: &Delivery,
    intents: impl IntoIterator<Item = &'a LocalIntent>,
) -> Delivery {
    let pending = intents.into_iter().filter(|intent| intent.is_pending());
    pending.fold(delivery.clone(), |seen, intent| {
        if allows(&seen, &intent.kind) && !may_include(delivery, intent) {
            with(seen, intent)
        } else {
            seen
        }
    })
}

/// Does the owner's state perhaps include this intent, which is sent again? Only a report needs the question: a status
/// shows whether it was reached, but a count does not show which reports it includes.
fn may_include(delivery: &Delivery, intent: &LocalIntent) -> bool {
    let is_newer = delivery.version > intent.base_version;
    intent.kind == Kind::ReportProblem && intent.asked_again && is_newer
}

fn with(mut delivery: Delivery, intent: &LocalIntent) -> Delivery {
    match intent.kind {
        Kind::PickUp => delivery.status = PICKED_UP.to_owned(),
        Kind::Deliver => {
            delivery.status = DELIVERED.to_owned();
            delivery.note = note_of(&intent.arguments);
        }
        Kind::ReportProblem => delivery.problems = delivery.problems.saturating_add(1),
        Kind::DecideConflict | Kind::Other(_) => {}
    }
    delivery
}

/// The note among an intent's arguments, as its owner will store it.
pub fn note_of(arguments: &Value) -> Option<String> {
    let note = arguments["note"].as_str().and_then(Note::clean);
    note.map(String::from)
}

impl Action {
    pub fn pick_up() -> Self {
        Self::new(Kind::PickUp, 1, &PickUp {})
    }

    pub fn deliver(note: Option<&str>) -> Result<Self, InvalidArgument> {
        let note = parse_note(note)?;
        Ok(Self::new(Kind::Deliver, 2, &Deliver { note }))
    }

    pub fn report_problem(problem: &str, note: Option<&str>) -> Result<Self, InvalidArgument> {
        if let ProblemKind::Other(_) = ProblemKind::of(problem) {
            return Err(InvalidArgument::UnknownProblem);
        }
        let (problem, note) = (problem.to_owned(), parse_note(note)?);
        let arguments = ReportProblem { problem, note };
        Ok(Self::new(Kind::ReportProblem, 1, &arguments))
    }

    /// The driver decides about their intent that is in conflict.
    pub fn decide(intent_id: IntentId, decision: &str) -> Result<Self, InvalidArgument> {
        if !matches!(
            Decision::of(decision),
            Decision::Accepted | Decision::Insisted
        ) {
            return Err(InvalidArgument::UnknownDecision);
        }
        let decision = decision.to_owned();
        let arguments = DecideConflict {
            intent_id,
            decision,
        };
        let about = Some(intent_id);
        Ok(Self {
            about,
            ..Self::new(Kind::DecideConflict, 1, &arguments)
        })
    }

    fn new(kind: Kind, schema_version: u32, arguments: &impl Serialize) -> Self {
        let arguments = serde_json::to_value(arguments).expect("plain arguments are JSON");
        Self {
            kind,
            schema_version,
            arguments,
            about: None,
        }
    }
}

/// A note that is too long is refused, because the driver can still shorten it. The rest is cleaned as the owner would
/// clean it, so that the driver sees what arrives.
fn parse_note(note: Option<&str>) -> Result<Option<String>, InvalidArgument> {
    let Some(note) = note else { return Ok(None) };
    match Note::count(note) {
        count if count > MAX_NOTE_CHARACTERS => Err(InvalidArgument::NoteTooLong(count)),
        _ => Ok(Note::clean(note).map(String::from)),
    }
}

#[cfg(test)]
mod tests {
    use event_schema::{OrderId, Version};
    use serde_json::json;

    use super::*;

    fn delivery(status: &str) -> Delivery {
        Delivery {
            order_id: OrderId::new(),
            status: status.to_owned(),
            version: Version::FIRST,
            customer: None,
            amount_minor: 1,
            currency: "EUR".to_owned(),
            note: None,
            cancel_reason: None,
            problems: 0,
            seq: None,
            created_at_ms: 1,
            changed_at_ms: 1,
        }
    }

    fn pending(kind: Kind, arguments: Value) -> LocalIntent {
        LocalIntent {
            intent_id: IntentId::new(),
            order_id: OrderId::new().to_string(),
            kind,
            arguments,
            about: None,
            base_version: Version::FIRST,
            device_time_ms: 1,
            state: State::Unsent,
            tries: 0,
            asked_again: false,
            verdict: None,
            code: None,
            detail: None,
            current: None,
            decision: None,
            open: true,
        }
    }

    #[test]
    fn the_status_decides_what_can_be_done_and_an_unknown_one_allows_nothing() {
        assert_eq!(can(&delivery("assigned")), ["pick_up", "report_problem"]);
        assert_eq!(can(&delivery("picked_up")), ["deliver", "report_problem"]);
        for over in ["delivered", "cancelled", "placed", "teleported", ""] {
            assert!(can(&delivery(over)).is_empty(), "{over}");
        }
    }

    #[test]
    fn pending_intents_lie_on_top_in_order() {
        let owners = delivery("assigned");
        let all = [
            pending(Kind::PickUp, json!({})),
            pending(Kind::ReportProblem, json!({"problem": "other"})),
            pending(Kind::Deliver, json!({"note": "at the door"})),
        ];
        let seen = overlay(&owners, &all);
        assert_eq!((seen.status.as_str(), seen.problems), ("delivered", 1));
        assert_eq!(seen.note.as_deref(), Some("at the door"));
        assert_eq!(
            (seen.version, seen.changed_at_ms),
            (owners.version, owners.changed_at_ms)
        );
    }

    #[test]
    fn a_refused_intent_and_one_in_conflict_change_nothing() {
        let owners = delivery("assigned");
        for verdict in [Verdict::Rejected, Verdict::Conflict] {
            let intent = LocalIntent {
                state: State::Answered,
                verdict: Some(verdict),
                ..pending(Kind::PickUp, json!({}))
            };
            assert_eq!(overlay(&owners, [&intent]), owners, "{verdict:?}");
        }
    }

    #[test]
    fn an_intent_that_does_not_fit_changes_nothing() {
        for (status, kind) in [
            ("picked_up", Kind::PickUp),
            ("assigned", Kind::Deliver),
            ("cancelled", Kind::Deliver),
            ("assigned", Kind::DecideConflict),
            ("assigned", Kind::of("levitate")),
        ] {
            let owners = delivery(status);
            let seen = overlay(&owners, &[pending(kind, json!({}))]);
            assert_eq!(seen, owners, "{status}");
        }
    }

    #[test]
    fn an_intent_that_is_sent_again_counts_once_and_undoes_nothing() {
        let again = |kind| LocalIntent {
            asked_again: true,
            ..pending(kind, json!({}))
        };
        let delivered = delivery("delivered");
        let all = [
            again(Kind::PickUp),
            again(Kind::Deliver),
            again(Kind::ReportProblem),
        ];
        assert_eq!(overlay(&delivered, &all), delivered);
        let mut owners = delivery("assigned");
        assert_eq!(overlay(&owners, &all[2..]).problems, 1);
        owners.version = owners.version.next();
        assert_eq!(
            overlay(&owners, &all[2..]).problems,
            0,
            "the owner's count may include it"
        );
        assert_eq!(overlay(&owners, &all[..1]).status, "picked_up");
    }

    #[test]
    fn a_note_is_counted_in_characters_and_a_blank_one_is_none() {
        assert_eq!(parse_note(Some(" \n ")), Ok(None));
        assert_eq!(parse_note(Some(" a ")), Ok(Some("a".to_owned())));
        assert!(parse_note(Some(&"語".repeat(500))).is_ok());
        let refusal = parse_note(Some(&"語".repeat(501))).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "a note has at most 500 characters, not 501"
        );
    }

    #[test]
    fn a_note_is_stored_and_shown_as_its_owner_keeps_it() {
        let notes = include_str!("../../event-schema/notes.json");
        let notes: Vec<Value> = serde_json::from_str(notes).unwrap();
        for note in &notes {
            let (written, kept) = (note["written"].as_str().unwrap(), note["kept"].as_str());
            let action = Action::deliver(Some(written)).unwrap();
            assert_eq!(action.arguments["note"].as_str(), kept, "{written:?}");
            let stored_before = json!({"note": written});
            assert_eq!(note_of(&stored_before).as_deref(), kept, "{written:?}");
        }
    }

    #[test]
    fn an_action_takes_only_known_words() {
        assert!(Action::report_problem("rain", None).is_err());
        assert!(Action::report_problem("other", None).is_ok());
        let id = IntentId::new();
        assert!(Action::decide(id, "upheld").is_err());
        assert_eq!(
            Action::decide(id, "accepted").unwrap().arguments,
            json!({"intent_id": id, "decision": "accepted"})
        );
    }
}
