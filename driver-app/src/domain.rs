//! What a driver can do, decided without any I/O: which actions are possible, what they look like before the owner has
//! judged them, and what may be written down.

use std::fmt;

use event_schema::sync::{
    DecideConflict, Deliver, Delivery, MAX_NOTE_CHARACTERS, PickUp, ReportProblem,
};
use event_schema::{Decision, IntentId, Note, ProblemKind, Version};
use serde::Serialize;
use serde_json::Value;

pub use event_schema::sync::Kind;

/// What a driver does with a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    PickUp,
    Deliver {
        note: Option<Note>,
    },
    ReportProblem {
        problem: Problem,
        note: Option<Note>,
    },
}

/// What stands in a delivery's way, in one of the words this program knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(ProblemKind);

/// What a driver decides about an intent of theirs that is in conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverDecision(Decision);

/// What an intent says about itself, whatever it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub kind: Kind,
    /// Of the arguments.
    pub schema_version: u32,
    pub arguments: Value,
}

/// An intent of this device that its owner has not judged, or whose effect the feed has not brought yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub intent_id: IntentId,
    pub kind: Kind,
    pub arguments: Value,
    /// Of one that is asked again: an owner whose order is beyond this version may show its effect already.
    pub may_show_beyond: Option<Version>,
}

/// It cannot be done in the state the delivery is in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delivery that is {status} cannot be changed like this ({kind})")]
pub struct NotPossible {
    pub kind: &'static str,
    pub status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a note has at most {MAX_NOTE_CHARACTERS} characters, not {found}")]
pub struct NoteTooLong {
    found: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of nobody_home, wrong_address, damaged, refused, other")]
pub struct UnknownProblem;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected accepted or insisted")]
pub struct UnknownDecision;

/// The words of a delivery's status that mean something here. An owner may know more; then nothing can be done but look.
const ASSIGNED: &str = "assigned";
const PICKED_UP: &str = "picked_up";
const DELIVERED: &str = "delivered";

/// What can be done with a delivery as the driver sees it.
pub fn can(delivery: &Delivery) -> &'static [&'static str] {
    match delivery.status.as_str() {
        ASSIGNED => &["pick_up", "report_problem"],
        PICKED_UP => &["deliver", "report_problem"],
        _ => &[],
    }
}

/// May the driver do this now? `delivery` is what they see.
pub fn decide(delivery: &Delivery, action: &Action) -> Result<Said, NotPossible> {
    let said = action.said();
    possible(delivery, said.kind.as_str())
        .then_some(said)
        .ok_or_else(|| NotPossible {
            kind: action.name(),
            status: delivery.status.clone(),
        })
}

fn possible(delivery: &Delivery, kind: &str) -> bool {
    can(delivery).contains(&kind)
}

/// The delivery as its driver should see it: what the owner told, and the driver's own pending intents on top, in order.
///
/// An intent that does not fit what it meets changes nothing: either the owner's side shows its effect already, or one
/// before it had none. The owner's version and times stay as they are.
pub fn overlay<'a>(told: &Delivery, pending: impl IntoIterator<Item = &'a Pending>) -> Delivery {
    pending.into_iter().fold(told.clone(), |shown, intent| {
        if possible(&shown, intent.kind.as_str()) && !may_show(told, intent) {
            with(shown, intent)
        } else {
            shown
        }
    })
}

/// A status tells whether it was reached; a count does not tell who was counted.
fn may_show(told: &Delivery, intent: &Pending) -> bool {
    let beyond = |version| told.version > version;
    intent.kind == Kind::ReportProblem && intent.may_show_beyond.is_some_and(beyond)
}

fn with(mut shown: Delivery, intent: &Pending) -> Delivery {
    match intent.kind {
        Kind::PickUp => shown.status = PICKED_UP.to_owned(),
        Kind::Deliver => {
            shown.status = DELIVERED.to_owned();
            shown.note = note_of(&intent.arguments);
        }
        Kind::ReportProblem => shown.problems = shown.problems.saturating_add(1),
        Kind::DecideConflict | Kind::Other(_) => {}
    }
    shown
}

/// The note among an intent's arguments, as its owner will have it.
pub fn note_of(arguments: &Value) -> Option<String> {
    let note = arguments["note"].as_str().and_then(Note::clean);
    note.map(String::from)
}

/// Does this decision end a conflict? One the driver insists on waits for the office, and a later word is not
/// understood here.
pub fn ends_conflict(decision: &str) -> bool {
    use Decision::{Accepted, Dismissed, Upheld};
    matches!(Decision::of(decision), Accepted | Upheld | Dismissed)
}

impl Action {
    /// As its intent names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PickUp => "pick_up",
            Self::Deliver { .. } => "deliver",
            Self::ReportProblem { .. } => "report_problem",
        }
    }

    pub fn said(&self) -> Said {
        match self {
            Self::PickUp => Said::new(Kind::PickUp, 1, &PickUp {}),
            Self::Deliver { note } => {
                let note = note.clone().map(String::from);
                Said::new(Kind::Deliver, 2, &Deliver { note })
            }
            Self::ReportProblem { problem, note } => {
                let problem = problem.0.as_str().to_owned();
                let note = note.clone().map(String::from);
                Said::new(Kind::ReportProblem, 1, &ReportProblem { problem, note })
            }
        }
    }
}

