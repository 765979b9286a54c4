//! Who may do what: the principal that sends a request, the credentials that identify it, and the gate before every route.

pub mod file;
pub(crate) mod gate;
pub(crate) mod limits;
mod principal;
pub(crate) mod token;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderMap, HeaderValue};
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::http::{Problem, codes};
use token::{Sent, sent};

pub(crate) use gate::{Gate, Guards, check};
pub use limits::Limits;
pub use principal::{ANONYMOUS, Kind, OPERATOR, Principal, SERVICE};
pub use token::{InvalidHash, Token, TokenHash};

/// Tokens in a service's own database, in addition to those of the access file.
pub trait TokenStore: Send + Sync {
    /// Of the callers that have them.
    fn kind(&self) -> &'static Kind;

    /// It is asked about every token that the access file does not list, nonsense included, before anything is counted. So
    /// an unknown token must cost next to nothing, and a known one an indexed read. The answer to an expired token is
    /// `None`; a revoked one may be refused with a code of its own.
    fn find(&self, token: TokenHash) -> BoxFuture<'static, Result<Option<Principal>, Problem>>;
}

/// Every credential that a service accepts, and how often each caller may send a request. Clones share it.
#[derive(Clone)]
pub struct Access {
    file: Option<Arc<file::Watched>>,
    /// What other services send, from the environment. Without it, what to set.
    read_token: Result<TokenHash, String>,
    store: Option<Arc<dyn TokenStore>>,
    limits: Limits,
}

/// The name of a service that sends the read token.
const READER: &str = "reader";

impl Access {
    /// No caller gets in.
    pub fn closed() -> Self {
        Self {
            file: None,
            read_token: Err("this service was given no token of its own".to_owned()),
            store: None,
            limits: Limits::default(),
        }
    }

    /// The callers that the access file lists. It is read again when it changes. A damaged file is refused. Without a file
    /// no caller gets in until there is one.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line is no entry; the text names the line.
    pub fn from_file(path: PathBuf) -> anyhow::Result<Self> {
        let file = Some(Arc::new(file::Watched::open(path)?));
        Ok(Self {
            file,
            ..Self::closed()
        })
    }

    /// And every service that sends the read token. Without a token, the reason.
    #[must_use]
    pub fn read_token(mut self, token: Result<Token, String>) -> Self {
        self.read_token = token.map(|token| token.hash());
        self
    }

    /// And the callers with a token in the service's own database.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn TokenStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets how many requests callers may send.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The kinds of callers that can have a token.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &'static Kind> {
        let own = self.store.as_ref().map(|store| store.kind());
        [OPERATOR, SERVICE].into_iter().chain(own)
    }

    /// Who sends these headers. A request with an unknown token is a mistake and refused: it is not taken for anonymous.
    async fn caller(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let token = match sent(headers) {
            Sent::Nothing => return Ok(Principal::new(ANONYMOUS, "")),
            Sent::Token(token) => TokenHash::of(token),
            Sent::Malformed => {
                return Err(unauthorized("send one `Authorization: Bearer` and a token"));
            }
        };
        let found = match (self.listed(&token), &self.store) {
            (None, Some(store)) => store.find(token).await?,
            (listed, _) => listed,
        };
        found.ok_or_else(|| unauthorized("this token is unknown here, or it has expired"))
    }

    fn listed(&self, token: &TokenHash) -> Option<Principal> {
        let file = self.file.as_ref();
        let listed = file.and_then(|file| file.listed().find(token, Timestamp::now()));
        let reads = self.read_token.as_ref() == Ok(token);
        listed.or_else(|| reads.then(|| Principal::new(SERVICE, READER)))
    }

    /// What to set, if no other service can get in.
    fn shut_to_services(&self) -> Option<&str> {
        let cure = self.read_token.as_ref().err()?;
        let file = self.file.as_ref();
        let listed = file.is_some_and(|file| file.listed().has(SERVICE));
        (!listed).then_some(cure)
    }
}

/// The refusal of an unknown caller, with the header that names the expected credentials.
fn unauthorized(detail: &str) -> Problem {
    let bearer = HeaderValue::from_static("Bearer");
    Problem::new(codes::UNAUTHORIZED, detail).with_header(WWW_AUTHENTICATE, bearer)
}
