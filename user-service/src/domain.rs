//! What a user is and how it changes. Pure: state and wish go in, new state and event come out.

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

impl User {
    pub fn register(id: UserId, name: Name, email: Email) -> (Self, UserEvent) {
        let version = Version::FIRST;
        let event = UserEvent::Created(UserCreated {
            user_id: id,
            name: name.to_string(),
            version,
        });
        let user = Self {
            id,
            name,
            email,
            version,
        };
        (user, event)
    }

    /// Each difference is a change of its own, with its own version and event. No difference, no event.
    #[must_use]
    pub fn change(self, Change { name, email }: Change) -> (Self, Vec<UserEvent>) {
        let (user, renamed) = self.rename(name);
        let (user, email_changed) = user.change_email(email);
        (user, renamed.into_iter().chain(email_changed).collect())
    }

    /// The deletion is the last change, so it has a version too.
    pub fn delete(self) -> UserEvent {
        UserEvent::Deleted(UserDeleted {
            user_id: self.id,
            version: self.version.next(),
        })
    }

    fn rename(self, name: Option<Name>) -> (Self, Option<UserEvent>) {
        let Some(name) = name.filter(|name| *name != self.name) else {
            return (self, None);
        };
        let version = self.version.next();
        let event = UserEvent::Renamed(UserRenamed {
            user_id: self.id,
            name: name.to_string(),
            version,
        });
        let user = Self {
            name,
            version,
            ..self
        };
        (user, Some(event))
    }

    /// The event tells that there is a new address and not which one: addresses stay with their owner.
    fn change_email(self, email: Option<Email>) -> (Self, Option<UserEvent>) {
        let Some(email) = email.filter(|email| *email != self.email) else {
            return (self, None);
        };
        let version = self.version.next();
        let event = UserEvent::EmailChanged(UserEmailChanged {
            user_id: self.id,
            version,
        });
        let user = Self {
            email,
            version,
            ..self
        };
        (user, Some(event))
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
        User::register(UserId::new(), name("Ada"), email("ada@example.org")).0
    }

    fn versions(events: &[UserEvent]) -> Vec<u64> {
        events.iter().map(|event| event.version().get()).collect()
    }

    #[test]
    fn a_registration_is_version_one_and_tells_the_name() {
        let (user, event) = User::register(UserId::new(), name("Ada"), email("ada@example.org"));
        assert_eq!(user.version, Version::FIRST);
        let UserEvent::Created(created) = event else {
            panic!("{event:?}");
        };
        assert_eq!((created.user_id, created.version), (user.id, user.version));
        assert_eq!(created.name, "Ada");
    }

    #[test]
    fn two_differences_are_two_events_with_versions_in_a_row() {
        let change = Change {
            name: Some(name("Ada King")),
            email: Some(email("king@example.org")),
        };
        let (user, events) = ada().change(change);
        assert_eq!(user.version.get(), 3);
        assert_eq!(versions(&events), [2, 3]);
        assert!(matches!(
            events[..],
            [UserEvent::Renamed(_), UserEvent::EmailChanged(_)]
        ));
    }

    #[test]
    fn what_is_wished_and_already_so_is_no_change() {
        let same = Change {
            name: Some(name("Ada")),
            email: Some(email("ada@example.org")),
        };
        assert_eq!(ada().change(same).1, []);
        assert_eq!(ada().change(Change::default()).1, []);
    }

    #[test]
    fn another_case_of_the_address_is_a_change() {
        let change = Change {
            email: Some(email("Ada@example.org")),
            ..Change::default()
        };
        assert_eq!(versions(&ada().change(change).1), [2]);
    }

    #[test]
    fn the_deletion_counts_as_a_change() {
        assert_eq!(ada().delete().version().get(), 2);
    }
}
