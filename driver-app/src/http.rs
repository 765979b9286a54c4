//! The local API and the page, for the browser on the device itself.

mod actions;
mod codes;
mod enrolment;
mod page;
mod state;

use std::sync::Arc;

use serde::Deserialize;
use service_kit::{Problem, Routes, codes as kit, routes};
use utoipa::ToSchema;

use crate::device::{Device, Refused};
use crate::domain::InvalidArgument;
use crate::owner_api::OwnerApi;

/// The state of the handlers.
#[derive(Clone)]
struct App {
    device: Device,
    owner: Arc<OwnerApi>,
}

const PURPOSE: &str = "Runs on a driver's device: shows their deliveries and records what they do, with or without a network. It answers every caller, because only programs on the device can reach it.";

/// Open to every caller: the device is its driver's and has no other users.
pub fn routes(device: Device, owner: Arc<OwnerApi>) -> Routes {
    Routes::new("driver-app", PURPOSE)
        .problems(codes::ALL)
        .routes(routes!(state::read))
        .routes(routes!(enrolment::enrol))
        .routes(routes!(enrolment::sync))
        .routes(routes!(actions::pick_up))
        .routes(routes!(actions::deliver))
        .routes(routes!(actions::report_problem))
        .routes(routes!(actions::decide))
        .routes(routes!(actions::dismiss))
        .routes(routes!(actions::retry))
        .routes(routes!(page::index))
        .routes(routes!(page::script))
        .routes(routes!(page::style))
        .routes(routes!(page::icon))
        .open_to_all()
        .with_state(App { device, owner })
}

/// An empty JSON body. It proves that the sender may send JSON, which a foreign page may not.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Empty {}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::NotFound("delivery") => codes::DELIVERY_NOT_FOUND,
            Refused::NotFound("conflict") => codes::CONFLICT_NOT_FOUND,
            Refused::NotFound(_) => codes::REFUSAL_NOT_FOUND,
            Refused::NotPossible { .. } | Refused::NotOpen(_) => codes::NOT_POSSIBLE_NOW,
            Refused::KeyReused => kit::IDEMPOTENCY_KEY_REUSED,
            Refused::QueueFull => codes::QUEUE_FULL,
            Refused::Rows(error) => return error.into(),
        };
        Self::new(code, refused.to_string())
    }
}

impl From<InvalidArgument> for Problem {
    fn from(error: InvalidArgument) -> Self {
        let (code, field) = match error {
            InvalidArgument::NoteTooLong(_) => (codes::INVALID_NOTE, "note"),
            InvalidArgument::UnknownProblem => (codes::INVALID_PROBLEM, "problem"),
            InvalidArgument::UnknownDecision => (codes::INVALID_DECISION, "decision"),
        };
        Self::field(code, field, error.to_string())
    }
}
