//! Only its owner can store, use up or remove a sequence of a stream: nats.conf against every attack we could think of.
//!
//! A hostile orders-service, a hostile observer and, the other way round, a hostile user-service try the attempts of
//! `attempts`. After each one the victim's stream must be as it was: the same first, last and count, the same configuration,
//! and the next event of its owner must get exactly the next number, so nothing was still on its way in.

mod attempts;
mod configuration;
mod lab;
mod legitimate;

use freehold_tests::wire::{Outgoing, Wire};
use serde_json::{Value, json};

use crate::owner;
use crate::owner::User;
use attempts::{Attempt, Expect};
use lab::Lab;

#[tokio::test]
async fn no_attempt_of_orders_or_observer_moves_a_number_of_users() {
    let mut lab = Lab::start().await;
    let table = [
        attempts::of_orders(),
        attempts::of_orders_with_its_stream(),
        attempts::of_observer(),
        attempts::of_both(),
    ]
    .concat();
    lab.run_all(&table).await;
    assert!(table.len() >= 200, "the table lost rows: {}", table.len());
}

#[tokio::test]
async fn no_attempt_of_users_or_observer_moves_a_number_of_orders() {
    let mut lab = Lab::start().await;
    lab.swap_victim();
    let table = [attempts::of_users(), attempts::of_observer_on_orders()].concat();
    lab.run_all(&table).await;
}

/// Permissions are the second layer. The first one, the account, suffices alone.
#[tokio::test]
async fn without_any_permissions_the_account_alone_protects_users() {
    let mut lab = Lab::with_config(lab::without_permissions_of("orders-service")).await;
    let any_end = |attempt: Attempt| Attempt {
        expect: Expect::Anything,
        ..attempt
    };
    let mut table: Vec<_> = attempts::of_orders()
        .into_iter()
        .chain(attempts::of_both())
        .collect();
    table.retain(|attempt| attempt.user == User::Orders);
    table = table.into_iter().map(any_end).collect();
    table.extend(attempts::of_orders_with_its_stream());
    table.extend(attempts::of_orders_without_permissions());
    lab.run_all(&table).await;
}

#[tokio::test]
async fn no_account_receives_messages_of_another() {
    let mut lab = Lab::start().await;
    for user in [User::Orders, User::Observer] {
        let mut wire = owner::connect(lab.broker(), user).await;
        for subject in attempts::FOREIGN_SUBJECTS {
            wire.subscribe(subject).await.expect("sent");
        }
        wire.flush().await.expect("the broker answers");
        lab.legitimate_traffic().await;
        // The broker hands a message to every listener before its publisher is acknowledged, so all have come by now.
        wire.flush().await.expect("the broker answers");
        assert_eq!(wire.messages, [], "{user:?} heard something");
        assert_eq!(
            wire.errors.len(),
            attempts::FOREIGN_SUBJECTS.len(),
            "{user:?}: {:?}",
            wire.errors
        );
        assert!(wire.errors.iter().all(|error| {
            error
                .to_lowercase()
                .contains("permissions violation for subscription")
        }));
    }
}

/// The check can fail: it detects an owner's event, and a sequence used up through a reply subject inside one account.
#[tokio::test]
async fn the_checker_sees_a_number_that_moves() {
    let mut lab = Lab::start().await;
    let before = lab.victim_state().await;
    lab.victim().publish("created").await;
    assert_ne!(lab.victim_state().await, before, "an event more");

    let before = lab.victim_state().await;
    let door = lab.victim().door("burned");
    let burn = Outgoing::to("$JS.API.STREAM.INFO.USERS").reply(&door);
    lab.victim().wire.publish(&burn).await.expect("sent");
    let complaint = lab
        .unmoved_since(&before)
        .await
        .expect_err("the answer was stored as an event");
    assert!(
        complaint.contains("last_seq") || complaint.contains("next event"),
        "{complaint}"
    );
}

/// Messages of the lab's reader in its own account reach its own connections only.
#[tokio::test]
async fn the_checker_sees_a_forged_live_copy() {
    let mut lab = Lab::start().await;
    let before = lab.victim_state().await;
    let mut forger = lab::connect_reader(lab.broker()).await;
    let forged = Outgoing::to("live.users.created").header("Nats-Sequence", "4711");
    forger.publish(&forged).await.expect("sent");
    forger.flush().await.expect("the broker answers");
    let complaint = lab.unmoved_since(&before).await;
    let complaint = complaint.expect_err("it was heard");
    assert!(complaint.contains("A FORGED LIVE COPY"), "{complaint}");
}

