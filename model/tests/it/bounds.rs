//! Under all rules everything holds, completely, within the small bounds.

use protocol_model::{
    ANYTHING, Bounds, DECIDED, Doctrine, Early, Effort, ONE_WRITER, Property, Protocol, Rules,
    SAFETY, TWO_WRITERS, rest_is_reachable, search,
};

const EFFORT: Effort = Effort::seconds(120);

fn holds(bounds: Bounds, properties: &'static [Property]) {
    let seen = search(Protocol::new(Rules::ALL, bounds), properties, EFFORT);
    println!("{bounds:?}: {seen:?}");
    assert!(seen.broken.is_empty(), "{:?}", seen.broken);
    assert!(seen.complete, "not every state was seen");
}

#[test]
fn one_writer_two_writes_two_faults() {
    holds(Bounds::new(2, 2, ONE_WRITER), &SAFETY);
}

#[test]
fn two_writers_two_writes_two_faults() {
    holds(Bounds::new(2, 2, TWO_WRITERS), &SAFETY);
}

#[test]
fn a_lost_connection_or_acknowledgement_changes_nothing() {
    holds(Bounds::new(2, 1, ANYTHING), &SAFETY);
    holds(Bounds::new(2, 2, "WTSDtPucRlx"), &SAFETY);
}

#[test]
fn two_consumers_each_hold_the_log_and_report_what_it_lacks() {
    holds(Bounds::new(2, 2, ONE_WRITER).consumers(2), &SAFETY);
    holds(Bounds::new(2, 1, TWO_WRITERS).consumers(2), &SAFETY);
}

#[test]
fn faults_of_the_broker_alone_need_no_decision() {
    holds(Bounds::new(2, 2, "WTSDtcRlx"), &[Property::F]);
}

#[test]
fn one_fault_needs_one_decision_even_while_the_loser_runs() {
    let bounds = Bounds::new(3, 1, ANYTHING).doctrine(Doctrine::SurvivorLives);
    holds(bounds, &DECIDED);
}

#[test]
fn rest_can_be_reached_from_everywhere() {
    for bounds in [
        Bounds::new(2, 3, ONE_WRITER),
        Bounds::new(2, 2, TWO_WRITERS),
    ] {
        let seen = rest_is_reachable(&Protocol::new(Rules::ALL, bounds));
        println!("{bounds:?}: {seen:?}");
        assert_eq!(seen.dead_end, None);
        assert!(seen.at_rest > 1_000, "only {} states at rest", seen.at_rest);
    }
}

/// When writes before the first contact are allowed, and what one restore then costs.
#[test]
fn a_restored_file_that_is_marked_never_forks() {
    let forks = |early, kinds| {
        let bounds = Bounds::new(3, 1, kinds).early(early);
        let seen = search(Protocol::new(Rules::ALL, bounds), &[Property::F], EFFORT);
        println!("{early:?} {kinds}: {} states", seen.states);
        !seen.broken.is_empty()
    };
    let (known, unknown) = ("P", "u");
    assert!(!forks(Early::Never, known) && !forks(Early::Never, unknown));
    assert!(!forks(Early::Unmarked, known) && forks(Early::Unmarked, unknown));
    assert!(!forks(Early::Reachable, known) && !forks(Early::Reachable, unknown));
    assert!(forks(Early::Always, known) && forks(Early::Always, unknown));
}
