//! What a driver's device asks for, and the decision about it.
//!
//! Each kind has its policy. `pick_up` and `deliver` are guarded: they are applied if the order still allows them, whatever
//! else changed. `report_problem` is harmless: if it comes too late it is kept and needs no decision. What the order does not
//! allow is a conflict if orders-service has changed the order since the driver saw it, and a person decides; otherwise it is
//! rejected.

use event_schema::sync::Kind;
use event_schema::{
    ConflictDecided, DecidedBy, Decision, DriverId, IntentId, IntentStamp, OrderEvent, OrderId,
    ProblemKind, RefusedVerdict, Version,
};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::{Value, json};

use super::{Act, Note, Order, Refusal, Status};

/// A valid intent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", content = "arguments", rename_all = "snake_case")]
#[serde(deny_unknown_fields)]
pub enum Intent {
    PickUp {},
    Deliver {
        #[serde(default, deserialize_with = "note")]
        note: Option<Note>,
    },
    ReportProblem {
        #[serde(deserialize_with = "problem")]
        problem: ProblemKind,
        #[serde(default, deserialize_with = "note")]
        note: Option<Note>,
    },
    /// The driver's decision about an earlier intent that is in conflict.
    DecideConflict {
        intent_id: IntentId,
        #[serde(deserialize_with = "driver_decision")]
        decision: Decision,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIntent {
    #[error("orders-service has no intents of kind {0:?}")]
    UnknownKind(String),
    /// The device is newer than this service, which will be updated one day.
    #[error("orders-service reads {kind} up to version {newest}; the device sent version {sent}")]
    NewerVersion {
        kind: String,
        newest: u32,
        sent: u32,
    },
    #[error("its arguments are not valid for its kind: {0}")]
    InvalidArguments(String),
}

/// Why an intent has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub kind: RefusedVerdict,
    /// Stable: programs compare it. `order_cancelled`.
    pub code: &'static str,
}

/// An intent in conflict, and the last decision about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub intent_id: IntentId,
    pub order_id: OrderId,
    pub driver_id: DriverId,
    pub decision: Option<Decision>,
    /// Of the next event about it.
    pub next_version: Version,
}

/// Of arguments as JSON, after the note is cleaned. Valid arguments are shorter, whatever the script of their note.
const MAX_ARGUMENTS_BYTES: usize = 4096;

impl Intent {
    /// Reads every version that a device has ever sent.
    pub fn parse(kind: &str, version: u32, arguments: &Value) -> Result<Self, InvalidIntent> {
        check_version(kind, version)?;
        let arguments = with_clean_note(kind, arguments.clone());
        if !arguments.is_object() || arguments.to_string().len() > MAX_ARGUMENTS_BYTES {
            let expected = format!("send a JSON object of {MAX_ARGUMENTS_BYTES} bytes at most");
            return Err(InvalidIntent::InvalidArguments(expected));
        }
        let arguments = match (kind, version) {
            ("deliver", 1) => comment_to_note(arguments),
            _ => arguments,
        };
        serde_json::from_value(json!({"kind": kind, "arguments": arguments}))
            .map_err(|error| InvalidIntent::InvalidArguments(error.to_string()))
    }
}

/// Decides about an intent on an order that is or was the driver's. `conflict` is the one that the intent decides, if it
/// decides one.
pub fn judge(
    order: &Order,
    conflict: Option<&Conflict>,
    act: Act,
    intent: Intent,
    base_version: Version,
) -> Result<OrderEvent, Verdict> {
    let driver_id = act.driver_id;
    let changed = match intent.clone() {
        Intent::PickUp {} => order.pick_up(act),
        Intent::Deliver { note } => order.deliver(act, note),
        Intent::ReportProblem { problem, note } => order.report_problem(act, problem, note),
        Intent::DecideConflict { decision, .. } => return decide(order, conflict, act, decision),
    };
    changed.map_err(|refusal| Verdict {
        kind: refused(order, driver_id, &intent, base_version, refusal),
        code: refusal.code(),
    })
}

impl Verdict {
    pub fn rejected(code: &'static str) -> Self {
        let kind = RefusedVerdict::Rejected;
        Self { kind, code }
    }
}

impl Conflict {
    /// An operator still has to decide. A driver who insists asks for that.
    pub fn is_open(&self) -> bool {
        matches!(self.decision, None | Some(Decision::Insisted))
    }