/// STREAM.INFO is for every reader, and shows the write subject.
#[tokio::test]
async fn a_reader_that_learns_the_write_token_cannot_write() {
    for config in [None, Some(lab::without_permissions_of("orders-service"))] {
        let is_free = config.is_some();
        let mut lab = match config {
            Some(config) => Lab::with_config(config).await,
            None => Lab::start().await,
        };
        let before = lab.victim_state().await;
        let mut thief = owner::connect(lab.broker(), User::Orders).await;
        let question = "from_users.API.STREAM.INFO.USERS";
        let info = thief.request_json(question, &Value::Null).await;
        let info = info.expect("it may ask");
        let taken = info["config"]["subjects"][0].as_str().expect("a subject");
        let stolen = taken.replace('>', "created");
        assert_eq!(stolen, lab.victim().door("created"));
        let refusal = thief.request(&stolen, b"{}").await.expect_err("not heard");
        let refusal = refusal.to_string().to_lowercase();
        let expected = match is_free {
            true => "no responders",
            false => "permissions violation for publish",
        };
        assert!(refusal.contains(expected), "{refusal}");
        lab.unmoved_since(&before).await.expect("unmoved");
    }
}

/// The limits of an account file protect the broker and its other accounts. They do not cover direct gets.
#[tokio::test]
async fn the_resources_of_an_account_are_limited() {
    let free = lab::without_permissions_of("orders-service");
    let lab = Lab::with_config(free).await;
    let mut wire = owner::connect(lab.broker(), User::Orders).await;
    let mut create = async |name: &str, mut config: Value| {
        config["name"] = name.into();
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        let answer = wire.request(&subject, config.to_string().as_bytes()).await;
        answer.expect("an answer").text()
    };
    let second = create("SECOND", json!({"max_bytes": 1000})).await;
    assert!(second.contains("maximum number of streams"), "{second}");
    let deleted = wire.request("$JS.API.STREAM.DELETE.ORDERS", b"").await;
    deleted.expect("an answer");
    let mut create = async |config: Value| {
        let question = config.to_string();
        let answer = wire.request("$JS.API.STREAM.CREATE.ORDERS", question.as_bytes());
        answer.await.expect("an answer").text()
    };
    let unsized_one = create(json!({"name": "ORDERS"})).await;
    assert!(unsized_one.contains("max bytes"), "{unsized_one}");
    let huge = create(json!({"name": "ORDERS", "max_bytes": 5_000_000_000_u64})).await;
    assert!(
        huge.contains("insufficient storage") || huge.contains("limits"),
        "{huge}"
    );

    for number in 0..100 {
        let subject = format!("orders.{number}");
        wire.subscribe(&subject).await.expect("sent");
    }
    wire.flush().await.expect("the broker answers");
    let refusal = wire.errors.first().expect("one too many");
    assert!(
        refusal.contains("maximum subscriptions exceeded"),
        "{refusal}"
    );

    let login = User::Orders.login(lab.broker());
    let mut connected = Vec::new();
    let refusal = loop {
        match Wire::connect(lab.broker().address(), &login).await {
            Ok(wire) => connected.push(wire),
            Err(refusal) => break refusal.to_string(),
        }
        assert!(connected.len() <= 16, "no end of connections");
    };
    assert!(
        refusal.contains("maximum account active connections"),
        "{refusal}"
    );
}

/// All readers at once can make the broker busy: the owner's sequences continue.
#[tokio::test]
async fn a_flood_of_reads_moves_no_number() {
    let mut lab = Lab::start().await;
    for _ in 0..5 {
        lab.victim().publish_batch(1000).await;
    }
    let mut head = lab.victim().info().await.last_seq;
    let mut flood = Vec::new();
    for user in [User::Orders, User::Observer] {
        let mut wire = owner::connect(lab.broker(), user).await;
        wire.subscribe("live.users.>").await.expect("sent");
        let reply = wire.new_reply();
        let all = Outgoing::to("from_users.API.DIRECT.GET.USERS").reply(&reply);
        let all = all.payload(r#"{"seq":1,"batch":1000000000,"max_bytes":1000000000000}"#);
        for _ in 0..20 {
            wire.publish(&all).await.expect("sent");
        }
        flood.push(wire); // and never reads
    }
    for _ in 0..20 {
        head += 1;
        assert_eq!(lab.victim().publish("created").await, head);
    }
}

/// The table can fail: with one line too many in nats.conf it names the attempt that succeeded.
#[tokio::test]
async fn a_hole_planted_in_the_configuration_is_found() {
    let mut lab = Lab::with_config(lab::with_purge_for_readers()).await;
    let mut table = attempts::of_both();
    table.retain(|attempt| !attempt.to_string().contains("DIRECT.GET"));
    let holes = lab.find_holes(&table).await;
    let through = |hole: &String| {
        hole.contains("from_users.API.STREAM.PURGE.USERS") && hole.contains("THE STREAM CHANGED")
    };
    assert!(holes.len() == 2 && holes.iter().all(through), "{holes:#?}");
}
