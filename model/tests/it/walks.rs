//! Random walks: what the product will be led along.

use protocol_model::{Bounds, Protocol, Rules, TWO_WRITERS, Walk, broken_at_end};

const BOUNDS: Bounds = Bounds::new(8, 4, TWO_WRITERS);

#[test]
fn every_walk_comes_to_a_good_rest() {
    let protocol = Protocol::new(Rules::ALL, BOUNDS);
    for seed in 0..500 {
        let walk = Walk::draw(seed, BOUNDS, 40).then_rest(seed, BOUNDS);
        assert_eq!(broken_at_end(&protocol, &walk.0), [], "seed {seed}: {walk}");
    }
}

#[test]
fn a_walk_is_the_same_for_the_same_seed_and_survives_being_written_down() {
    let walk = Walk::draw(7, BOUNDS, 40);
    assert_eq!(walk, Walk::draw(7, BOUNDS, 40));
    assert_ne!(walk, Walk::draw(8, BOUNDS, 40));
    assert_eq!(walk.0.len(), 40);
    assert_eq!(walk.to_string().parse(), Ok(walk.clone()));
    let json = serde_json::to_string(&walk).unwrap();
    assert_eq!(serde_json::from_str::<Walk>(&json).unwrap(), walk);
}

#[test]
fn a_word_that_is_no_action_is_refused() {
    for text in ["Fly", "Contact", "Contact(x)", "Clone(1)", "(1)"] {
        assert!(text.parse::<Walk>().is_err(), "{text}");
    }
}