    /// The decision as an event of the intent: it does not change the order.
    pub fn decide(
        &self,
        decision: Decision,
        by: DecidedBy,
        intent: Option<IntentStamp>,
        at_ms: i64,
    ) -> OrderEvent {
        OrderEvent::ConflictDecidedV2(ConflictDecided {
            order_id: self.order_id,
            intent_id: self.intent_id,
            decision,
            by,
            version: self.next_version,
            intent,
            at_ms,
        })
    }
}

fn refused(
    order: &Order,
    driver_id: DriverId,
    intent: &Intent,
    base_version: Version,
    refusal: Refusal,
) -> RefusedVerdict {
    let is_theirs = order.driver_id == Some(driver_id);
    let is_done = match intent {
        Intent::PickUp {} => matches!(order.status, Status::PickedUp | Status::Delivered),
        Intent::Deliver { .. } => order.status == Status::Delivered,
        Intent::ReportProblem { .. } | Intent::DecideConflict { .. } => false,
    };
    let is_late_report = matches!(intent, Intent::ReportProblem { .. });
    match () {
        () if refusal == Refusal::TooManyProblems => RefusedVerdict::Rejected, // the driver must learn that it is not recorded
        () if is_theirs && is_done || is_late_report => RefusedVerdict::Superseded,
        () if base_version < order.owner_version => RefusedVerdict::Conflict,
        () => RefusedVerdict::Rejected,
    }
}

fn decide(
    order: &Order,
    conflict: Option<&Conflict>,
    act: Act,
    decision: Decision,
) -> Result<OrderEvent, Verdict> {
    let conflict = conflict
        .filter(|conflict| conflict.driver_id == act.driver_id && conflict.order_id == order.id)
        .ok_or_else(|| Verdict::rejected("conflict_not_found"))?;
    if !conflict.is_open() || conflict.decision.as_ref() == Some(&decision) {
        return Err(Verdict {
            kind: RefusedVerdict::Superseded,
            code: "already_decided",
        });
    }
    Ok(conflict.decide(decision, DecidedBy::Driver, Some(act.intent), act.at_ms))
}

/// What a code means, for operators and drivers. The driver's page calls orders-service "the office".
pub fn explain(code: &str) -> &'static str {
    match code {
        "order_delivered" => "the order has been delivered",
        "order_cancelled" => "the order has been cancelled",
        "already_assigned" => "this driver has the order already",
        "not_assigned" => "no driver has the order",
        "another_driver" => "another driver has the order",
        "already_picked_up" => "the order has been picked up already",
        "not_picked_up" => "the order has not been picked up",
        "too_many_problems" => "too many problems with this order have been reported already",
        "order_not_found" => "there is no such order, or it was never this driver's",
        "unknown_kind" => "orders-service does not know this kind of intent",
        "invalid_arguments" => "orders-service cannot read what the device sent",
        "conflict_not_found" => "this driver has no such conflict",
        "already_decided" => "the conflict has been decided already",
        "intent_id_taken" => "another intent, order or driver has this id",
        "too_many_refusals" => {
            "orders-service has refused too many intents about this order: call an operator"
        }
        _ => "orders-service has refused it",
    }
}

fn check_version(kind: &str, sent: u32) -> Result<(), InvalidIntent> {
    let newest = match Kind::of(kind) {
        Kind::Other(kind) => return Err(InvalidIntent::UnknownKind(kind)),
        Kind::Deliver => 2,
        Kind::PickUp | Kind::ReportProblem | Kind::DecideConflict => 1,
    };
    match sent {
        0 => Err(InvalidIntent::InvalidArguments(
            "versions begin at 1".to_owned(),
        )),
        _ if sent <= newest => Ok(()),
        _ => Err(InvalidIntent::NewerVersion {
            kind: kind.to_owned(),
            newest,
            sent,
        }),
    }
}

/// `deliver` 1 → 2: the first devices always sent a `comment`, empty when the driver wrote none.
fn comment_to_note(mut arguments: Value) -> Value {
    if let Some(fields) = arguments.as_object_mut()
        && let Some(comment) = fields.remove("comment")
    {
        fields.insert("note".to_owned(), comment);
    }
    arguments
}

