//! What a user is and how it changes. Pure: a user and a change go in, events come out; `store` applies them.

mod email;
mod name;

use event_schema::{
    UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserId, UserRenamed, Version,
};

pub use email::{Email, InvalidEmail};
pub use name::{InvalidName, Name};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub name: Name,
    pub email: Email,
    pub version: Version,
}

/// The fields to change; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub name: Option<Name>,
    pub email: Option<Email>,
}

/// What happened to a user: the public event, and what only this service may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEvent {
    pub event: UserEvent,
    /// The address, where the event sets one. Other services learn only that it changed.
    pub email: Option<Email>,
}

impl User {
    pub fn register(user_id: UserId, name: Name, email: Email) -> OwnEvent {
        let created = UserCreated {
            user_id,
            name: name.as_ref().to_owned(),
            version: Version::FIRST,
        };
        OwnEvent {
            event: UserEvent::Created(created),
            email: Some(email),
        }
    }

    /// One event for each field that differs, each with its own version. No difference, no event.
    pub fn change(&self, Change { name, email }: Change) -> Vec<OwnEvent> {
        let (user_id, mut version) = (self.id, self.version);
        let mut events = Vec::new();
        if let Some(name) = name.filter(|name| *name != self.name) {
            version = version.next();
            let name = name.as_ref().to_owned();
            let event = UserEvent::Renamed(UserRenamed {
                user_id,
                name,
                version,
            });
            events.push(event.into());
        }
        if let Some(email) = email.filter(|email| *email != self.email) {
            version = version.next();
            let event = UserEvent::EmailChanged(UserEmailChanged { user_id, version });
            events.push(OwnEvent {
                event,
                email: Some(email),
            });
        }
        events
    }

    /// The deletion is the last change, so it has a version, too.
    pub fn delete(&self) -> OwnEvent {
        let (user_id, version) = (self.id, self.version.next());
        UserEvent::Deleted(UserDeleted { user_id, version }).into()
    }
}

impl From<UserEvent> for OwnEvent {
    fn from(event: UserEvent) -> Self {
        Self { event, email: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn email(text: &str) -> Email {
        text.parse().unwrap()
    }

    fn ada() -> User {
        User {
            id: UserId::new(),
            name: name("Ada"),
            email: email("ada@example.org"),
            version: Version::FIRST,
        }
    }

    fn versions(events: &[OwnEvent]) -> Vec<u64> {
        let version = |own: &OwnEvent| own.event.version().get();
        events.iter().map(version).collect()
    }

    #[test]
    fn a_registration_is_version_one_and_states_the_name() {
        let id = UserId::new();
        let own = User::register(id, name("Ada"), email("ada@example.org"));
        let created = UserCreated {
            user_id: id,
            name: "Ada".to_owned(),
            version: Version::FIRST,
        };
        assert_eq!(own.event, UserEvent::Created(created));
        assert_eq!(own.email, Some(email("ada@example.org")));
    }

    #[test]
    fn two_differences_are_two_events_with_versions_in_a_row() {
        let change = Change {
            name: Some(name("Ada King")),
            email: Some(email("king@example.org")),
        };
        let events = ada().change(change);
        assert_eq!(versions(&events), [2, 3]);
        let [renamed, email_changed] = &events[..] else {
            panic!("{events:?}");
        };
        assert!(matches!(renamed.event, UserEvent::Renamed(_)));
        assert_eq!(renamed.email, None);
        assert!(matches!(email_changed.event, UserEvent::EmailChanged(_)));
        assert_eq!(email_changed.email, Some(email("king@example.org")));
    }

    #[test]
    fn a_change_to_the_same_values_is_no_change() {
        let same = Change {
            name: Some(name("Ada")),
            email: Some(email("ada@example.org")),
        };
        assert_eq!(ada().change(same), []);
        assert_eq!(ada().change(Change::default()), []);
    }

    #[test]
    fn another_case_of_the_address_is_a_change() {
        let change = Change {
            email: Some(email("Ada@example.org")),
            ..Change::default()
        };
        assert_eq!(versions(&ada().change(change)), [2]);
    }

    #[test]
    fn the_deletion_counts_as_a_change() {
        assert_eq!(versions(&[ada().delete()]), [2]);
    }
}
