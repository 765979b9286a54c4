//! Who calls: a principal, and the kinds of principals there are.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// Who sent a request. The gate has checked its credentials, and that the route's documentation names its kind. A handler
/// takes this when its answer depends on the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// What kind of caller it is.
    pub kind: &'static Kind,
    /// Its name in the access file, or its id in the service's own database.
    pub id: String,
    /// The id of the one it acts for, if it acts for another.
    pub acts_for: Option<String>,
}

/// A kind of principal. Its name is the security scheme in the documentation and the first word of a line in the access
/// file. A service with tokens of its own declares their kind.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// `operator`.
    pub name: &'static str,
    /// For the documentation.
    pub description: &'static str,
    /// Says what a token is for, to a person who finds one lying around.
    pub token_prefix: &'static str,
    /// Each caller of this kind may send this fraction of `--max-requests-per-second`: 100 is a hundredth.
    pub rate_divisor: u32,
    /// After a pause it may send the requests of so many seconds at once.
    pub burst_s: u32,
    /// How many requests of one caller may be under way.
    pub max_under_way: Option<usize>,
}

/// The people who look after the system.
pub const OPERATOR: &Kind = &Kind {
    name: "operator",
    description: "A person who looks after the system: `token new operator NAME`.",
    token_prefix: "fho_",
    rate_divisor: 1,
    burst_s: 2,
    max_under_way: None,
};
/// Other services, which read snapshots.
pub const SERVICE: &Kind = &Kind {
    name: "service",
    description: "Another service: its read token, or `token new service NAME`.",
    token_prefix: "fhs_",
    ..*OPERATOR
};
/// Connections of strangers make room for others, so strangers need no limit of requests under way.
pub const ANONYMOUS: &Kind = &Kind {
    name: "anonymous",
    description: "A caller without a token.",
    token_prefix: "",
    rate_divisor: 50,
    ..*OPERATOR
};

impl Principal {
    /// A caller that acts for itself.
    pub fn new(kind: &'static Kind, id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
            acts_for: None,
        }
    }

    /// Whether it is a caller of this kind.
    pub fn is(&self, kind: &Kind) -> bool {
        self.kind == kind
    }

    /// A request that did not pass the gate has an anonymous caller.
    pub(crate) fn of(parts: &Parts) -> Self {
        let known = parts.extensions.get().cloned();
        known.unwrap_or_else(|| Self::new(ANONYMOUS, ""))
    }
}

/// Kept with the reply to its request. It holds nothing of a token.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is(ANONYMOUS) {
            true => f.write_str(ANONYMOUS.name),
            false => write!(f, "{} {}", self.kind.name, self.id),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