/// A note never refuses a delivery, because driver and parcel are gone: it is cut to its limit, and what is not text is no
/// note.
pub fn with_clean_note(kind: &str, mut arguments: Value) -> Value {
    if let (Kind::Deliver | Kind::ReportProblem, Some(fields)) =
        (Kind::of(kind), arguments.as_object_mut())
    {
        for name in ["note", "comment"] {
            let written = fields.get(name).map(|written| written.as_str());
            match written.map(|text| text.and_then(Note::clean)) {
                Some(Some(note)) => drop(fields.insert(name.to_owned(), String::from(note).into())),
                Some(None) => drop(fields.remove(name)),
                None => {}
            }
        }
    }
    arguments
}

fn note<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Note>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    Ok(text.and_then(|text| Note::clean(&text)))
}

fn problem<'de, D: Deserializer<'de>>(from: D) -> Result<ProblemKind, D::Error> {
    match ProblemKind::deserialize(from)? {
        ProblemKind::Other(other) => Err(Error::custom(format!("no problem is called {other:?}"))),
        known => Ok(known),
    }
}

fn driver_decision<'de, D: Deserializer<'de>>(from: D) -> Result<Decision, D::Error> {
    match Decision::deserialize(from)? {
        decision @ (Decision::Accepted | Decision::Insisted) => Ok(decision),
        _ => Err(Error::custom(
            "a driver's decision is `accepted` or `insisted`",
        )),
    }
}

impl InvalidIntent {
    /// Stable: programs compare it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownKind(_) => "unknown_kind",
            Self::NewerVersion { .. } => "newer_version",
            Self::InvalidArguments(_) => "invalid_arguments",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::tests::{act, order};
    use super::*;
    use event_schema::Event;

    fn outcome(order: &Order, driver: DriverId, intent: Intent, seen: Version) -> String {
        match judge(order, None, act(driver), intent, seen) {
            Ok(event) => event.event_type().to_owned(),
            Err(Verdict { kind, code }) => format!("{} {code}", kind.as_str()),
        }
    }

    fn deliver() -> Intent {
        Intent::Deliver { note: None }
    }

    #[test]
    fn an_intent_that_the_order_still_allows_is_applied_whatever_else_changed() {
        let mia = DriverId::new();
        let assigned = order(Status::Assigned, Some(mia));
        for seen in [Version::FIRST, assigned.version] {
            let is = outcome(&assigned, mia, Intent::PickUp {}, seen);
            assert_eq!(is, "orders.picked_up.v1");
        }
        let picked_up = order(Status::PickedUp, Some(mia));
        assert_eq!(
            outcome(&picked_up, mia, deliver(), Version::FIRST),
            "orders.delivered.v1"
        );
    }

    #[test]
    fn a_change_by_orders_service_that_the_driver_has_not_seen_makes_a_conflict() {
        let mia = DriverId::new();
        let cancelled = order(Status::Cancelled, Some(mia));
        let unseen = outcome(&cancelled, mia, deliver(), Version::FIRST);
        assert_eq!(unseen, "conflict order_cancelled");
        let seen = outcome(&cancelled, mia, deliver(), cancelled.version);
        assert_eq!(seen, "rejected order_cancelled");
        let elsewhere = order(Status::Assigned, Some(DriverId::new()));
        let unseen = outcome(&elsewhere, mia, deliver(), Version::FIRST);
        assert_eq!(unseen, "conflict another_driver");
    }

    #[test]
    fn an_intent_that_is_done_already_is_superseded_and_needs_no_decision() {
        let mia = DriverId::new();
        let delivered = order(Status::Delivered, Some(mia));
        for intent in [deliver(), Intent::PickUp {}] {
            let is = outcome(&delivered, mia, intent, Version::FIRST);
            assert_eq!(is, "superseded order_delivered");
        }
        let by_another = order(Status::Delivered, Some(DriverId::new()));
        let is = outcome(&by_another, mia, deliver(), Version::FIRST);
        assert_eq!(is, "conflict order_delivered");
    }

    #[test]
    fn a_late_problem_report_needs_no_decision() {
        let mia = DriverId::new();
        let cancelled = order(Status::Cancelled, Some(mia));
        let report = Intent::ReportProblem {
            problem: ProblemKind::Damaged,
            note: None,
        };
        let is = outcome(&cancelled, mia, report, Version::FIRST);
        assert_eq!(is, "superseded order_cancelled");
    }

