//! Nobody but its owner can store, burn or remove a number in a stream: nats.conf against everything we could think of.
//!
//! A hostile orders-service, a hostile observer and, the other way round, a hostile user-service try the attempts of
//! `attempts`. After each one the victim's stream must be as it was: the same first, last and count, the same configuration,
//! and the next event of its owner must get exactly the next number, so nothing was still on its way in.

mod attempts;
mod configuration;
mod lab;
mod legitimate;

use freehold_tests::broker::User;
use freehold_tests::wire::Outgoing;

use crate::owner;
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
    assert!(table.len() >= 170, "the table lost rows: {}", table.len());
}

#[tokio::test]
async fn no_attempt_of_users_or_observer_moves_a_number_of_orders() {
    let mut lab = Lab::start().await;
    lab.swap_victim();
    let table = [attempts::of_users(), attempts::of_observer_on_orders()].concat();
    lab.run_all(&table).await;
}

/// Permissions are the second wall. The first one, the account, holds alone.
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
    // Its account has room for one stream: with ORDERS gone the mirrors below fit in.
    table.push(Attempt::api(
        User::Orders,
        "$JS.API.STREAM.DELETE.ORDERS",
        "",
        Expect::Answer("success"),
    ));
    table.extend(attempts::of_orders_without_permissions());
    lab.run_all(&table).await;
}

#[tokio::test]
async fn nobody_hears_what_is_not_meant_for_them() {
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

/// The check can see: what an owner does, and a number burned through a reply subject inside one account.
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

/// The table can fail: one line of nats.conf too many, and it says which attempt came through.
#[tokio::test]
async fn a_hole_planted_in_the_configuration_is_found() {
    let mut lab = Lab::with_config(lab::with_purge_for_the_observer()).await;
    let holes = lab.find_holes(&attempts::of_both()).await;
    let through = |hole: &String| {
        hole.contains("from_users.API.STREAM.PURGE.USERS") && hole.contains("THE STREAM CHANGED")
    };
    assert!(holes.len() == 1 && through(&holes[0]), "{holes:#?}");
}
