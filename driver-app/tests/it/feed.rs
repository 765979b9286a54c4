//! The feed: whole checkpoints, no flicker, and deliveries that leave the driver's scope.

use driver_app::sync::Step;
use event_schema::DriverId;
use serde_json::{Value, json};

use crate::owner::Fault;
use crate::world::World;

#[tokio::test]
async fn the_screen_never_goes_back_between_a_verdict_and_the_feed() {
    let (mut world, [order]) = World::with_deliveries().await;
    let rank = |status: &str| {
        ["assigned", "picked_up", "delivered"]
            .iter()
            .position(|known| *known == status)
            .unwrap()
    };
    let mut best = 0;
    for what in ["pick_up", "deliver"] {
        world.does(order, what, json!({})).await;
        best += 1;
        for step in [
            "look", "lost", "look", "up", "look", "kill", "look", "cut", "down", "look", "kill",
            "down",
        ] {
            match step {
                "lost" => {
                    world.owner.fail(Fault::LoseAnswer);
                    world.up().await;
                }
                "up" => world.send_all().await,
                "kill" => world.kill().await,
                "cut" => {
                    world.owner.fail(Fault::Drop);
                    world.down().await;
                }
                "down" => world.follow_all().await,
                _ => {}
            }
            assert_eq!(
                rank(&world.status(order).await),
                best,
                "after {step} of {what}"
            );
        }
        assert_eq!(world.delivery(order).await["pending"], json!([]));
    }
}

#[tokio::test]
async fn the_feed_may_come_before_the_verdict() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.picks_up(order).await;
    world.owner.fail(Fault::LoseAnswer);
    world.up().await;
    world.follow_all().await;
    let delivery = world.delivery(order).await;
    assert_eq!(
        (&delivery["status"], &delivery["pending"][0]["state"]),
        (&json!("picked_up"), &json!("in_flight"))
    );
    world.send_all().await;
    assert_eq!(
        world.delivery(order).await["pending"],
        json!([]),
        "the feed is there already"
    );
}

#[tokio::test]
async fn an_incomplete_checkpoint_leaves_the_old_state_complete() {
    let (mut world, orders) = World::with_deliveries::<4>().await;
    for order in orders {
        world.owner.truth().cancel(order);
    }
    world.owner.truth().page = 1;
    let before = world.state().await["deliveries"].clone();
    for pages in 0..3 {
        assert_eq!(world.down().await, Step::Progress, "page {pages}");
        assert_eq!(world.state().await["deliveries"], before);
        world.kill().await;
        assert_eq!(world.state().await["deliveries"], before);
    }
    let asked = world.owner.truth().asked_after.len();
    assert_eq!(world.down().await, Step::Progress);
    for order in orders {
        assert_eq!(world.status(order).await, "cancelled");
    }
    let asked_after = world.owner.truth().asked_after[asked].clone();
    let first = world.owner.truth().asked_after[asked - 3].clone();
    assert_ne!(asked_after, first, "it went on from where it was");
}

#[tokio::test]
async fn a_snapshot_replaces_everything_once_it_is_complete() {
    let (mut world, [kept, gone, late]) = World::with_deliveries().await;
    {
        let mut truth = world.owner.truth();
        truth.orders.remove(&gone);
        truth.cancel(late);
        (truth.begin_snapshot, truth.page) = (true, 1);
    }
    assert_eq!(world.down().await, Step::Progress);
    assert_eq!(
        (
            world.status(gone).await.as_str(),
            world.status(late).await.as_str()
        ),
        ("assigned", "assigned")
    );
    world.follow_all().await;
    let shown = [
        world.status(kept).await,
        world.status(gone).await,
        world.status(late).await,
    ];
    assert_eq!(shown, ["assigned", "gone", "cancelled"]);
}

#[tokio::test]
async fn a_snapshot_in_the_middle_of_a_checkpoint_restarts_it() {
    let (mut world, [one, two]) = World::with_deliveries().await;
    world.owner.truth().page = 1;
    world.owner.truth().cancel(one);
    world.owner.truth().cancel(two);
    assert_eq!(world.down().await, Step::Progress);
    {
        let mut truth = world.owner.truth();
        truth.orders.remove(&one);
        truth.begin_snapshot = true;
    }
    world.follow_all().await;
    assert_eq!(
        [world.status(one).await, world.status(two).await],
        ["gone", "cancelled"]
    );
}

#[tokio::test]
async fn a_delivery_that_leaves_the_drivers_scope_leaves_the_device_and_its_conflicts_keep_no_customer()
 {
    let (mut world, [order, conflicted]) = World::with_deliveries().await;
    world.picks_up(conflicted).await;
    world.owner.truth().cancel(conflicted);
    world.sync().await;
    assert_eq!(
        world.state().await["conflicts"][0]["current"]["customer"],
        "Grace"
    );
    world.picks_up(order).await;
    {
        let mut truth = world.owner.truth();
        truth.reassign(order, DriverId::new());
        truth.reassign(conflicted, DriverId::new());
    }
    world.follow_all().await;
    let state = world.state().await;
    assert_eq!(state["deliveries"], json!([]));
    assert_eq!(state["conflicts"][0]["current"]["customer"], Value::Null);
    assert_eq!(state["conflicts"][0]["current"]["status"], "cancelled");
    assert_eq!(state["sync"]["pending"], 1, "what the driver did is kept");
    world.send_all().await;
    let refused = world.state().await["refused"].clone();
    assert_eq!(
        refused[0]["code"], "order_not_found",
        "and gets its verdict"
    );
}

