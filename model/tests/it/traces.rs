//! The shortest counterexamples, written out. Each breaks the named properties without its rule, and ends well with it.

use protocol_model::Property::{B, C, D, E};
use protocol_model::{
    ANYTHING, Action, Bounds, Doctrine, Early, Mode, Property, Protocol, Rule, Rules, SAFETY,
    State, Walk, broken_at_end,
};

fn without(rule: Rule) -> Protocol {
    Protocol::new(Rules::ALL.without(rule), BOUNDS)
}

const BOUNDS: Bounds = Bounds::new(4, 6, ANYTHING);
/// The operator may choose while both run.
const FREE: Bounds = BOUNDS.doctrine(Doctrine::Free(9));
const ALL_RULES: Protocol = Protocol::new(Rules::ALL, BOUNDS);

fn walk(text: &str) -> Vec<Action> {
    text.parse::<Walk>()
        .expect("a story in the model's words")
        .0
}

fn follow(state: &State, story: &str) -> State {
    let step = |state, action| ALL_RULES.step(&state, action).expect("a possible story");
    walk(story).into_iter().fold(state.clone(), step)
}

fn breaks(protocol: Protocol, story: &str, properties: &[Property]) {
    let broken = broken_at_end(&protocol, &walk(story));
    assert_eq!(broken, properties, "{story}");
}

/// With every rule on, the remaining steps of the trace, followed by the protocol's own, reach a good rest.
fn ends_well(story: &str) {
    ends_well_within(BOUNDS, story);
}

fn ends_well_within(bounds: Bounds, story: &str) {
    let protocol = Protocol::new(Rules::ALL, bounds);
    let mut state = State::first(&bounds);
    let mut done = Vec::new();
    for action in walk(story) {
        if let Some(next) = protocol.step(&state, action) {
            state = next;
            done.push(action);
        }
    }
    for seed in 0..50 {
        let path = Walk(done.clone()).then_rest(seed, bounds);
        assert_eq!(broken_at_end(&protocol, &path.0), [], "{path}");
    }
}

#[test]
fn an_idle_original_never_detects_its_clone() {
    let story = "Clone, Contact(1), Commit(1), Publish(1), KApply(0)";
    breaks(without(Rule::Timer), story, &[B, C, D, E]);
    ends_well(story);
}

#[test]
fn a_deleted_stream_stays_missing_without_a_look() {
    breaks(without(Rule::Timer), "Delete", &[E]);
    ends_well("Delete");
}

#[test]
fn a_consumer_waits_for_an_event_that_no_actor_holds() {
    let story = "PBak(0), Commit(0), Publish(0), KApply(0), Wipe, Restore(0), Contact(0), KConn(0)";
    breaks(without(Rule::Ask), story, &[B, D]);
    ends_well(story);
}

#[test]
fn equal_lengths_are_not_equal_logs() {
    let story = "Commit(0), Publish(0), KApply(0), PBak(0), Commit(0), Publish(0), KApply(0), \
                 RestoreUnknown(0), Open(0), Commit(0), Contact(0)";
    breaks(without(Rule::IdAtHead), story, &[B, C, D, E]);
    ends_well(story);
}

#[test]
fn a_row_is_stored_on_another_writers_stream_that_its_relay_never_saw() {
    let story = "Clone, Commit(0), Publish(0), KApply(0), Commit(0), Delete, Contact(1), Commit(1), Publish(1), Publish(0), \
                 Contact(0), Contact(1), Kill(1)";
    breaks(without(Rule::Token), story, &[C, E]);
    // With the token the last publish is refused, the original finds the clone's stream, and both halt.
    ends_well(story);
}

#[test]
fn a_restored_producer_imports_before_it_writes() {
    let story =
        "PBak(0), Commit(0), Publish(0), Commit(0), Publish(0), KApply(0), KApply(0), Restore(0)";
    let restored = ALL_RULES.replay(&walk(story)).pop().unwrap();
    // Killed after the first of two rows it still counts as a copy.
    for story in ["", "Contact(0)", "Contact(0), Restart(0)"] {
        let state = follow(&restored, story);
        assert_eq!(ALL_RULES.step(&state, Action::Open(0)), None);
        assert_eq!(ALL_RULES.step(&state, Action::Commit(0)), None);
    }
    let imported = follow(&restored, "Contact(0), Restart(0), Contact(0), Contact(0)");
    let writer = imported.writers[0].unwrap();
    assert_eq!((writer.mode, writer.file.rows.len()), (Mode::Open, 2));
    assert!(
        SAFETY
            .iter()
            .all(|property| property.holds(&ALL_RULES, &imported))
    );
}

/// Two writers wrote one row each and halted; the second chooses. The first is still there.
const CHOICE: &str = "Clone, Contact(1), Commit(1), Publish(1), Commit(0), Contact(0)";
/// The contacts after a new epoch: close, save, delete, create.
const REPLACED: &str = "Contact(0), Contact(0), Contact(0), Contact(0)";

