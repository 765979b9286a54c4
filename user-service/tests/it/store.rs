//! The statements, and what the schema refuses.

use event_schema::{UserEvent, UserId};
use relay::WriteError;
use user_service::domain::{Change, OwnEvent, User};
use user_service::store::{self, StoreError};

use crate::world::World;

#[tokio::test]
async fn a_user_is_found_as_the_events_made_it() {
    let world = World::start().await;
    let id = UserId::new();
    world.apply(created(id, "Ada@Example.org")).await.unwrap();
    let user = world.user(id).await.unwrap();
    let expected = User {
        id,
        name: "Ада".parse().unwrap(),
        email: "Ada@Example.org".parse().unwrap(),
        version: user.version,
    };
    assert_eq!((user.version.get(), &user), (1, &expected));
    let change = Change {
        name: Some("Ada".parse().unwrap()),
        email: Some("king@example.org".parse().unwrap()),
    };
    for event in user.change(change.clone()) {
        world.apply(event).await.unwrap();
    }
    let user = world.user(id).await.unwrap();
    assert_eq!(user.version.get(), 3);
    assert_eq!(
        (Some(&user.name), Some(&user.email)),
        (change.name.as_ref(), change.email.as_ref())
    );
    world.apply(user.delete()).await.unwrap();
    assert_eq!(world.user(id).await, None);
}

#[tokio::test]
async fn the_schema_tells_a_taken_address_from_any_other_refusal() {
    let world = World::start().await;
    let ada = UserId::new();
    world.apply(created(ada, "ada@example.org")).await.unwrap();
    let same_address = world.apply(created(UserId::new(), "ADA@example.org")).await;
    assert!(
        matches!(same_address, Err(StoreError::EmailTaken)),
        "{same_address:?}"
    );
    let same_id = world.apply(created(ada, "other@example.org")).await;
    assert!(
        matches!(same_id, Err(StoreError::Database(_))),
        "{same_id:?}"
    );
    assert_eq!(world.rows().await, 1);
}

#[tokio::test]
async fn an_event_that_does_not_follow_what_is_there_changes_nothing() {
    let world = World::start().await;
    let ada = UserId::new();
    world.apply(created(ada, "ada@example.org")).await.unwrap();
    let user = world.user(ada).await.unwrap();
    let stranger = User {
        id: UserId::new(),
        ..user.clone()
    };
    let later = User {
        version: user.version.next(),
        ..user.clone()
    };
    for from in [stranger, later] {
        let change = Change {
            name: Some("Ada".parse().unwrap()),
            email: Some("king@example.org".parse().unwrap()),
        };
        for event in from.change(change).into_iter().chain([from.delete()]) {
            let refused = world.apply(event).await;
            assert!(
                matches!(refused, Err(StoreError::OutOfOrder)),
                "{refused:?}"
            );
        }
    }
    assert_eq!(world.user(ada).await, Some(user));
}

#[tokio::test]
async fn an_address_that_is_missing_is_not_made_up() {
    let world = World::start().await;
    let bare = OwnEvent {
        email: None,
        ..created(UserId::new(), "ada@example.org")
    };
    let refused = world.apply(bare).await;
    assert!(matches!(refused, Err(StoreError::NoEmail)), "{refused:?}");
    assert_eq!(world.rows().await, 0);
}

impl World {
    async fn apply(&self, event: OwnEvent) -> Result<(), StoreError> {
        let write = self.db.write(move |tx| store::apply(tx, &event));
        write.await.map_err(|error| match error {
            WriteError::Work(refused) => refused,
            other => panic!("{other}"),
        })
    }

    async fn user(&self, id: UserId) -> Option<User> {
        let read = self.db.read(move |rows| store::find(rows, id));
        read.await.unwrap()
    }
}

fn created(id: UserId, email: &str) -> OwnEvent {
    let created = User::register(id, "Ада".parse().unwrap(), email.parse().unwrap());
    assert!(matches!(created.event, UserEvent::Created(_)));
    created
}
