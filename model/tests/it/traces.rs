//! The shortest stories, written out. Each breaks the named properties without its rule, and ends well with it.

use protocol_model::Property::{B, C, D, E};
use protocol_model::{
    Action, Bounds, Mode, Property, Protocol, Rule, Rules, SAFETY, TWO_WRITERS, Walk, broken_at_end,
};

fn without(rule: Rule) -> Protocol {
    Protocol::new(Rules::ALL.without(rule), BOUNDS)
}

const BOUNDS: Bounds = Bounds::new(4, 3, TWO_WRITERS);
const ALL_RULES: Protocol = Protocol::new(Rules::ALL, BOUNDS);

fn walk(text: &str) -> Vec<Action> {
    text.parse::<Walk>()
        .expect("a story in the model's words")
        .0
}

fn breaks(protocol: Protocol, story: &str, properties: &[Property]) {
    let broken = broken_at_end(&protocol, &walk(story));
    assert_eq!(broken, properties, "{story}");
}

/// With every rule on, what is still possible of the story is followed by the protocol's own steps to a good rest.
fn ends_well(story: &str) {
    let mut state = protocol_model::State::first(&BOUNDS);
    let mut done = Vec::new();
    for action in walk(story) {
        if let Some(next) = ALL_RULES.step(&state, action) {
            state = next;
            done.push(action);
        }
    }
    for seed in 0..50 {
        let path = Walk(done.clone()).then_rest(seed, BOUNDS);
        assert_eq!(broken_at_end(&ALL_RULES, &path.0), [], "{path}");
    }
}

#[test]
fn an_idle_original_never_learns_of_its_clone() {
    let story = "Clone, Contact(1), Commit(1), Publish(1), KApply";
    breaks(without(Rule::Timer), story, &[B, C, D, E]);
    ends_well(story);
}

#[test]
fn a_deleted_stream_stays_missing_when_nobody_looks() {
    breaks(without(Rule::Timer), "Delete", &[E]);
    ends_well("Delete");
}

#[test]
fn a_consumer_waits_for_an_event_that_nobody_has() {
    let story = "PBak(0), Commit(0), Publish(0), KApply, Wipe, Restore(0), Contact(0), KConn";
    breaks(without(Rule::Ask), story, &[B, D]);
    ends_well(story);
}

#[test]
fn equal_lengths_are_not_equal_logs() {
    let story = "Commit(0), Publish(0), KApply, PBak(0), Commit(0), Publish(0), KApply, \
                 RestoreUnknown(0), Open(0), Commit(0), Contact(0)";
    breaks(without(Rule::IdAtHead), story, &[B, C, D, E]);
    ends_well(story);
}

#[test]
fn a_row_lands_on_a_rivals_stream_that_its_relay_never_saw() {
    let story = "Clone, Commit(0), Publish(0), KApply, Commit(0), Delete, Contact(1), Commit(1), Publish(1), Publish(0), \
                 Contact(0), Contact(1), Kill(1)";
    breaks(without(Rule::Token), story, &[C, E]);
    // With the token the last publish is refused, the original finds the clone's stream, and both halt.
    ends_well(story);
}

#[test]
fn a_restored_producer_imports_before_it_writes() {
    let story = walk("PBak(0), Commit(0), Publish(0), KApply, Restore(0)");
    let restored = ALL_RULES.replay(&story).pop().unwrap();
    assert_eq!(ALL_RULES.step(&restored, Action::Open(0)), None);
    assert_eq!(ALL_RULES.step(&restored, Action::Commit(0)), None);

    let imported = ALL_RULES.step(&restored, Action::Contact(0)).unwrap();
    let writer = imported.writers[0].unwrap();
    assert_eq!((writer.mode, writer.file.rows.len()), (Mode::Open, 1));
    assert!(
        SAFETY
            .iter()
            .all(|property| property.holds(&ALL_RULES, &imported))
    );
}

#[test]
fn a_new_epoch_keeps_the_numbers_and_sets_the_rivals_tail_aside() {
    let story = "Clone, Contact(1), Commit(1), Publish(1), Commit(0), Contact(0), Kill(1), New(0)";
    let end = ALL_RULES.replay(&walk(story)).pop().unwrap();
    let (log, stream) = (end.writers[0].unwrap().file, end.stream.unwrap());
    assert_eq!((log.epoch, stream.epoch), (2, 2));
    assert_eq!((log.rows.len(), stream.head()), (1, 0));
    ends_well(story);
    breaks(
        without(Rule::SaveFirst),
        &format!("{story}, Publish(0), KConn, KApply"),
        &[C],
    );
}
