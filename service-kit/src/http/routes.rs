//! A service's own routes. They come in with their documentation, so what is served is documented, and whom the
//! documentation names is whom the gate lets in.

use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::http::Code;

/// Routes, what they are for, and with which codes they refuse.
///
/// Every handler carries `#[utoipa::path]`. Its `security` says who may call (`operator`, `service`, `device`), and
/// `extensions(("x-problems" = json!([codes::USER_NOT_FOUND.name()])))` names the codes of its own; those that follow from
/// its shape (a body, a query, a write) are added.
pub struct Routes<S = ()> {
    pub(crate) router: OpenApiRouter<S>,
    pub(crate) name: &'static str,
    pub(crate) purpose: &'static str,
    pub(crate) open: Vec<&'static str>,
    pub(crate) entrances: Vec<&'static str>,
    pub(crate) everybody: bool,
    pub(crate) codes: Vec<Code>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Of the service with this name, which is there for this.
    pub fn new(name: &'static str, purpose: &'static str) -> Self {
        Self {
            router: OpenApiRouter::default(),
            name,
            purpose,
            open: Vec::new(),
            entrances: Vec::new(),
            everybody: false,
            codes: Vec::new(),
        }
    }

    /// What every service has.
    pub(crate) fn part() -> Self {
        Self::new("", "")
    }

    /// The handlers of one path: `routes!(register, list)`.
    #[must_use]
    pub fn routes(mut self, handlers: UtoipaMethodRouter<S>) -> Self {
        self.router = self.router.routes(handlers);
        self
    }

    /// A path that everybody may call. Its handlers are documented without `security`; all others need one.
    #[must_use]
    pub fn open(mut self, path: &'static str) -> Self {
        self.open.push(path);
        self
    }

    /// An open path where strangers become known callers. Only requests that it refuses count, and they have a limit of their
    /// own, so that strangers keep no newcomer out. Its handler is asked before anything is counted: what it refuses must
    /// cost next to nothing. Who calls is not looked at.
    #[must_use]
    pub fn entrance(mut self, path: &'static str) -> Self {
        self.entrances.push(path);
        self.open(path)
    }

    /// Whoever reaches the program may do everything, as on a device that has one user. Then no handler has `security`.
    #[must_use]
    pub fn for_everybody(mut self) -> Self {
        self.everybody = true;
        self
    }

    /// The registry of the service's own codes: `codes::ALL`. A code that is in no registry cannot be answered.
    #[must_use]
    pub fn problems(mut self, registry: &'static [Code]) -> Self {
        self.codes.extend(registry);
        self
    }

    pub fn with_state<S2>(self, state: S) -> Routes<S2> {
        Routes {
            router: self.router.with_state(state),
            name: self.name,
            purpose: self.purpose,
            open: self.open,
            entrances: self.entrances,
            everybody: self.everybody,
            codes: self.codes,
        }
    }

    /// Takes another's routes in.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.open.extend(other.open);
        self.entrances.extend(other.entrances);
        self.codes.extend(other.codes);
        self
    }

    /// Handlers made up for a test. They are not documented, so any caller with a token may come.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn undocumented(mut self, router: axum::Router<S>) -> Self {
        self.router = self.router.merge(router.into());
        self
    }
}
