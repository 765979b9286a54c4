//! What a driver's device wanted while nobody could ask, and what becomes of it now.
//!
//! Each kind has its policy. `pick_up` and `deliver` are guarded: they happen if the order still allows it, whatever else
//! changed. `report_problem` hurts nobody: if it comes too late it is kept and needs no decision. What the order does not
//! allow is a conflict when the office has changed the order since the driver saw it, and a person decides; otherwise it
//! was never possible.

use event_schema::sync::{self, Kind};
use event_schema::{
    ConflictDecided, DecidedBy, Decision, DriverId, IntentId, IntentStamp, OrderEvent, OrderId,
    ProblemKind, RefusedVerdict, Version,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Note, Order, Refusal, Status};

/// An intent that is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    PickUp,
    Deliver {
        note: Option<Note>,
    },
    ReportProblem {
        problem: ProblemKind,
        note: Option<Note>,
    },
    /// The driver's word about an earlier intent that is in conflict.
    DecideConflict {
        intent_id: IntentId,
        decision: Decision,
    },
}

/// Why an intent is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    #[error("no intent of kind {0:?} is known here")]
    UnknownKind(String),
    /// The device is newer than this service, which will be, too, one day.
    #[error("{kind} has version {version} here, and the device speaks {spoken}")]
    NewerVersion {
        kind: &'static str,
        version: u32,
        spoken: u32,
    },
    #[error("its arguments do not fit its kind: {0}")]
    InvalidArguments(String),
}

/// What becomes of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    Applied(Box<OrderEvent>),
    Refused(Ruling),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub verdict: RefusedVerdict,
    /// A name that does not change: `order_cancelled`.
    pub code: &'static str,
}

/// An intent in conflict, and what was decided about it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub intent_id: IntentId,
    pub order_id: OrderId,
    pub driver_id: DriverId,
    pub decision: Option<Decision>,
    /// Of the next event about it.
    pub next_version: Version,
}

/// Of arguments as JSON, with a clean note. What any kind can mean is shorter, whatever the script of its note.
const MAX_ARGUMENTS_BYTES: usize = 4096;

impl Wish {
    /// Understands what any device has ever sent: older arguments are brought up to date, step by step.
    pub fn read(kind: &str, schema_version: u32, arguments: &Value) -> Result<Self, Unclear> {
        let arguments = &with_clean_note(kind, arguments.clone());
        match Kind::of(kind) {
            Kind::PickUp => {
                let sync::PickUp {} = read("pick_up", &[], schema_version, arguments)?;
                Ok(Self::PickUp)
            }
            Kind::Deliver => {
                let deliver: sync::Deliver =
                    read("deliver", &[comment_to_note], schema_version, arguments)?;
                Ok(Self::Deliver {
                    note: a_note(deliver.note),
                })
            }
            Kind::ReportProblem => {
                let report: sync::ReportProblem =
                    read("report_problem", &[], schema_version, arguments)?;
                let (problem, note) = (known_problem(&report.problem)?, a_note(report.note));
                Ok(Self::ReportProblem { problem, note })
            }
            Kind::DecideConflict => {
                let decide: sync::DecideConflict =
                    read("decide_conflict", &[], schema_version, arguments)?;
                Ok(Self::DecideConflict {
                    intent_id: decide.intent_id,
                    decision: a_drivers_decision(&decide.decision)?,
                })
            }
            Kind::Other(kind) => Err(Unclear::UnknownKind(kind)),
        }
    }
}

/// Judges an intent about an order that the driver has or had. `conflict` is the one it decides, if it decides one.
pub fn judge(
    order: &Order,
    conflict: Option<&Conflict>,
    driver_id: DriverId,
    wish: Wish,
    base_version: Version,
    intent: IntentStamp,
    at_ms: i64,
) -> Judgement {
    let changed = match wish.clone() {
        Wish::PickUp => order.pick_up(driver_id, intent, at_ms),
        Wish::Deliver { note } => order.deliver(driver_id, note, intent, at_ms),
        Wish::ReportProblem { problem, note } => {
            order.report_problem(driver_id, problem, note, intent, at_ms)
        }
        Wish::DecideConflict { decision, .. } => {
            return decide(order, conflict, driver_id, decision, intent, at_ms);
        }
    };
    match changed {
        Ok(event) => Judgement::Applied(Box::new(event)),
        Err(refusal) => Judgement::Refused(Ruling {
            verdict: verdict(order, driver_id, &wish, base_version, refusal),
            code: refusal.code(),
        }),
    }
}

impl Conflict {
    /// Somebody still has to decide: who insists asks for a decision.
    pub fn is_open(&self) -> bool {
        matches!(self.decision, None | Some(Decision::Insisted))
    }