#[test]
fn a_new_epoch_keeps_the_sequences_and_quarantines_the_other_tail() {
    let story = format!("{CHOICE}, Kill(1), New(0), {REPLACED}");
    let end = ALL_RULES.replay(&walk(&story)).pop().unwrap();
    let (log, stream) = (end.writers[0].unwrap().file, end.stream.unwrap());
    assert_eq!((log.epoch, stream.epoch), (2, 2));
    assert_eq!((log.rows.len(), stream.head()), (1, 0));
    assert_eq!(log.aside.iter().count(), 1);
    ends_well(&story);
    let published = format!("{story}, Publish(0), KApply(0)");
    breaks(without(Rule::SaveFirst), &published, &[C]);
}

#[test]
fn an_interrupted_new_epoch_is_resumed() {
    let mut story = format!("{CHOICE}, Kill(1), New(0)");
    for next in walk(REPLACED) {
        story = format!("{story}, Restart(0), {next}");
        ends_well(&story);
    }
}

/// The flaw in "save, delete, create": an event that the loser publishes between the first two is lost.
#[test]
fn a_row_published_after_the_tail_was_saved_is_lost_unless_the_stream_was_closed() {
    let unfenced = Protocol::new(Rules::ALL.without(Rule::CloseFirst), FREE);
    let story = "Clone, Contact(1), Commit(0), Publish(0), Contact(1), New(1), Contact(1), Commit(0), Publish(0), Kill(0), \
                 Contact(1), Contact(1)";
    breaks(unfenced, story, &[C]);
    ends_well_within(FREE, story);
}

#[test]
fn the_quarantine_outlives_its_file() {
    let story = "Clone, Contact(1), Commit(0), Publish(0), Contact(1), PBak(0), Commit(0), Kill(0), Stale, Contact(0), Kill(1)";
    breaks(without(Rule::HandOver), story, &[C]);
    ends_well(story);
}

/// The reader has already looked at the new stream when a copy of the old one comes whose `prev` fits.
#[test]
fn a_late_copy_of_an_older_incarnation_is_found_by_reading_the_offset_again() {
    let story =
        "PBak(0), Commit(0), Publish(0), Restore(0), Wipe, Contact(0), KConn(0), KLate(0:1)";
    breaks(without(Rule::OffsetAgain), story, &[B, D]);
    ends_well(story);
}

#[test]
fn events_that_live_delivery_skips_are_read_by_get() {
    breaks(without(Rule::ReadOn), "Commit(0), Publish(0)", &[B]);
    ends_well("Commit(0), Publish(0)");
}

#[test]
fn an_event_of_another_incarnation_is_refused_by_what_it_follows() {
    let story = "Clone, Commit(0), Publish(0), KLive(0:1), Delete, Contact(1), Commit(1), Publish(1), Commit(1), Publish(1), \
                 KLive(0:2)";
    let end = without(Rule::Prev).replay(&walk(story)).pop().unwrap();
    assert!(!Property::A.holds(&ALL_RULES, &end));
    ends_well(story);
}

/// Each leaves its log without a reason if the rule is missing.
#[test]
fn a_reader_reports_a_fork_only_if_its_producer_confirms_it() {
    let refilled = "Clone, Commit(0), Publish(0), Commit(0), Publish(0), Delete, Contact(1), Commit(1), Publish(1), KApply(0)";
    for (rule, story) in [
        (Rule::AskFirst, format!("{refilled}, KPast(0:1)")),
        (Rule::CopyProvesNothing, format!("{refilled}, KLate(0:2)")),
        (
            Rule::NothingYet,
            "Commit(0), Publish(0), KApply(0), KPast(0:0)".to_owned(),
        ),
    ] {
        let end = without(rule).replay(&walk(&story)).pop().unwrap();
        assert!(!Property::I.holds(&ALL_RULES, &end), "{rule:?}");
        ends_well(&story);
    }
}

/// A file that was rolled back unnoticed: with the broker there, the first look finds out before any write.
#[test]
fn no_write_comes_between_the_first_look_and_its_decision() {
    let bounds = BOUNDS.early(Early::Reachable);
    let story = "PBak(0), Commit(0), Publish(0), RestoreUnknown(0), Look(0)";
    let write = walk("Open(0), Commit(0), Contact(0)");
    let careless = Protocol::new(Rules::ALL.without(Rule::GateFirst), bounds);
    let forked = careless.replay(&[walk(story), write.clone()].concat());
    assert!(!Property::F.holds(&careless, forked.last().unwrap()));

    let careful = Protocol::new(Rules::ALL, bounds);
    let state = careful.replay(&walk(story)).pop().unwrap();
    assert!(careful.step(&state, write[0]).is_none() && careful.step(&state, write[1]).is_none());
    ends_well_within(bounds, story);
}

#[test]
fn an_unacknowledged_publish_is_found_by_the_next_contact() {
    let story = "Commit(0), Publish(0), Cut(0), Contact(0)";
    let end = ALL_RULES.replay(&walk(story)).pop().unwrap();
    assert_eq!(end.stream.unwrap().head(), 1);
    assert_eq!(ALL_RULES.step(&end, Action::Publish(0)), None);
    ends_well(story);
}
