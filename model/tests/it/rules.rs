//! Each rule left out alone breaks the property that the first model names. A model in which no property can fail proves
//! nothing.

use protocol_model::{CASES, COVERED, Effort, Walk};

const EFFORT: Effort = Effort::seconds(120);

#[test]
fn each_rule_left_out_has_its_counterexample() {
    for case in CASES {
        let seen = case.look(case.narrow(), EFFORT);
        let path = seen.broken.into_iter().next().map(|(_, path)| Walk(path));
        let path =
            path.unwrap_or_else(|| panic!("{}: {} holds without it", case.name, case.property));
        println!(
            "without {}: {} after {} steps (first model: {}): {path}",
            case.name,
            case.property,
            path.0.len(),
            case.first_model
        );
        assert_eq!(
            Some(path.0.len()),
            case.ours,
            "{}: another length",
            case.name
        );
    }
}

/// These have a second line of defence. Should one of them begin to matter, the README is wrong.
#[test]
fn some_rules_are_covered_by_others() {
    for case in COVERED {
        let seen = case.look(case.narrow(), EFFORT);
        println!("without {}: {} states", case.name, seen.states);
        assert!(seen.complete, "{}: {:?}", case.name, seen.broken);
    }
}
