//! One connection, and what the broker refuses on it. The broker never answers a request that it does not permit: the
//! refusal arrives apart from the answers, so each request waits for both.

use std::future::Future;
use std::sync::Arc;

use async_nats::connection::State;
use async_nats::{Client, ServerError, Subscriber};
use tokio::sync::watch;

use super::Nats;
use super::import::Import;
use crate::error::LogError;

#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) nats: Arc<Nats>,
    pub(super) refused: watch::Receiver<Vec<Refusal>>,
}

/// A subject that the broker refuses this user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// `publish` or `subscribe`, as in the account file.
    verb: &'static str,
    subject: String,
}

impl Link {
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(super) async fn subscribe(&self, subject: String) -> Result<Subscriber, LogError> {
        let subscribed = self.client.subscribe(subject).await;
        subscribed.map_err(|error| LogError::disconnected_by("no subscription", error))
    }

    /// The answer to a request at this subject (`users.>`: at any of these), or the broker's refusal to take it.
    pub(super) async fn answer<T>(
        &self,
        subject: &str,
        answer: impl Future<Output = Result<T, LogError>>,
    ) -> Result<T, LogError> {
        tokio::select! {
            biased;
            answer = answer => answer,
            refused = self.refused(subject) => Err(refused),
        }
    }

    /// Waits until something at this subject is refused.
    async fn refused(&self, subject: &str) -> LogError {
        let mut refused = self.refused.clone();
        loop {
            if let Err(refusal) = self.check(subject) {
                return refusal;
            }
            if refused.changed().await.is_err() {
                return std::future::pending().await; // the connection is gone, which the answer says as well
            }
        }
    }

    /// Whether nothing at this subject was refused so far, nor the subscription to any answers.
    pub(super) fn check(&self, subject: &str) -> Result<(), LogError> {
        let (refused, inbox) = (self.refused.borrow(), format!("{}.>", self.nats.inbox));
        for wanted in [subject, &inbox] {
            if let Some(refusal) = refused.iter().find(|one| one.is_at(wanted)) {
                return Err(self.missing_permission(refusal, wanted));
            }
        }
        Ok(())
    }

    fn missing_permission(&self, refusal: &Refusal, subject: &str) -> LogError {
        let user = &self.nats.user;
        let verb = refusal.verb;
        LogError::Misconfigured(format!(
            "the broker does not let {user} {verb} to {subject}: add \"{subject}\" to what it may {verb} in its account file (`{user} broker-config` prints the file), and restart the broker"
        ))
    }

    /// What is wrong when nothing responds at an imported subject. The import may be there and the stream's side at fault,
    /// so this may be no mistake of the configuration.
    pub(super) fn missing_import(&self, import: Import, stream: &str) -> String {
        let (subject, line) = (import.subject(stream), import.line(stream));
        let user = &self.nats.user;
        format!(
            "no responders for {subject}: add `{line}` to the imports in the account file of {user} (`{user} broker-config` prints the file) and restart the broker; if the line is there, JetStream is down or the stream was deleted"
        )
    }
}

impl Refusal {
    /// Reads `Permissions Violation for Publish to "users.x"`. The server's other errors are no refusals.
    pub(super) fn read(error: &ServerError) -> Option<Self> {
        let ServerError::Other(text) = error else {
            return None;
        };
        let (what, rest) = text.split_once(" to \"")?;
        let verb = match what.rsplit(' ').next()? {
            "Publish" => "publish",
            "Subscription" => "subscribe",
            _ => return None,
        };
        let subject = rest.split('"').next()?.to_owned();
        Some(Self { verb, subject })
    }

    fn is_at(&self, wanted: &str) -> bool {
        match wanted.strip_suffix('>') {
            Some(root) => self.subject.starts_with(root),
            None => self.subject == wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(verb: &'static str, subject: &str) -> Refusal {
        let subject = subject.to_owned();
        Refusal { verb, subject }
    }

    #[test]
    fn a_refusal_is_read_out_of_what_the_server_says() {
        let read = |text: &str| Refusal::read(&ServerError::Other(text.to_owned()));
        assert_eq!(
            read(r#"Permissions Violation for Publish to "users.x""#),
            Some(refusal("publish", "users.x"))
        );
        assert_eq!(
            read(r#"Permissions Violation for Subscription to "live.users.>" using queue "q""#),
            Some(refusal("subscribe", "live.users.>"))
        );
        assert_eq!(read("maximum subscriptions exceeded"), None);
        assert_eq!(Refusal::read(&ServerError::AuthorizationViolation), None);
    }

    #[test]
    fn a_refusal_counts_for_its_subject_and_for_the_wildcard_above_it() {
        let refusal = refusal("publish", "users.k7.created");
        assert!(refusal.is_at("users.k7.created") && refusal.is_at("users.>"));
        assert!(!refusal.is_at("users.k7") && !refusal.is_at("orders.>"));
    }
}