#[tokio::test]
async fn an_unknown_change_and_an_unknown_status_stop_nothing() {
    let (mut world, [order, other]) = World::with_deliveries().await;
    world.owner.truth().set_status(order, "teleported");
    world.owner.truth().feed_says =
        vec![json!({"change": "repaint", "colour": "green"}), json!({})];
    world.sync().await;
    let delivery = world.delivery(order).await;
    assert_eq!(
        (&delivery["status"], &delivery["can"]),
        (&json!("teleported"), &json!([]))
    );
    assert_eq!(
        world.act(order, "pick_up", json!({})).await.problem(),
        "409 not_possible_now"
    );
    world.picks_up(other).await;
    world.sync().await;
    assert_eq!(world.truly(other), "picked_up");
}

#[tokio::test]
async fn an_unreadable_change_is_not_half_applied() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.owner.truth().cancel(order);
    world.owner.truth().feed_says = vec![json!({"change": "put", "delivery": {"order_id": order}})];
    assert!(matches!(world.down().await, Step::Wait(_)));
    assert_eq!(world.status(order).await, "assigned");
    world.sync().await;
    assert_eq!(world.status(order).await, "cancelled");
}

#[tokio::test]
async fn a_feed_token_that_the_owner_does_not_know_begins_from_scratch() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.owner.truth().orders.remove(&order);
    world.owner.fail(Fault::Refuse(400, "invalid_query"));
    assert!(matches!(world.down().await, Step::Wait(_)));
    assert_eq!(
        world.status(order).await,
        "assigned",
        "shown until the new one is whole"
    );
    world.follow_all().await;
    assert_eq!(
        world
            .owner
            .truth()
            .asked_after
            .iter()
            .filter(|after| after.is_none())
            .count(),
        2
    );
    assert_eq!(world.status(order).await, "gone");
}

#[tokio::test]
async fn only_the_owners_own_refusal_begins_from_scratch() {
    let (mut world, [_order]) = World::with_deliveries().await;
    for fault in [
        Fault::Foreign(400, "invalid_query"),
        Fault::Refuse(400, "bad_request"),
        Fault::Refuse(410, "gone"),
        Fault::Refuse(422, "no"),
    ] {
        world.owner.fail(fault);
        assert!(matches!(world.down().await, Step::Wait(_)));
        world.follow_all().await;
    }
    let asked = world.owner.truth().asked_after.clone();
    let from_scratch = asked.iter().filter(|after| after.is_none());
    assert_eq!(from_scratch.count(), 1, "{asked:?}");
}

#[tokio::test]
async fn an_applied_intent_in_a_lost_log_is_sent_again_and_the_screen_stays() {
    let (mut world, [order, _other]) = World::with_deliveries().await;
    world.picks_up(order).await;
    world.send_all().await;
    assert_eq!(
        world.delivery(order).await["pending"][0]["state"],
        "confirmed"
    );
    world.owner.truth().new_line(0);
    world.follow_all().await;
    let delivery = world.delivery(order).await;
    assert_eq!(
        (&delivery["status"], &delivery["pending"][0]["state"]),
        (&json!("picked_up"), &json!("unsent")),
        "whether it is there is asked"
    );
    assert_eq!(world.state().await["sync"]["as_of"], 0);
    world.send_all().await;
    assert_eq!(world.delivery(order).await["pending"], json!([]));
}

#[tokio::test]
async fn effects_that_the_office_lost_are_sent_again_and_the_screen_does_not_go_back() {
    let (mut world, [order, reported]) = World::with_deliveries().await;
    let backup = world.owner.truth().back_up();
    let report = json!({"problem": "other"});
    let mut done = Vec::new();
    for _ in 0..2 {
        done.push(world.does(reported, "report_problem", report.clone()).await);
    }
    done.push(world.picks_up(order).await); // the third here; what comes after it is the first of the next incarnation
    world.sync().await;
    world.owner.fail(Fault::Refuse(409, "incarnation_forked"));
    done.push(world.delivers(order).await);
    world.sync().await;
    world.sync().await; // it has two incarnations behind it now
    done.push(world.does(reported, "report_problem", report).await);
    world.send_all().await; // the feed does not include this yet
    let last = world.picks_up(reported).await;
    world.owner.truth().restore(backup);
    world.follow_all().await;
    for look in ["as it is", "after a restart"] {
        assert_eq!(world.status(order).await, "delivered", "{look}");
        let delivery = world.delivery(reported).await;
        assert_eq!(
            (&delivery["problems"], &delivery["status"]),
            (&json!(3), &json!("picked_up"))
        );
        assert_eq!(world.state().await["sync"]["pending"], 6, "{look}");
        world.kill().await;
    }
    world.sync().await;
    assert_eq!(
        [world.truly(order), world.truly(reported)],
        ["delivered", "picked_up"]
    );
    for intent in done.iter().chain([&last]) {
        assert_eq!(world.effects(intent), 1);
    }
    let state = world.state().await;
    assert_eq!(
        (&state["sync"]["pending"], &state["refused"]),
        (&json!(0), &json!([]))
    );
    assert_eq!(world.delivery(order).await["pending"], json!([]));
}

