//! The access matrix as a readable table: change a line here when a route or its rule changes.

use serde_json::{Value, json};

use super::stage::{Kind, Stage};

/// One route of one program.
pub(super) struct Row {
    /// Method and path, as the documentation writes them.
    pub(super) route: &'static str,
    /// Empty: the route is public.
    pub(super) may: &'static [Kind],
    pub(super) thing: Thing,
    /// The status that a caller with access gets for their own resource, for another's, and for a missing one; 0: no such resource.
    pub(super) answers: [u16; 3],
    /// The body; none for a request without one.
    pub(super) body: Option<fn(&Stage, &str) -> Value>,
    /// Another's resource looks like a missing one, although the status is not 404.
    pub(super) hides_others: bool,
}

/// The resource of a route; one is created for each call that is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Nothing,
    User,
    /// With a driver who has not picked it up yet.
    Order,
    Driver,
    Device,
    /// In conflict, without a decision.
    Intent,
    /// An enrolment code: a fresh one, one that another device has used, one that was never drawn.
    Code,
    /// An order, named inside an upload.
    Wish,
    /// A position in a feed.
    Place,
    /// An event of the log.
    Event,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Own,
    Others,
    Missing,
}

const EVERYBODY: &[Kind] = &[];
const OPERATORS: &[Kind] = &[Kind::Operator];
const READERS: &[Kind] = &[Kind::Operator, Kind::Service];
const SERVICES: &[Kind] = &[Kind::Service];
const DEVICES: &[Kind] = &[Kind::Device];

/// The public routes of every program.
macro_rules! with_common {
    ($($row:expr),* $(,)?) => {
        &[
            row("GET /livez", EVERYBODY, Thing::Nothing, [200, 0, 0]),
            row("GET /readyz", EVERYBODY, Thing::Nothing, [200, 0, 0]),
            row("GET /metrics", EVERYBODY, Thing::Nothing, [200, 0, 0]),
            row("GET /docs", EVERYBODY, Thing::Nothing, [200, 0, 0]),
            row("GET /problems", EVERYBODY, Thing::Nothing, [200, 0, 0]),
            row("GET /openapi.json", EVERYBODY, Thing::Nothing, [200, 0, 0]),
            $($row),*
        ]
    };
}

pub(super) const USERS: &[Row] = with_common![
    row("GET /snapshot", SERVICES, Thing::Nothing, [200, 0, 0]),
    row("GET /log/{seq}", SERVICES, Thing::Event, [200, 0, 200]),
    row(
        "PUT /log/readers/{reader}",
        SERVICES,
        Thing::Nothing,
        [200, 0, 0]
    )
    .sends(|_, _| json!({"at": null})),
    row("GET /users", READERS, Thing::Nothing, [200, 0, 0]),
    row("GET /users/{id}", READERS, Thing::User, [200, 0, 404]),
    row("POST /users", OPERATORS, Thing::Nothing, [201, 0, 0])
        .sends(|stage, _| { json!({"name": "Grace", "email": stage.fresh_address()}) }),
    row("PATCH /users/{id}", OPERATORS, Thing::User, [200, 0, 404])
        .sends(|_, _| json!({"name": "Countess"})),
    row("DELETE /users/{id}", OPERATORS, Thing::User, [204, 0, 404]),
];

pub(super) const ORDERS: &[Row] = with_common![
    row("GET /snapshot", SERVICES, Thing::Nothing, [200, 0, 0]),
    row("GET /log/{seq}", SERVICES, Thing::Event, [200, 0, 200]),
    row(
        "PUT /log/readers/{reader}",
        SERVICES,
        Thing::Nothing,
        [200, 0, 0]
    )
    .sends(|_, _| json!({"at": null})),
    row("GET /orders", READERS, Thing::Nothing, [200, 0, 0]),
    row("GET /orders/{id}", READERS, Thing::Order, [200, 200, 404]),
    row(
        "GET /orders/{id}/history",
        READERS,
        Thing::Order,
        [200, 200, 404]
    ),
    row(
        "GET /users/{id}/orders",
        READERS,
        Thing::User,
        [200, 0, 404]
    ),
    row("POST /orders", OPERATORS, Thing::User, [201, 0, 422])
        .sends(|_, user| { json!({"user_id": user, "amount_minor": 1250, "currency": "EUR"}) }),
    row(
        "POST /orders/{id}/assign",
        OPERATORS,
        Thing::Order,
        [200, 200, 404]
    )
    .sends(|stage, _| { json!({"driver_id": stage.spare_driver}) }),
    row(
        "POST /orders/{id}/unassign",
        OPERATORS,
        Thing::Order,
        [200, 200, 404]
    )
    .sends(|_, _| json!({})),
    row(
        "POST /orders/{id}/cancel",
        OPERATORS,
        Thing::Order,
        [200, 200, 404]
    )
    .sends(|_, _| { json!({"reason": "customer_request"}) }),
    row("GET /drivers", OPERATORS, Thing::Nothing, [200, 0, 0]),
    row("POST /drivers", OPERATORS, Thing::Nothing, [201, 0, 0])
        .sends(|_, _| json!({"name": "Mia"})),
    row("GET /drivers/{id}", OPERATORS, Thing::Driver, [200, 0, 404]),
    row(
        "POST /drivers/{id}/revoke",
        OPERATORS,
        Thing::Driver,
        [200, 0, 404]
    )
    .sends(|_, _| json!({})),
    row(
        "POST /drivers/{id}/codes",
        OPERATORS,
        Thing::Driver,
        [201, 0, 404]
    )
    .sends(|_, _| json!({})),
    row(
        "POST /devices/{id}/revoke",
        OPERATORS,
        Thing::Device,
        [200, 0, 404]
    )
    .sends(|_, _| json!({})),
    row("GET /intents", OPERATORS, Thing::Nothing, [200, 0, 0]),
    row("GET /intents/{id}", OPERATORS, Thing::Intent, [200, 0, 404]),
    row(
        "POST /intents/{id}/decision",
        OPERATORS,
        Thing::Intent,
        [200, 0, 404]
    )
    .sends(|_, _| { json!({"decision": "dismissed"}) }),
    row("POST /devices", EVERYBODY, Thing::Code, [201, 422, 422])
        .hides_others()
        .sends(|_, code| { json!({"code": code, "device_id": uuid::Uuid::now_v7()}) }),
    row("POST /sync/intents", DEVICES, Thing::Wish, [200, 200, 200])
        .hides_others()
        .sends(|_, order| { super::stage::upload("pick_up", order) }),
    row("GET /sync/feed", DEVICES, Thing::Place, [200, 400, 400]).hides_others(),
];

