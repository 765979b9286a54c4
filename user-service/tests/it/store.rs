//! The statements, and what the schema refuses.

use event_schema::UserId;
use relay::WriteError;
use user_service::domain::User;
use user_service::store::{self, StoreError};

use crate::world::World;

#[tokio::test]
async fn a_user_is_found_as_it_was_stored() {
    let world = World::start().await;
    let user = user("Ада", "Ada@Example.org");
    let stored = user.clone();
    world
        .db
        .write(move |tx| store::insert(tx, &stored))
        .await
        .unwrap();
    let id = user.id;
    let found = world
        .db
        .read(move |rows| store::find(rows, id))
        .await
        .unwrap();
    assert_eq!(found, Some(user));
}

#[tokio::test]
async fn the_schema_tells_a_taken_address_from_any_other_refusal() {
    let world = World::start().await;
    let ada = user("Ada", "ada@example.org");
    let same_address = user("Eve", "ADA@example.org");
    let same_id = User {
        email: "other@example.org".parse().unwrap(),
        ..ada.clone()
    };
    world
        .db
        .write(move |tx| store::insert(tx, &ada))
        .await
        .unwrap();
    let taken = world
        .db
        .write(move |tx| store::insert(tx, &same_address))
        .await;
    assert!(
        matches!(taken, Err(WriteError::Work(StoreError::EmailTaken))),
        "{taken:?}"
    );
    let twice = world.db.write(move |tx| store::insert(tx, &same_id)).await;
    assert!(
        matches!(twice, Err(WriteError::Work(StoreError::Database(_)))),
        "{twice:?}"
    );
    assert_eq!(world.rows().await, 1);
}

fn user(name: &str, email: &str) -> User {
    User::register(UserId::new(), name.parse().unwrap(), email.parse().unwrap()).0
}