impl DriverDecision {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn said(&self, intent_id: IntentId) -> Said {
        let decision = self.0.as_str().to_owned();
        let arguments = DecideConflict {
            intent_id,
            decision,
        };
        Said::new(Kind::DecideConflict, 1, &arguments)
    }
}

impl Said {
    fn new(kind: Kind, schema_version: u32, arguments: &impl Serialize) -> Self {
        let arguments = serde_json::to_value(arguments).expect("plain arguments are JSON");
        Self {
            kind,
            schema_version,
            arguments,
        }
    }
}

/// The driver is still there to shorten a note that is too long; everything else is cleaned as its owner would, so that what
/// is shown is what is delivered.
pub fn a_note(text: &str) -> Result<Option<Note>, NoteTooLong> {
    match Note::count(text) {
        found if found > MAX_NOTE_CHARACTERS => Err(NoteTooLong { found }),
        _ => Ok(Note::clean(text)),
    }
}

impl Problem {
    pub fn parse(text: &str) -> Result<Self, UnknownProblem> {
        match ProblemKind::of(text) {
            ProblemKind::Other(_) => Err(UnknownProblem),
            known => Ok(Self(known)),
        }
    }
}

impl DriverDecision {
    pub fn parse(text: &str) -> Result<Self, UnknownDecision> {
        match Decision::of(text) {
            known @ (Decision::Accepted | Decision::Insisted) => Ok(Self(known)),
            _ => Err(UnknownDecision),
        }
    }
}

impl fmt::Display for DriverDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use event_schema::OrderId;
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

    fn pending(kind: Kind, arguments: Value) -> Pending {
        Pending {
            intent_id: IntentId::new(),
            kind,
            arguments,
            may_show_beyond: None,
        }
    }

    #[test]
    fn what_can_be_done_follows_from_the_status_and_an_unknown_one_only_shows() {
        assert_eq!(can(&delivery("assigned")), ["pick_up", "report_problem"]);
        assert_eq!(can(&delivery("picked_up")), ["deliver", "report_problem"]);
        for over in ["delivered", "cancelled", "placed", "teleported", ""] {
            assert!(can(&delivery(over)).is_empty(), "{over}");
        }
    }

    #[test]
    fn pending_intents_lie_on_top_in_order() {
        let told = delivery("assigned");
        let both = [
            pending(Kind::PickUp, json!({})),
            pending(Kind::ReportProblem, json!({"problem": "other"})),
            pending(Kind::Deliver, json!({"note": "at the door"})),
        ];
        let shown = overlay(&told, &both);
        assert_eq!((shown.status.as_str(), shown.problems), ("delivered", 1));
        assert_eq!(shown.note.as_deref(), Some("at the door"));
        assert_eq!(
            (shown.version, shown.changed_at_ms),
            (told.version, told.changed_at_ms)
        );
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
            let told = delivery(status);
            assert_eq!(
                overlay(&told, &[pending(kind, json!({}))]),
                told,
                "{status}"
            );
        }
    }

    #[test]
    fn what_is_asked_again_is_not_shown_twice_and_takes_nothing_back() {
        let again = |kind| Pending {
            may_show_beyond: Some(Version::FIRST),
            ..pending(kind, json!({}))
        };
        let delivered = delivery("delivered");
        let all = [
            again(Kind::PickUp),
            again(Kind::Deliver),
            again(Kind::ReportProblem),
        ];
        assert_eq!(overlay(&delivered, &all), delivered);
        let mut told = delivery("assigned");
        assert_eq!(overlay(&told, &all[2..]).problems, 1);
        told.version = told.version.next();
        assert_eq!(
            overlay(&told, &all[2..]).problems,
            0,
            "it may be among them"
        );
        assert_eq!(overlay(&told, &all[..1]).status, "picked_up");
    }

    #[test]
    fn a_note_is_counted_in_characters_and_blanks_are_none() {
        assert_eq!(a_note(" \n "), Ok(None));
        assert_eq!(a_note(" a "), Ok(Note::clean("a")));
        assert!(a_note(&"語".repeat(500)).is_ok());
        let refusal = a_note(&"語".repeat(501)).unwrap_err();
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
            let note = a_note(written).unwrap();
            let said = Action::Deliver { note }.said();
            assert_eq!(said.arguments["note"].as_str(), kept, "{written:?}");
            let stored_before = json!({"note": written});
            assert_eq!(note_of(&stored_before).as_deref(), kept, "{written:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_the_delivery_is() {
        let refusal = decide(&delivery("cancelled"), &Action::PickUp).unwrap_err();
        assert!(refusal.to_string().contains("cancelled"), "{refusal}");
        assert!(Problem::parse("rain").is_err() && Problem::parse("other").is_ok());
        assert!(DriverDecision::parse("upheld").is_err());
        let decision = DriverDecision::parse("accepted").unwrap();
        let id = IntentId::new();
        let said = decision.said(id);
        assert_eq!(
            said.arguments,
            json!({"intent_id": id, "decision": "accepted"})
        );
    }

    #[test]
    fn only_a_decision_that_is_known_to_end_a_conflict_does() {
        for (decision, ends) in [
            ("accepted", true),
            ("upheld", true),
            ("dismissed", true),
            ("insisted", false),
            ("postponed", false),
        ] {
            assert_eq!(ends_conflict(decision), ends, "{decision}");
        }
    }
}