    /// The decision as an event of the intent: the order stays as it is.
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

fn verdict(
    order: &Order,
    driver_id: DriverId,
    wish: &Wish,
    base_version: Version,
    refusal: Refusal,
) -> RefusedVerdict {
    let is_theirs = order.driver_id == Some(driver_id);
    let is_so_already = match wish {
        Wish::PickUp => matches!(order.status, Status::PickedUp | Status::Delivered),
        Wish::Deliver { .. } => order.status == Status::Delivered,
        Wish::ReportProblem { .. } | Wish::DecideConflict { .. } => false,
    };
    let comes_too_late = matches!(wish, Wish::ReportProblem { .. });
    match () {
        () if refusal == Refusal::TooManyProblems => RefusedVerdict::Rejected, // the driver is to see that it is not told
        () if is_theirs && is_so_already || comes_too_late => RefusedVerdict::Superseded,
        () if base_version < order.office_version => RefusedVerdict::Conflict,
        () => RefusedVerdict::Rejected,
    }
}

fn decide(
    order: &Order,
    conflict: Option<&Conflict>,
    driver_id: DriverId,
    decision: Decision,
    intent: IntentStamp,
    at_ms: i64,
) -> Judgement {
    let refused = |verdict, code| Judgement::Refused(Ruling { verdict, code });
    let its_own =
        |conflict: &&Conflict| conflict.driver_id == driver_id && conflict.order_id == order.id;
    let Some(conflict) = conflict.filter(its_own) else {
        return refused(RefusedVerdict::Rejected, "conflict_not_found");
    };
    if !conflict.is_open() || conflict.decision.as_ref() == Some(&decision) {
        return refused(RefusedVerdict::Superseded, "already_decided");
    }
    let decided = conflict.decide(decision, DecidedBy::Driver, Some(intent), at_ms);
    Judgement::Applied(Box::new(decided))
}

/// A code in words for the driver.
pub fn explain(code: &str) -> &'static str {
    const REFUSALS: [Refusal; 8] = [
        Refusal::Delivered,
        Refusal::Cancelled,
        Refusal::AlreadyAssigned,
        Refusal::NotAssigned,
        Refusal::AnotherDriver,
        Refusal::AlreadyPickedUp,
        Refusal::NotPickedUp,
        Refusal::TooManyProblems,
    ];
    match REFUSALS.into_iter().find(|refusal| refusal.code() == code) {
        Some(Refusal::Delivered) => "the order has been delivered already",
        Some(Refusal::Cancelled) => "the office has cancelled the order",
        Some(Refusal::AlreadyAssigned) => "the driver has the order already",
        Some(Refusal::NotAssigned) => "the office has taken the order back",
        Some(Refusal::AnotherDriver) => "the office has given the order to another driver",
        Some(Refusal::AlreadyPickedUp) => "the order has been picked up already",
        Some(Refusal::NotPickedUp) => "the order has not been picked up",
        Some(Refusal::TooManyProblems) => {
            "the office knows of many problems with this order already"
        }
        None => match code {
            "order_not_found" => "there is no such order, or it was never this driver's",
            "unknown_kind" => "the office does not know this kind of intent",
            "invalid_arguments" => "the office cannot read what the device sent",
            "conflict_not_found" => "there is no such conflict of this driver's",
            "already_decided" => "it has been decided already",
            "intent_id_taken" => "the intent's id belongs to something else",
            "too_many_refusals" => {
                "the office has refused much about this order already; call the office"
            }
            _ => "the office has refused it",
        },
    }
}

type Upcaster = fn(Value) -> Value;