#[tokio::test]
async fn an_open_conflict_that_the_office_lost_gets_a_new_verdict() {
    let (mut world, [order]) = World::with_deliveries().await;
    let backup = world.owner.truth().back_up();
    world.picks_up(order).await;
    world.owner.truth().cancel(order);
    world.sync().await;
    assert_eq!(world.state().await["sync"]["conflicts"], 1);
    world.owner.truth().restore(backup);
    world.sync().await;
    world.sync().await;
    assert_eq!(world.state().await["conflicts"], json!([]));
    assert_eq!(world.truly(order), "picked_up");
}

#[tokio::test]
async fn no_intent_waits_for_one_that_can_no_longer_arrive() {
    let (mut world, [order]) = World::with_deliveries().await;
    let report = json!({"problem": "other"});
    let backup = world.owner.truth().back_up();
    world.owner.truth().place(DriverId::new());
    let said = json!({"verdict": "rejected", "at": 9, "code": "no", "detail": "never"});
    world.owner.truth().says.insert(order.to_string(), said);
    world.does(order, "report_problem", report.clone()).await;
    world.sync().await;
    world.owner.truth().says.clear();
    let before = world.does(order, "report_problem", report.clone()).await;
    world.owner.truth().restore(backup);
    world.follow_all().await;
    let next = world.does(order, "report_problem", report.clone()).await;
    world.sync().await;
    assert_eq!(
        world.effects(&before),
        1,
        "the office need not have seen what it has lost"
    );
    assert_eq!(world.effects(&next), 1, "the refused one is not sent again");

    // Nor for one that the owner has under its number from before the fork.
    world.does(order, "report_problem", report.clone()).await;
    world.owner.fail(Fault::LoseAnswer);
    world.up().await;
    world.device().status().sync_now();
    world.owner.fail(Fault::Refuse(409, "incarnation_forked"));
    world.up().await;
    world.send_all().await;
    let next = world.does(order, "report_problem", report).await;
    world.send_all().await;
    assert_eq!(world.effects(&next), 1);
}

#[tokio::test]
async fn finished_deliveries_are_kept_up_to_a_number_and_the_newest() {
    let mut world = World::new().await;
    world.enrol().await;
    let orders: Vec<_> = (0..205)
        .map(|_| world.owner.truth().place(world.driver))
        .collect();
    world.sync().await;
    world.picks_up(orders[204]).await; // a conflict, since the office cancels it
    for (order, age) in orders[1..].iter().zip(0..) {
        let mut truth = world.owner.truth();
        truth.orders.get_mut(order).unwrap().delivery.changed_at_ms -= age;
        truth.cancel(*order);
    }
    world.sync().await;
    let state = world.state().await;
    assert_eq!(state["deliveries"].as_array().unwrap().len(), 202);
    let shown = [0, 200, 201, 203, 204].map(|n| orders[n]);
    let mut statuses = Vec::new();
    for order in shown {
        statuses.push(world.status(order).await);
    }
    assert_eq!(
        statuses,
        ["assigned", "cancelled", "gone", "gone", "cancelled"],
        "an open one, the oldest that is kept, two too many, and one with a conflict"
    );
}

#[tokio::test]
async fn a_feed_request_without_news_changes_nothing_on_the_page() {
    let (mut world, [_order]) = World::with_deliveries().await;
    world.sync().await;
    let before = world.state().await;
    assert!(matches!(world.down().await, Step::Wait(_)));
    assert_eq!(world.state().await["revision"], before["revision"]);
    world.owner.truth().place(DriverId::new());
    assert_eq!(world.down().await, Step::Progress);
    let after = world.state().await;
    assert_ne!(
        after["sync"]["as_of"], before["sync"]["as_of"],
        "others' events move the place"
    );
}

#[tokio::test]
async fn deliveries_are_in_the_order_of_placing_even_if_the_clock_goes_back() {
    let mut world = World::new().await;
    world.enrol().await;
    let id = |hour: u8| format!("0191d1a0-{hour:04}-7000-8000-000000000000");
    // The last one comes from an older owner that sends no sequence.
    for (hour, seq) in [(5, Some(7)), (9, Some(8)), (2, Some(10)), (8, None)] {
        let order_id = id(hour).parse().unwrap();
        world.owner.truth().place_as(world.driver, order_id, seq);
    }
    world.sync().await;
    let state = world.state().await;
    let listed = state["deliveries"].as_array().unwrap().iter();
    let listed: Vec<_> = listed.map(|of| of["order_id"].as_str().unwrap()).collect();
    assert_eq!(listed, [8, 5, 9, 2].map(id));
}