pub(super) const DEVICE: &[Row] = with_common![
    row("GET /", EVERYBODY, Thing::Nothing, [200, 0, 0]),
    row("GET /app.js", EVERYBODY, Thing::Nothing, [200, 0, 0]),
    row("GET /app.css", EVERYBODY, Thing::Nothing, [200, 0, 0]),
    row("GET /icon.svg", EVERYBODY, Thing::Nothing, [200, 0, 0]),
    row("GET /api/state", EVERYBODY, Thing::Nothing, [200, 0, 0]),
    row("POST /api/sync", EVERYBODY, Thing::Nothing, [202, 0, 0]).sends(|_, _| json!({})),
    row("POST /api/enrol", EVERYBODY, Thing::Code, [0, 422, 422])
        .hides_others()
        .sends(|_, code| json!({"code": code})),
    row(
        "POST /api/deliveries/{id}/pick_up",
        EVERYBODY,
        Thing::Order,
        [202, 404, 404]
    )
    .sends(|_, _| json!({})),
    row(
        "POST /api/deliveries/{id}/deliver",
        EVERYBODY,
        Thing::Order,
        [409, 404, 404]
    )
    .sends(|_, _| json!({})),
    row(
        "POST /api/deliveries/{id}/report_problem",
        EVERYBODY,
        Thing::Order,
        [202, 404, 404]
    )
    .sends(|_, _| { json!({"problem": "nobody_home"}) }),
    row(
        "POST /api/conflicts/{id}/decide",
        EVERYBODY,
        Thing::Intent,
        [0, 404, 404]
    )
    .sends(|_, _| { json!({"decision": "accepted"}) }),
    row(
        "POST /api/refused/{id}/dismiss",
        EVERYBODY,
        Thing::Intent,
        [0, 404, 404]
    )
    .sends(|_, _| json!({})),
    row(
        "POST /api/refused/{id}/retry",
        EVERYBODY,
        Thing::Intent,
        [0, 404, 404]
    )
    .sends(|_, _| json!({})),
];

/// On the admin socket, for the operator's commands: undocumented, since only a service's own program calls them.
pub(super) const ADMIN: &[(&str, u16)] = &[
    ("GET /state", 200),
    ("POST /consumers/unknown/rebuild", 404),
    ("POST /consumers/unknown/retry", 422),
    ("POST /consumers/unknown/discard", 422),
];

const fn row(route: &'static str, may: &'static [Kind], thing: Thing, answers: [u16; 3]) -> Row {
    Row {
        route,
        may,
        thing,
        answers,
        body: None,
        hides_others: false,
    }
}

impl Row {
    const fn sends(mut self, body: fn(&Stage, &str) -> Value) -> Row {
        self.body = Some(body);
        self
    }

    const fn hides_others(mut self) -> Row {
        self.hides_others = true;
        self
    }

    pub(super) fn method(&self) -> &'static str {
        self.route.split_once(' ').expect("a method and a path").0
    }

    pub(super) fn path(&self) -> &'static str {
        self.route.split_once(' ').expect("a method and a path").1
    }

    pub(super) fn open(&self) -> bool {
        self.may.is_empty()
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = Target> {
        [Target::Own, Target::Others, Target::Missing]
            .into_iter()
            .filter(|target| self.answers[*target as usize] != 0)
    }
}