/// `upcasters[0]` leads from version 1 to 2, and so on; what is then the newest version is read.
fn read<T: DeserializeOwned>(
    kind: &'static str,
    upcasters: &[Upcaster],
    spoken: u32,
    arguments: &Value,
) -> Result<T, Unclear> {
    let known = u32::try_from(upcasters.len()).unwrap_or(u32::MAX);
    let version = known.saturating_add(1);
    if spoken > version {
        return Err(Unclear::NewerVersion {
            kind,
            version,
            spoken,
        });
    }
    if !arguments.is_object() || arguments.to_string().len() > MAX_ARGUMENTS_BYTES {
        let expected = format!("they are a JSON object of {MAX_ARGUMENTS_BYTES} bytes at most");
        return Err(Unclear::InvalidArguments(expected));
    }
    let done = spoken
        .checked_sub(1)
        .ok_or_else(|| Unclear::InvalidArguments("versions begin at 1".to_owned()))?;
    let later = upcasters.iter().skip(done as usize);
    let arguments = later.fold(arguments.clone(), |arguments, upcast| upcast(arguments));
    let read = serde_json::from_value(arguments);
    read.map_err(|error| Unclear::InvalidArguments(error.to_string()))
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

/// The driver is gone, and the parcel too: nothing about a note refuses a delivery. However long it is, it is cut, and what
/// is no text is no note.
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

fn a_note(note: Option<String>) -> Option<Note> {
    note.and_then(|text| Note::clean(&text))
}

fn known_problem(text: &str) -> Result<ProblemKind, Unclear> {
    match ProblemKind::of(text) {
        ProblemKind::Other(other) => Err(Unclear::InvalidArguments(format!(
            "no problem is called {other:?}"
        ))),
        known => Ok(known),
    }
}

fn a_drivers_decision(text: &str) -> Result<Decision, Unclear> {
    match Decision::of(text) {
        decision @ (Decision::Accepted | Decision::Insisted) => Ok(decision),
        _ => Err(Unclear::InvalidArguments(
            "a driver's decision is `accepted` or `insisted`".to_owned(),
        )),
    }
}

impl Unclear {
    /// Its name for programs.
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
    use serde_json::json;

    use super::super::order::tests::{order, stamp};
    use super::*;

    fn rule(order: &Order, driver: DriverId, wish: Wish, seen: Version) -> String {
        match judge(order, None, driver, wish, seen, stamp(), 9) {
            Judgement::Applied(event) => event.event_type().to_owned(),
            Judgement::Refused(Ruling { verdict, code }) => format!("{} {code}", verdict.as_str()),
        }
    }

    fn deliver() -> Wish {
        Wish::Deliver { note: None }
    }

    #[test]
    fn what_the_order_still_allows_happens_whatever_else_has_changed() {
        let mia = DriverId::new();
        let assigned = order(Status::Assigned, Some(mia));
        for seen in [Version::FIRST, assigned.version] {
            let ruled = rule(&assigned, mia, Wish::PickUp, seen);
            assert_eq!(ruled, OrderEvent::PICKED_UP);
        }
        let picked_up = order(Status::PickedUp, Some(mia));
        assert_eq!(
            rule(&picked_up, mia, deliver(), Version::FIRST),
            OrderEvent::DELIVERED
        );
    }

    #[test]
    fn a_change_of_the_office_that_the_driver_has_not_seen_makes_a_conflict() {
        let mia = DriverId::new();
        let cancelled = order(Status::Cancelled, Some(mia));
        let unseen = rule(&cancelled, mia, deliver(), Version::FIRST);
        assert_eq!(unseen, "conflict order_cancelled");
        let seen = rule(&cancelled, mia, deliver(), cancelled.version);
        assert_eq!(seen, "rejected order_cancelled");
        let elsewhere = order(Status::Assigned, Some(DriverId::new()));
        let unseen = rule(&elsewhere, mia, deliver(), Version::FIRST);
        assert_eq!(unseen, "conflict another_driver");
    }

    #[test]
    fn what_is_so_already_is_superseded_and_needs_nobody() {
        let mia = DriverId::new();
        let delivered = order(Status::Delivered, Some(mia));
        for wish in [deliver(), Wish::PickUp] {
            let ruled = rule(&delivered, mia, wish, Version::FIRST);
            assert_eq!(ruled, "superseded order_delivered");
        }
        let by_another = order(Status::Delivered, Some(DriverId::new()));
        let ruled = rule(&by_another, mia, deliver(), Version::FIRST);
        assert_eq!(ruled, "conflict order_delivered");
    }

    #[test]
    fn a_problem_that_is_reported_too_late_needs_nobody_either() {
        let mia = DriverId::new();
        let cancelled = order(Status::Cancelled, Some(mia));
        let report = Wish::ReportProblem {
            problem: ProblemKind::Damaged,
            note: None,
        };
        let ruled = rule(&cancelled, mia, report, Version::FIRST);
        assert_eq!(ruled, "superseded order_cancelled");
    }

    #[test]
    fn a_conflict_is_decided_once_and_who_insists_may_still_give_in() {
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
            let wish = Wish::DecideConflict {
                intent_id,
                decision,
            };
            let seen = cancelled.version;
            match judge(&cancelled, Some(conflict), driver, wish, seen, stamp(), 9) {
                Judgement::Applied(event) => event.event_type().to_owned(),
                Judgement::Refused(ruling) => ruling.code.to_owned(),
            }
        };
        assert_eq!(
            decide(&conflict, DriverId::new(), Decision::Accepted),
            "conflict_not_found"
        );
        let done = OrderEvent::CONFLICT_DECIDED_V2;
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
    fn the_first_devices_deliveries_are_understood_for_ever() {
        let read = |comment: &str| Wish::read("deliver", 1, &json!({"comment": comment}));
        assert_eq!(read(""), Ok(deliver()));
        let note = Note::clean("at the door");
        assert_eq!(read("at the door"), Ok(Wish::Deliver { note }));
    }

    #[test]
    fn whatever_a_driver_wrote_is_a_note_or_none_and_never_a_refusal() {
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
            let delivered = Ok(Wish::Deliver { note: note.clone() });
            assert_eq!(note.as_ref().map(Note::as_str), kept.as_str());
            assert_eq!(
                Wish::read("deliver", 1, &json!({"comment": written})),
                delivered
            );
            assert_eq!(
                Wish::read("deliver", 2, &json!({"note": written})),
                delivered
            );
            let report = json!({"problem": "other", "note": written});
            let problem = ProblemKind::of("other");
            let reported = Ok(Wish::ReportProblem { problem, note });
            assert_eq!(
                Wish::read("report_problem", 1, &report),
                reported,
                "{written:?}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_says_why() {
        let code = |kind, version, arguments| {
            let read = Wish::read(kind, version, &arguments);
            read.expect_err("not understood").code()
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
    fn every_refusal_has_words() {
        for code in ["order_cancelled", "another_driver", "order_not_found"] {
            assert_ne!(explain(code), explain("something new"), "{code}");
        }
    }
}