    #[test]
    fn a_conflict_is_decided_once_and_a_driver_who_insists_may_still_accept() {
        let mia = DriverId::new();
        let cancelled = order(Status::Cancelled, Some(mia));
        let mut conflict = Conflict {
            intent_id: IntentId::new(),
            order_id: cancelled.id,
            driver_id: mia,
            decision: None,
            next_version: Version::FIRST.next(),
        };
        let decide = |conflict: &Conflict, driver, decision| {
            let intent_id = conflict.intent_id;
            let intent = Intent::DecideConflict {
                intent_id,
                decision,
            };
            let seen = cancelled.version;
            match judge(&cancelled, Some(conflict), act(driver), intent, seen) {
                Ok(event) => event.event_type().to_owned(),
                Err(verdict) => verdict.code.to_owned(),
            }
        };
        assert_eq!(
            decide(&conflict, DriverId::new(), Decision::Accepted),
            "conflict_not_found"
        );
        let done = "orders.conflict_decided.v2";
        assert_eq!(decide(&conflict, mia, Decision::Insisted), done);
        conflict.decision = Some(Decision::Insisted);
        assert_eq!(
            decide(&conflict, mia, Decision::Insisted),
            "already_decided"
        );
        assert_eq!(decide(&conflict, mia, Decision::Accepted), done);
        conflict.decision = Some(Decision::Upheld);
        assert_eq!(
            decide(&conflict, mia, Decision::Accepted),
            "already_decided"
        );
    }

    #[test]
    fn deliveries_of_the_first_devices_stay_valid() {
        let read = |comment: &str| Intent::parse("deliver", 1, &json!({"comment": comment}));
        assert_eq!(read(""), Ok(deliver()));
        let note = Note::clean("at the door");
        assert_eq!(read("at the door"), Ok(Intent::Deliver { note }));
    }

    #[test]
    fn a_drivers_text_is_a_note_or_none_and_never_a_refusal() {
        let notes = include_str!("../../../event-schema/notes.json");
        let notes: Vec<Value> = serde_json::from_str(notes).unwrap();
        let of_no_author = [
            json!({"written": "語".repeat(1_500), "kept": "語".repeat(500)}),
            json!({"written": "a".repeat(5_000), "kept": "a".repeat(500)}),
            json!({"written": 5, "kept": null}),
            json!({"written": ["at the door"], "kept": null}),
        ];
        for note in notes.iter().chain(&of_no_author) {
            let (written, kept) = (&note["written"], &note["kept"]);
            let note = kept.as_str().and_then(Note::clean);
            let delivered = Ok(Intent::Deliver { note: note.clone() });
            assert_eq!(note.as_ref().map(Note::as_str), kept.as_str());
            assert_eq!(
                Intent::parse("deliver", 1, &json!({"comment": written})),
                delivered
            );
            assert_eq!(
                Intent::parse("deliver", 2, &json!({"note": written})),
                delivered
            );
            let report = json!({"problem": "other", "note": written});
            let problem = ProblemKind::of("other");
            let reported = Ok(Intent::ReportProblem { problem, note });
            assert_eq!(
                Intent::parse("report_problem", 1, &report),
                reported,
                "{written:?}"
            );
        }
    }

    #[test]
    fn an_invalid_intent_says_why() {
        let code = |kind, version, arguments| {
            let read = Intent::parse(kind, version, &arguments);
            read.expect_err("invalid").code()
        };
        assert_eq!(code("fly", 1, json!({})), "unknown_kind");
        assert_eq!(code("deliver", 3, json!({})), "newer_version");
        for (kind, version, arguments) in [
            ("deliver", 0, json!({})),
            ("deliver", 2, json!([])),
            ("deliver", 2, json!({"note": "a", "speed": 7})),
            ("deliver", 2, json!({"comment": "of version 1"})),
            ("pick_up", 1, json!({"note": "none"})),
            ("report_problem", 1, json!({"problem": "aliens"})),
            (
                "decide_conflict",
                1,
                json!({"intent_id": "7", "decision": "accepted"}),
            ),
            (
                "decide_conflict",
                1,
                json!({"intent_id": IntentId::new(), "decision": "upheld"}),
            ),
        ] {
            assert_eq!(
                code(kind, version, arguments.clone()),
                "invalid_arguments",
                "{arguments}"
            );
        }
    }

    #[test]
    fn every_refusal_is_explained() {
        for code in ["order_cancelled", "another_driver", "order_not_found"] {
            assert_ne!(explain(code), explain("something new"), "{code}");
        }
    }
}
