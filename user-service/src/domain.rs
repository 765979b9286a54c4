//! What a user is and how it changes. Pure: state and wish go in, events come out; `store` applies them.

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

/// What is wished to be different; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub name: Option<Name>,
    pub email: Option<Email>,
}

/// What happened to a user: the event that everybody reads, and beside it what stays with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEvent {
    pub event: UserEvent,
    /// The address, where the event sets one. Others learn that there is a new one and not which.
    pub email: Option<Email>,
}

impl User {
    pub fn register(id: UserId, name: Name, email: Email) -> OwnEvent {
        let created = UserCreated {
            user_id: id,
            name: name.to_string(),
            version: Version::FIRST,
        };
        OwnEvent {
            event: UserEvent::Created(created),
            email: Some(email),
        }
    }

    /// Each difference is a change of its own, with its own version and event. No difference, no event.
    pub fn change(&self, Change { name, email }: Change) -> Vec<OwnEvent> {
        let name = name.filter(|name| *name != self.name);
        let email = email.filter(|email| *email != self.email);
        let mut version = self.version;
        let mut next = || {
            version = version.next();
            version
        };
        let renamed = name.map(|name| self.rename(&name, next()));
        let email_changed = email.map(|email| self.change_email(email, next()));
        renamed.into_iter().chain(email_changed).collect()
    }

    /// The deletion is the last change, so it has a version too.
    pub fn delete(&self) -> OwnEvent {
        OwnEvent::public(UserEvent::Deleted(UserDeleted {
            user_id: self.id,
            version: self.version.next(),
        }))
    }

    fn rename(&self, name: &Name, version: Version) -> OwnEvent {
        OwnEvent::public(UserEvent::Renamed(UserRenamed {
            user_id: self.id,
            name: name.to_string(),
            version,
        }))
    }

    fn change_email(&self, email: Email, version: Version) -> OwnEvent {
        let user_id = self.id;
        OwnEvent {
            event: UserEvent::EmailChanged(UserEmailChanged { user_id, version }),
            email: Some(email),
        }
    }
}

impl OwnEvent {
    fn public(event: UserEvent) -> Self {
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
    fn a_registration_is_version_one_and_tells_the_name() {
        let id = UserId::new();
        let told = User::register(id, name("Ada"), email("ada@example.org"));
        let created = UserCreated {
            user_id: id,
            name: "Ada".to_owned(),
            version: Version::FIRST,
        };
        assert_eq!(told.event, UserEvent::Created(created));
        assert_eq!(told.email, Some(email("ada@example.org")));
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
    fn what_is_wished_and_already_so_is_no_change() {
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
