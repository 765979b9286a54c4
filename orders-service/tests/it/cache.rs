//! The projection of stream USERS: what each event does to `user_cache`.

use std::num::NonZeroU64;

use crate::world::{FakeUsers, World};
use event_schema::{
    UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserId, UserRenamed, Version,
};

#[tokio::test]
async fn the_cache_follows_a_user_from_registration_to_deletion() {
    let world = World::start(FakeUsers::Gone).await;
    let user = UserId::new();
    for (event, expected) in [
        (created(user, "Ada", 1), Some(("Ada", 1))),
        (renamed(user, "Ada King", 2), Some(("Ada King", 2))),
        (email_changed(user, 3), Some(("Ada King", 3))),
        (deleted(user, 4), None),
    ] {
        world.apply(event).await.unwrap();
        let expected = expected.map(|(name, version)| (name.to_owned(), version));
        assert_eq!(world.cached(user).await, expected);
    }
}

#[tokio::test]
async fn old_news_changes_nothing() {
    let world = World::start(FakeUsers::Gone).await;
    let user = UserId::new();
    world.apply(renamed(user, "New", 5)).await.unwrap();
    for old in [
        created(user, "Old", 1),
        renamed(user, "Old", 4),
        renamed(user, "Same version", 5),
        email_changed(user, 4),
        deleted(user, 4),
    ] {
        world.apply(old).await.unwrap();
        assert_eq!(world.cached(user).await, Some(("New".to_owned(), 5)));
    }
}

#[tokio::test]
async fn one_user_is_not_another() {
    let world = World::start(FakeUsers::Gone).await;
    let (ada, eve) = (UserId::new(), UserId::new());
    world.apply(created(ada, "Ada", 1)).await.unwrap();
    world.apply(created(eve, "Eve \u{1f680}", 1)).await.unwrap();
    world.apply(deleted(ada, 2)).await.unwrap();
    assert_eq!(world.cached(ada).await, None);
    assert_eq!(
        world.cached(eve).await,
        Some(("Eve \u{1f680}".to_owned(), 1))
    );
}

#[tokio::test]
async fn news_of_an_unknown_users_address_or_deletion_is_nothing_to_remember() {
    let world = World::start(FakeUsers::Gone).await;
    world.apply(email_changed(UserId::new(), 2)).await.unwrap();
    world.apply(deleted(UserId::new(), 2)).await.unwrap();
    assert_eq!(world.cached_users().await, 0);
}

fn created(user_id: UserId, name: &str, count: u64) -> UserEvent {
    let (name, version) = (name.to_owned(), version(count));
    UserEvent::Created(UserCreated {
        user_id,
        name,
        version,
    })
}

fn renamed(user_id: UserId, name: &str, count: u64) -> UserEvent {
    let (name, version) = (name.to_owned(), version(count));
    UserEvent::Renamed(UserRenamed {
        user_id,
        name,
        version,
    })
}

fn email_changed(user_id: UserId, count: u64) -> UserEvent {
    let version = version(count);
    UserEvent::EmailChanged(UserEmailChanged { user_id, version })
}

fn deleted(user_id: UserId, count: u64) -> UserEvent {
    let version = version(count);
    UserEvent::Deleted(UserDeleted { user_id, version })
}

fn version(count: u64) -> Version {
    NonZeroU64::new(count).unwrap().into()
}
