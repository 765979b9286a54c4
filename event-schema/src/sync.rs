//! What travels between a driver's device and orders-service: intents up, verdicts back, a feed of deliveries down.
//!
//! JSON over HTTP. It grows as events do: new fields are optional, an unknown word is no error. A device may be
//! offline for months, so the owner understands for ever what the first device sent; the folder `sync/` of this crate holds recordings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, DriverId, IncarnationId, IntentId, OrderId, Version};
use crate::word::word;

/// What a driver wants. The device stores it in the transaction that shows it to the driver, and orders-service decides
/// about it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Intent {
    /// What a driver wanted once. The id stays the same however often the device sends it, so that the owner recognizes it.
    pub intent_id: IntentId,
    /// Its sequence among the intents of this incarnation: 1, 2, 3 …
    pub seq: u64,
    /// The sequence of the intent before it in its lane that has no verdict yet, if there is one: that one is decided first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_seq: Option<u64>,
    /// The lane, which is the order it is about. Text, since a lane that is no order gets its verdict, too.
    pub order_id: String,
    /// `pick_up`, `deliver`, `report_problem`, `decide_conflict`.
    pub kind: String,
    /// Of the arguments.
    #[cfg_attr(feature = "openapi", schema(value_type = u64, minimum = 0, maximum = 4294967295u64))]
    pub schema_version: u32,
    /// A JSON object of 4,096 bytes at most, a note counted as it is once it is cut; what belongs in it depends on kind and
    /// schema version. Anything else gets its verdict, too.
    pub arguments: serde_json::Value,
    /// The order's version that the driver had seen.
    pub base_version: Version,
    /// How much of the feed the device had applied, as the feed named it. The owner must have seen as much to judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// By the device's clock, Unix time in milliseconds. Never compared.
    pub device_time_ms: i64,
}

/// Some intents of one incarnation, in the order of their sequences: the body of `POST /sync/intents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Upload {
    /// One unforked life of a device's database.
    pub incarnation: IncarnationId,
    /// 1 to 100.
    pub intents: Vec<Intent>,
}

/// The answer: one verdict for each intent, in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verdicts {
    /// One for each intent.
    pub verdicts: Vec<Verdict>,
}

/// The verdict about one intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Verdict {
    /// What a driver wanted once. The id stays the same however often the device sends it, so that the owner recognizes it.
    pub intent_id: IntentId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Outcome {
    /// It had its effect, in the event at this sequence of the owner's log.
    Applied {
        /// The sequence of that event.
        at: u64,
    },
    /// It has the verdict `first` from an earlier upload; nothing happened again.
    Duplicate {
        /// That verdict.
        #[cfg_attr(feature = "openapi", schema(no_recursion))]
        first: Box<Outcome>,
    },
    /// What it wants is so already.
    Superseded {
        /// The sequence of the event that says so.
        at: u64,
        /// Why, as a name that does not change.
        code: String,
        /// Why, for a person.
        detail: String,
    },
    /// It was never possible, and will not be.
    Rejected {
        /// The sequence of the event that says so.
        at: u64,
        /// Why, as a name that does not change.
        code: String,
        /// Why, for a person.
        detail: String,
    },
    /// The order has changed since the driver saw it. A person decides.
    Conflict {
        /// The sequence of the event that says so.
        at: u64,
        /// Why, as a name that does not change.
        code: String,
        /// Why, for a person.
        detail: String,
        /// The order as it is now, as far as this driver may know it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Delivery>,
    },
    /// Nothing is decided yet. Its lane waits, the others do not. With the code `budget_spent`: the device or its driver has
    /// sent too much about what is no order of theirs in the last 24 hours.
    RetryLater {
        /// Why, as a name that does not change.
        code: String,
        /// Why, for a person.
        detail: String,
        /// The device waits so long, in milliseconds.
        after_ms: u64,
    },
}

