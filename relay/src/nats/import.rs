//! What a reader's account imports from a stream's account, and the lines of the account file that do it.

use super::LIVE;

/// One of the three subjects that every stream's account exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import {
    /// Where the stream ends.
    Info,
    /// Past events, in batches.
    DirectGet,
    /// Events as they are stored.
    Live,
}

impl Import {
    /// What a reader imports for each stream that it follows.
    pub const ALL: [Self; 3] = [Self::Info, Self::DirectGet, Self::Live];

    /// The subject in the reader's own account: `from_users.API.STREAM.INFO.USERS`, `live.users.>`.
    pub fn subject(self, stream: &str) -> String {
        match self.api() {
            Some(api) => format!("{}.{api}.{stream}", api_prefix(stream)),
            None => format!("{LIVE}{}.>", stream.to_lowercase()),
        }
    }

    /// The line among the account file's imports.
    pub fn line(self, stream: &str) -> String {
        let to = self.subject(stream);
        match self.api() {
            Some(api) => format!(
                r#"{{ service: {{ account: {stream}, subject: "$JS.API.{api}.{stream}" }}, to: "{to}" }}"#
            ),
            None => format!(r#"{{ stream: {{ account: {stream}, subject: "{to}" }} }}"#),
        }
    }

    fn api(self) -> Option<&'static str> {
        match self {
            Self::Info => Some("STREAM.INFO"),
            Self::DirectGet => Some("DIRECT.GET"),
            Self::Live => None,
        }
    }
}

/// What a reader calls the JetStream API of the stream's account.
pub(super) fn api_prefix(stream: &str) -> String {
    format!("from_{}.API", stream.to_lowercase())
}
