//! Who may do what: the one who calls, the credentials that say who it is, and the gate before every route.

pub(crate) mod bearer;
mod callers;
mod file;
mod gate;
pub(crate) mod limits;
mod token;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::HeaderMap;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::auth::bearer::{Sent, Token, sent};
use crate::auth::limits::Limits;
use crate::http::{Problem, codes};

pub use callers::{Device, Operator, OtherService, Reader};
pub(crate) use file::{Entry, Kind, Name, change, look};
pub(crate) use gate::{Gate, Guards, check};
pub use token::{InvalidHash, NewToken, TokenHash};

/// Who a request comes from. A handler that takes this instead of one of the extractors decides for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// No token was sent.
    Anonymous,
    /// A person, by the name in the access file.
    Operator(String),
    /// Another service, by the name in the access file; `reader` is whoever knows the read token.
    Service(String),
    /// A driver's device. Its tokens live in a service's own database.
    Device {
        device_id: String,
        driver_id: String,
    },
}

/// Tokens that live in a service's database, beside those of the access file. It is asked about every token that the file
/// does not know, also about nonsense and before anything is counted: a token that it does not know must cost it next to
/// nothing, and one that it knows an indexed read. A token that has expired is answered
/// `None`; one that was revoked may be refused with a code of its own.
pub trait Enrolled: Send + Sync {
    fn find(&self, token_hash: TokenHash) -> BoxFuture<'static, Result<Option<Caller>, Problem>>;
}

/// Every credential that a service knows, and how often each caller may come. Clones share it.
#[derive(Clone)]
pub struct Access {
    file: Option<Arc<file::Watched>>,
    /// What other services send, from the environment; without one, what to set.
    reader: Result<TokenHash, String>,
    enrolled: Option<Arc<dyn Enrolled>>,
    pub(crate) limits: Limits,
}

/// The name under which the read token's owner goes.
const READER: &str = "reader";

impl Access {
    /// Nobody gets in.
    pub fn nobody() -> Self {
        Self {
            file: None,
            reader: Err("this service was given no token of its own".to_owned()),
            enrolled: None,
            limits: Limits::default(),
        }
    }

    /// Whoever the access file names. It is read again when it changes. A damaged file is refused; without one nobody gets
    /// in until there is one.
    pub fn from_file(path: PathBuf) -> anyhow::Result<Self> {
        let file = Some(Arc::new(file::Watched::open(path)?));
        Ok(Self {
            file,
            ..Self::nobody()
        })
    }

    /// And whoever sends the read token, as another service. Without one, why there is none.
    #[must_use]
    pub fn reader(mut self, token: Result<Token, String>) -> Self {
        self.reader = token.map(|token| TokenHash::of(token.reveal()));
        self
    }

    /// And whoever the service's own database knows.
    #[must_use]
    pub fn enrolled(mut self, enrolled: Option<Arc<dyn Enrolled>>) -> Self {
        self.enrolled = enrolled;
        self
    }

    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Who sends these headers. A token that nobody knows is not a stranger who may look around: it is a mistake, and told.
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let token = match sent(headers) {
            Sent::Nothing => return Ok(Caller::Anonymous),
            Sent::Token(token) => TokenHash::of(token),
            Sent::Nonsense => {
                return Err(unauthorized("send one `Authorization: Bearer` and a token"));
            }
        };
        let found = match self.listed(&token) {
            Some(caller) => Some(caller),
            None => self.asked(token).await?,
        };
        found.ok_or_else(|| unauthorized("nobody here knows this token, or it has expired"))
    }

    fn listed(&self, token: &TokenHash) -> Option<Caller> {
        let reader = self.reader.as_ref().is_ok_and(|known| known == token);
        let file = self.file.as_ref();
        let listed = file.and_then(|file| file.entries().find(token, Timestamp::now()));
        listed.or_else(|| reader.then(|| Caller::Service(READER.to_owned())))
    }

    async fn asked(&self, token: TokenHash) -> Result<Option<Caller>, Problem> {
        match &self.enrolled {
            Some(enrolled) => enrolled.find(token).await,
            None => Ok(None),
        }
    }

    /// Why no other service can get in, if none can.
    fn shut_to_services(&self) -> Option<&str> {
        let cure = self.reader.as_ref().err()?;
        let file = self.file.as_ref();
        let known = file.is_some_and(|file| file.entries().knows(Kind::Service));
        (!known).then_some(cure)
    }
}

/// A refusal to who is not known, with the header that says what is expected.
fn unauthorized(detail: &str) -> Problem {
    Problem::new(codes::UNAUTHORIZED, detail).with_header(
        axum::http::header::WWW_AUTHENTICATE,
        axum::http::HeaderValue::from_static("Bearer"),
    )
}

/// A refusal to who is known, and is somebody else than the route is for.
fn forbidden(whom: &str) -> Problem {
    Problem::new(codes::FORBIDDEN, format!("this is for {whom}"))
}
