//! The local API and the page, for a browser on the device itself, and how its refusals are told.

mod codes;
mod conflicts;
mod deliveries;
mod enrolment;
mod key;
mod page;
mod refused;
mod state;

use std::sync::Arc;

use event_schema::IntentId;
use serde::{Deserialize, Serialize};
use service_kit::{Problem, Routes, routes};
use utoipa::ToSchema;

use crate::device::{Device, Refused};
use crate::domain::{NoteTooLong, UnknownDecision, UnknownProblem};
use crate::owner_api::Owner;
use crate::store::StoreError;

/// What the handlers work with.
#[derive(Clone)]
struct App {
    device: Device,
    owner: Arc<dyn Owner>,
}

/// What this program is for, to a reader of its documentation.
const PURPOSE: &str = "Runs on a driver's device: shows their deliveries and takes what they do with them, with or without a network. Whoever uses the device may call it; nobody else can reach it.";

/// Open to whoever is at the device: it is theirs, and has no other users.
pub fn routes(device: Device, owner: Arc<dyn Owner>) -> Routes {
    Routes::new("driver-app", PURPOSE)
        .problems(codes::ALL)
        .routes(routes!(state::read))
        .routes(routes!(enrolment::enrol))
        .routes(routes!(enrolment::sync))
        .routes(routes!(deliveries::pick_up))
        .routes(routes!(deliveries::deliver))
        .routes(routes!(deliveries::report_problem))
        .routes(routes!(conflicts::decide))
        .routes(routes!(refused::dismiss))
        .routes(routes!(refused::retry))
        .routes(routes!(page::index))
        .routes(routes!(page::script))
        .routes(routes!(page::style))
        .routes(routes!(page::icon))
        .for_everybody()
        .with_state(App { device, owner })
}

/// A body that says nothing but that its sender may send JSON, which a foreign page may not.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// It is written down, and will be judged.
#[derive(Serialize, ToSchema)]
struct Accepted {
    intent_id: IntentId,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotFound(what) => Self::new(codes::not_found(what), refused.to_string()),
            Refused::NotPossible(_) | Refused::NotOpen(_) => {
                Self::new(codes::NOT_POSSIBLE_NOW, refused.to_string())
            }
            Refused::KeyReused => Self::new(
                service_kit::codes::IDEMPOTENCY_KEY_REUSED,
                refused.to_string(),
            ),
            Refused::QueueFull => Self::new(codes::QUEUE_FULL, refused.to_string()),
            Refused::Rows(error) => error.into(),
        }
    }
}

impl From<NoteTooLong> for Problem {
    fn from(error: NoteTooLong) -> Self {
        Self::field(codes::INVALID_NOTE, "note", error.to_string())
    }
}

impl From<UnknownProblem> for Problem {
    fn from(error: UnknownProblem) -> Self {
        Self::field(codes::INVALID_PROBLEM, "problem", error.to_string())
    }
}

impl From<UnknownDecision> for Problem {
    fn from(error: UnknownDecision) -> Self {
        Self::field(codes::INVALID_DECISION, "decision", error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Write(error) => error.into(),
            StoreError::Read(error) => error.into(),
        }
    }
}
