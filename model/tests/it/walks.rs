//! Random walks, as the library will replay them.

use protocol_model::world::{Numbers, World};
use protocol_model::{ANYTHING, Action, Bounds, Protocol, Rules, Walk, broken_at_end};

const BOUNDS: Bounds = Bounds::new(8, 4, ANYTHING).consumers(2);

#[test]
fn every_walk_comes_to_a_good_rest() {
    let protocol = Protocol::new(Rules::ALL, BOUNDS);
    let mut taken = String::new();
    for seed in 0..500 {
        let walk = Walk::draw(seed, BOUNDS, 40).then_rest(seed, BOUNDS);
        assert_eq!(broken_at_end(&protocol, &walk.0), [], "seed {seed}: {walk}");
        taken += &walk.to_string();
    }
    for rare in [
        "Adopt(1)",
        "New(1)",
        "Kill(0)",
        "KFork(1:1)",
        "KSnap(1:0)",
        "OldBroker",
        "KLive(1:2)",
        "KLate(0:1)",
        "KPast(1:1)",
    ] {
        assert!(taken.contains(rare), "no walk takes {rare}");
    }
}

#[test]
fn a_walk_is_the_same_for_the_same_seed_and_can_be_printed_and_parsed() {
    let walk = Walk::draw(7, BOUNDS, 40);
    assert_eq!(walk, Walk::draw(7, BOUNDS, 40));
    assert_ne!(walk, Walk::draw(8, BOUNDS, 40));
    assert_eq!(walk.0.len(), 40);
    assert_eq!(walk.to_string().parse(), Ok(walk.clone()));
    let json = serde_json::to_string(&walk).unwrap();
    assert_eq!(serde_json::from_str::<Walk>(&json).unwrap(), walk);
}

#[test]
fn an_unknown_action_is_refused() {
    for text in [
        "Fly",
        "Contact",
        "Contact(x)",
        "Clone(1)",
        "(1)",
        "KAsk(0)",
        "KAsk(0:1:2)",
    ] {
        assert!(text.parse::<Walk>().is_err(), "{text}");
    }
}

#[test]
fn an_event_is_named_by_its_index_among_the_writes() {
    let protocol = Protocol::new(Rules::ALL, BOUNDS);
    for seed in 0..50 {
        let walk = Walk::draw(seed, BOUNDS, 40);
        let mut events = Numbers::default();
        for (world, action) in protocol.worlds(&walk.0)[1..].iter().zip(&walk.0) {
            if let Action::Commit(who) = action {
                let writer = world.writers[usize::from(*who)].as_ref().unwrap();
                let id = format!("drawn by the product at {:?}", writer.rows.last());
                assert_eq!(
                    writer.rows.last(),
                    Some(&events.of(id)),
                    "seed {seed}: {walk}"
                );
            }
        }
    }
}

#[test]
fn worlds_can_be_printed_and_parsed() {
    let worlds = Protocol::new(Rules::ALL, BOUNDS).worlds(&Walk::draw(7, BOUNDS, 40).0);
    let json = serde_json::to_string(&worlds).unwrap();
    assert_eq!(serde_json::from_str::<Vec<World>>(&json).unwrap(), worlds);
}
