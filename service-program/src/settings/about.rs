//! What a service is called, and the names that follow from it.

/// A service's own declaration of itself.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// Also its user at the broker: `user-service`.
    pub(crate) name: &'static str,
    /// Its port without `--listen`.
    pub(crate) port: u16,
    /// The stream it alone writes: `USERS`.
    pub(crate) stream: String,
    /// What it is for, in a sentence or two.
    pub(crate) purpose: &'static str,
    pub(crate) version: &'static str,
}

impl About {
    pub(crate) fn new(name: &'static str, port: u16) -> Self {
        let short = name.strip_suffix("-service").unwrap_or(name);
        Self {
            name,
            port,
            stream: short.replace('-', "_").to_uppercase(),
            purpose: "",
            version: "unknown",
        }
    }

    pub(crate) fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn database(&self) -> String {
        format!("{}.db", self.name)
    }

    /// The prefix of the only reply subjects its user may subscribe to: `_INBOX_users`.
    pub(crate) fn inbox(&self) -> String {
        format!("_INBOX_{}", self.stream.to_lowercase())
    }

    pub(crate) fn password_variable(&self) -> String {
        variable(&self.stream, "PASSWORD")
    }

    pub(crate) fn read_token_variable(&self) -> String {
        variable(&self.stream, "READ_TOKEN")
    }

    pub(crate) fn keys_variable(&self) -> String {
        variable(&self.stream, "KEYS")
    }
}

/// `FREEHOLD_USERS_PASSWORD`: an environment variable about a stream and its owner.
pub(super) fn variable(stream: &str, what: &str) -> String {
    format!("FREEHOLD_{stream}_{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_follows_from_the_name() {
        for (name, stream) in [
            ("payments-service", "PAYMENTS"),
            ("parcel-labels-service", "PARCEL_LABELS"),
            ("reports", "REPORTS"),
        ] {
            assert_eq!(About::new(name, 7105).stream, stream);
        }
    }
}
