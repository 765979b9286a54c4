//! The local API and the page, for a browser on the device itself, and how its refusals are told.

mod codes;
mod conflicts;
mod deliveries;
mod enrolment;
mod page;
mod refused;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use event_schema::IntentId;
use relay::Stop;
use serde::{Deserialize, Serialize};
use service_kit::Problem;

use crate::device::{Device, Refused};
use crate::domain::{NoteTooLong, UnknownDecision, UnknownProblem};
use crate::owner_api::Owner;
use crate::store::StoreError;

/// What the handlers work with.
#[derive(Clone)]
struct App {
    device: Device,
    owner: Arc<dyn Owner>,
    /// Ends the questions that wait for news.
    stop: Stop,
}

pub fn routes(device: Device, owner: Arc<dyn Owner>, stop: Stop) -> Router {
    Router::new()
        .route("/api/state", get(state::read))
        .route("/api/enrol", post(enrolment::enrol))
        .route("/api/sync", post(enrolment::sync))
        .route("/api/deliveries/{id}/pick_up", post(deliveries::pick_up))
        .route("/api/deliveries/{id}/deliver", post(deliveries::deliver))
        .route(
            "/api/deliveries/{id}/report_problem",
            post(deliveries::report_problem),
        )
        .route("/api/conflicts/{id}/decide", post(conflicts::decide))
        .route("/api/refused/{id}/dismiss", post(refused::dismiss))
        .route("/api/refused/{id}/retry", post(refused::retry))
        .with_state(App {
            device,
            owner,
            stop,
        })
        .merge(page::routes())
}

/// A body that says nothing but that its sender may send JSON, which a foreign page may not.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// It is written down, and will be judged.
#[derive(Serialize)]
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