/// An order as the driver who is to deliver it may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// `assigned`, `picked_up`, `delivered`, `cancelled`; more may come.
    pub status: String,
    /// How many changes an aggregate has seen, its creation included: 1, 2, 3 …
    pub version: Version,
    /// The customer's name, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// In the currency's smallest unit.
    pub amount_minor: i64,
    /// Three upper-case letters, as in ISO 4217.
    pub currency: String,
    /// The note of the driver or the operator who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<String>,
    /// Problems reported on the way.
    #[serde(default)]
    pub problems: u32,
    /// The sequence of the event that placed it: lists go by this, since clocks jump. Missing from an older owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// When the order was placed, by the owner's clock, as Unix time in milliseconds.
    pub created_at_ms: i64,
    /// When it last changed.
    pub changed_at_ms: i64,
}

/// A page of the feed: `GET /sync/feed?after=TOKEN&limit=N&wait_ms=N`.
///
/// The pages up to one that is `complete` are a checkpoint: a device applies them together, in one transaction, or not at
/// all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FeedPage {
    /// What begins with this page replaces all that the device has: it was offline for too long, or the log it
    /// followed has forked. Pages that follow until the checkpoint is complete belong to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
    /// What has changed.
    pub items: Vec<FeedItem>,
    /// To be sent as `after` for the next page.
    pub next: String,
    /// The sequence of the owner's log that the checkpoint is as of, once it is complete.
    pub at: u64,
    /// The checkpoint ends with this page.
    pub complete: bool,
    /// The decisions about this driver's intents in conflict, their own and the operators'.
    #[serde(default)]
    pub judged: Vec<Judged>,
}

/// One change of what the device has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum FeedItem {
    /// This is how the delivery is now.
    Put {
        /// The delivery.
        delivery: Delivery,
    },
    /// It is no longer this driver's: the device deletes all it has of it.
    Remove {
        /// The order.
        order_id: OrderId,
    },
}

/// A decision about an intent in conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Judged {
    /// What a driver wanted once. The id stays the same however often the device sends it, so that the owner recognizes it.
    pub intent_id: IntentId,
    /// The order that it is about.
    pub order_id: String,
    /// `accepted`, `insisted`, `upheld`, `dismissed`.
    pub decision: String,
    /// `driver` or `operator`.
    pub by: String,
}

/// The body of `POST /devices`: a device exchanges a one-time code for its credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enrolment {
    /// As the operator reads it out: letters and digits, with or without dashes, in any case.
    pub code: String,
    /// The id that the device drew for itself.
    pub device_id: DeviceId,
}

/// The answer. The token is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enrolled {
    /// A driver's device. It draws its id itself, before it is enrolled.
    pub device_id: DeviceId,
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// The name of the driver, for the page.
    pub driver_name: String,
    /// The credential of the device.
    pub token: String,
    /// Unix time in milliseconds, by the owner's clock.
    pub expires_at_ms: i64,
}

/// The arguments of `pick_up`, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PickUp {}

/// The arguments of `deliver`, version 2. Version 1 had `comment`, which could be empty, for `note`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// 1 to 500 characters; longer ones are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The arguments of `report_problem`, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReportProblem {
    /// `nobody_home`, `wrong_address`, `damaged`, `refused` or `other`.
    pub problem: String,
    /// 1 to 500 characters; longer ones are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The arguments of `decide_conflict`, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecideConflict {
    /// The intent in conflict.
    pub intent_id: IntentId,
    /// `accepted` or `insisted`.
    pub decision: String,
}

word! {
    /// What an intent wants.
    Kind {
        /// The driver has the order.
        PickUp = "pick_up",
        /// The driver has handed it over.
        Deliver = "deliver",
        /// Something went wrong on the way.
        ReportProblem = "report_problem",
        /// The driver decides about a conflict.
        DecideConflict = "decide_conflict",
    }
}

/// Intents in one upload, at most.
pub const MAX_INTENTS: usize = 100;
/// Characters of a note, at most.
pub const MAX_NOTE_CHARACTERS: usize = 500;

impl Outcome {
    /// The lane goes on: whatever it is, it stays so.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::RetryLater { .. })
    }

    /// The verdict that counts: a duplicate's is the one it got first.
    pub fn first(&self) -> &Self {
        match self {
            Self::Duplicate { first } => first.first(),
            verdict => verdict,
        }
    }
}
