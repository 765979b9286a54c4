//! The statements, and what the schema refuses.

use event_schema::{UserEvent, UserId};
use relay::rusqlite::types::Value;
use relay::{Database, EmitError, Keys, Options, WriteError, rusqlite};
use service_kit::testing::rows;
use user_service::domain::{Change, OwnEvent, User};
use user_service::store::{self, StoreError};
use user_service::{MIGRATIONS, events};

use crate::world::{World, database};

#[tokio::test]
async fn a_user_is_as_its_events_say() {
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
async fn an_event_out_of_order_changes_nothing() {
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
async fn an_event_without_its_address_is_refused() {
    let world = World::start().await;
    let bare = OwnEvent {
        email: None,
        ..created(UserId::new(), "ada@example.org")
    };
    let refused = world.apply(bare).await;
    assert!(matches!(refused, Err(StoreError::NoEmail)), "{refused:?}");
    assert_eq!(world.rows().await, 0);
}

/// An id drawn at that hour; ids sort by their time.
fn at(hour: u8) -> UserId {
    let id = format!("0191d1a0-{hour:04}-7000-8000-000000000000");
    id.parse().unwrap()
}

#[tokio::test]
async fn the_list_is_in_the_order_of_the_log_even_if_the_clock_goes_back() {
    let world = World::start().await;
    for hour in [5, 9, 2, 7] {
        let email = format!("{hour}@example.org");
        world.apply(created(at(hour), &email)).await.unwrap();
    }
    let (mut listed, mut page) = (Vec::new(), String::new());
    loop {
        let shown = world.api.get(&format!("/users?limit=2{page}")).await.json();
        let items = shown["items"].as_array().unwrap();
        listed.extend(
            items
                .iter()
                .map(|user| user["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = shown["next_cursor"].as_str() else {
            break;
        };
        if page.is_empty() {
            // Meanwhile a user registers at an earlier hour, and the last user of the page is deleted.
            world.apply(created(at(1), "1@example.org")).await.unwrap();
            let gone = world.user(at(9)).await.unwrap();
            world.apply(gone.delete()).await.unwrap();
        }
        page = format!("&cursor={cursor}");
    }
    assert_eq!(listed, [5, 9, 2, 7, 1].map(|hour| at(hour).to_string()));
    let older = format!("/users?cursor=c1.{}", at(5));
    assert_eq!(world.api.get(&older).await.problem(), "400 invalid_query");
}

/// As an older file may hold them.
#[tokio::test]
async fn users_who_share_a_mailbox_may_respell_their_address_and_no_third_user_gets_it() {
    let world = World::start().await;
    for (hour, email) in [
        (1, "bea@münchen.example"),
        (2, "bea@MÜNCHEN.example"),
        (3, "cid@example.org"),
    ] {
        world.apply(created(at(hour), email)).await.unwrap();
    }
    let becomes = async |hour, email: &str| {
        let path = format!("/users/{}", at(hour));
        let body = format!(r#"{{"email": "{email}"}}"#);
        world.api.json("PATCH", &path, body).await
    };
    assert_eq!(becomes(1, "Bea@münchen.example").await.status, 200);
    let ascii = "bea@xn--mnchen-3ya.example";
    assert_eq!(becomes(2, ascii).await.status, 200);
    for (hour, email) in [(3, "BEA@münchen.example"), (1, ascii)] {
        assert_eq!(becomes(hour, email).await.problem(), "409 email_taken");
    }
    let new = world.register("Bea", "Bea@MÜNCHEN.example").await;
    assert_eq!(new.problem(), "409 email_taken");
    assert_eq!(becomes(1, "dora@example.org").await.status, 200);
    let back = becomes(1, "bea@münchen.example").await;
    assert_eq!(back.problem(), "409 email_taken", "it was given away");
}

/// The tables before users had the sequence of their registration.
static OLDER: [&str; 2] = [MIGRATIONS[0], MIGRATIONS[1]];

#[tokio::test]
async fn an_older_file_lists_users_without_events_first_and_then_the_others_in_the_order_of_their_events()
 {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::open_or_create(&folder.path().join("users.db.keys")).unwrap();
    let options = Options::new("user-service", "USERS", &OLDER).keys(keys);
    let old = Database::open(folder.path().join("users.db"), options)
        .await
        .unwrap();
    let write = old.write(|tx| {
        for hour in [8, 5, 9, 2, 3] {
            let email = format!("{hour}@example.org");
            tx.execute(
                "insert into users (id, name, email, version) values (?1, 'Ada', ?2, 1)",
                (at(hour).to_string(), &email),
            )?;
            let OwnEvent { event, .. } = created(at(hour), &email);
            let emitted = tx.emit(&event);
            emitted.expect("it is emitted");
        }
        tx.execute("delete from relay_outbox where seq in (1, 5)", [])
    });
    let written: Result<usize, relay::WriteError<rusqlite::Error>> = write.await;
    written.unwrap();
    old.close().await;
    let now = database(folder.path()).await;
    let kept = rows(&now, "select id, seq from users order by seq").await;
    let row = |hour, seq: i64| vec![Value::from(at(hour).to_string()), seq.into()];
    assert_eq!(
        kept,
        [row(3, -1), row(8, 0), row(5, 2), row(9, 3), row(2, 4)]
    );
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum MakeError {
    Emit(#[from] EmitError),
    Store(#[from] StoreError),
}

impl World {
    async fn apply(&self, event: OwnEvent) -> Result<(), StoreError> {
        let write = self.db.write(move |tx| events::make(tx, &event));
        write.await.map_err(|error| match error {
            WriteError::Work(MakeError::Store(refused)) => refused,
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
