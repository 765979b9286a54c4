//! A service's own routes. They come with their documentation, so every route is documented, and the gate admits the
//! callers that the documentation names.

use utoipa::openapi::RefOr;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::http::Code;

/// Routes, what they are for, and with which codes they refuse.
///
/// Every handler carries `#[utoipa::path]`. Its `security` names the kinds of callers, and
/// `extensions(("x-problems" = json!([codes::USER_NOT_FOUND.name()])))` the codes of its own; those that follow from
/// its shape (a body, a query, a write) are added.
pub struct Routes<S = ()> {
    pub(crate) router: OpenApiRouter<S>,
    pub(crate) declared: Declared,
}

#[derive(Default)]
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    pub(crate) purpose: &'static str,
    pub(crate) open: Vec<&'static str>,
    pub(crate) entrances: Vec<&'static str>,
    pub(crate) all_open: bool,
    pub(crate) codes: Vec<Code>,
}

/// Of a service that adds its name and its purpose, or a part of one.
impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Of the service with this name and purpose.
    pub fn new(name: &'static str, purpose: &'static str) -> Self {
        Self {
            router: OpenApiRouter::default(),
            declared: Declared {
                name,
                purpose,
                ..Declared::default()
            },
        }
    }

    /// The handlers of one path: `routes!(register, list)`.
    #[must_use]
    pub fn routes(mut self, handlers: UtoipaMethodRouter<S>) -> Self {
        self.router = self.router.routes(handlers);
        self
    }

    /// A path for all callers. Its handlers are documented without `security`; all others need one.
    #[must_use]
    pub fn open(mut self, path: &'static str) -> Self {
        self.declared.open.push(path);
        self
    }

    /// An open path that gives out tokens. Only refused requests count, and they have a limit of their own, so that
    /// strangers keep no newcomer out. Its handler is asked before anything is counted: a refusal must cost next to nothing.
    /// The gate does not identify the caller.
    #[must_use]
    pub fn entrance(mut self, path: &'static str) -> Self {
        self.declared.entrances.push(path);
        self.open(path)
    }

    /// Every caller that reaches the program may do everything, as on a device with one user. Then no handler has `security`.
    #[must_use]
    pub fn open_to_all(mut self) -> Self {
        self.declared.all_open = true;
        self
    }

    /// The registry of the service's own codes: `codes::ALL`. A code that is in no registry cannot be answered.
    #[must_use]
    pub fn problems(mut self, registry: &'static [Code]) -> Self {
        self.declared.codes.extend(registry);
        self
    }

    /// Gives the handlers their state.
    pub fn with_state<S2>(self, state: S) -> Routes<S2> {
        Routes {
            router: self.router.with_state(state),
            declared: self.declared,
        }
    }

    /// Takes another's routes in. The name and the purpose stay.
    #[must_use]
    pub fn merge(mut self, Routes { router, declared }: Self) -> Self {
        self.router = self.router.merge(router);
        self.declared.open.extend(declared.open);
        self.declared.entrances.extend(declared.entrances);
        self.declared.codes.extend(declared.codes);
        self.declared.all_open |= declared.all_open;
        self
    }

    /// A documented route whose callers may send this header.
    pub(crate) fn that_takes(&self, header: &str) -> Option<&str> {
        let paths = self.router.get_openapi().paths.paths.iter();
        let mut taking = paths.filter(|(_, item)| {
            let operations = [&item.post, &item.put, &item.patch, &item.delete];
            let operations = operations.into_iter().flatten();
            let mut parameters = operations.flat_map(|of| of.parameters.iter().flatten());
            parameters.any(|of| matches!(of, RefOr::T(of) if of.name == header))
        });
        taking.next().map(|(path, _)| path.as_str())
    }

    /// Handlers made up for a test. They are not documented, so the gate admits any caller with a token.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn undocumented(mut self, router: axum::Router<S>) -> Self {
        self.router = self.router.merge(router.into());
        self
    }
}
