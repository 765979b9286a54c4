//! One step: which actions are possible, and what the world is after one.

use crate::actions::{Action, Who};
use crate::bounds::{Bounds, Doctrine};
use crate::ids::{IdSet, Ids};
use crate::rules::{Rule, Rules};
use crate::state::{Link, Mode, State};
use crate::{consumer, faults, operator, relay, service};

/// The protocol under some rules and bounds: all that a step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub rules: Rules,
    pub bounds: Bounds,
}

impl Protocol {
    pub const fn new(rules: Rules, bounds: Bounds) -> Self {
        Self { rules, bounds }
    }

    pub(crate) const fn has(&self, rule: Rule) -> bool {
        self.rules.has(rule)
    }

    /// The world after an action; nothing if it is not possible now or changes nothing.
    pub fn step(&self, before: &State, action: Action) -> Option<State> {
        let mut after = before.clone();
        self.act(&mut after, action)?;
        self.account(before, &mut after, action);
        let after = after.tidy();
        (after != *before).then_some(after)
    }

    /// All that may happen next: the protocol's and the operator's steps first, then what the world does.
    pub fn actions(&self, state: &State, found: &mut Vec<Action>) {
        self.own_actions(state, found);
        self.world_actions(state, found);
    }

    /// Nothing is left to do for the protocol or for the operator.
    pub fn at_rest(&self, state: &State) -> bool {
        if state.live().any(|writer| writer.mode == Mode::Halted) {
            return false;
        }
        let mut own = Vec::with_capacity(16);
        self.own_actions(state, &mut own);
        own.iter().all(|action| self.step(state, *action).is_none())
    }

    /// Nothing is left to do for the writers, the stream and the operator; the consumer cannot change them.
    pub fn writers_rest(&self, state: &State) -> bool {
        if state.live().any(|writer| writer.mode == Mode::Halted) {
            return false;
        }
        let mut own = Vec::with_capacity(8);
        self.writer_actions(state, &mut own);
        own.iter().all(|action| self.step(state, *action).is_none())
    }

    /// Steps of the protocol and of the operator.
    pub(crate) fn own_actions(&self, state: &State, found: &mut Vec<Action>) {
        self.writer_actions(state, found);
        found.push(Action::KConn);
        match state.consumer.link {
            Link::Open(_) => found.extend([Action::KApply, Action::KSave]),
            Link::Waiting => found.extend([Action::KAsk(0), Action::KAsk(1)]),
            Link::Forked => found.extend([Action::KFork(0), Action::KFork(1)]),
            Link::Trimmed => found.extend([Action::KSnap(0), Action::KSnap(1)]),
            Link::Down => {}
        }
    }

    fn writer_actions(&self, state: &State, found: &mut Vec<Action>) {
        for (who, writer) in (0..).zip(&state.writers) {
            let Some(writer) = writer else { continue };
            if writer.view.is_some() {
                found.push(Action::Publish(who));
            }
            if writer.queue.is_some() {
                found.push(Action::Land(who));
            }
            match writer.mode {
                Mode::Halted => found.extend([Action::Adopt(who), Action::New(who)]),
                _ => found.push(Action::Contact(who)),
            }
            if state.both_live() {
                found.push(Action::Kill(who));
            }
        }
    }

    /// Writes, copies, faults: what may happen but need not.
    pub(crate) fn world_actions(&self, state: &State, found: &mut Vec<Action>) {
        for (who, writer) in (0..).zip(&state.writers) {
            let Some(writer) = writer else { continue };
            match writer.mode {
                Mode::Started => found.push(Action::Open(who)),
                Mode::Early | Mode::Open => found.push(Action::Commit(who)),
                Mode::Halted => {}
            }
            found.push(Action::Prune(who));
        }
        if state.faults_left > 0 {
            self.faults(state, found);
        }
    }

    fn faults(&self, state: &State, found: &mut Vec<Action>) {
        for who in [0, 1] {
            found.extend([
                Action::PBak(who),
                Action::Restore(who),
                Action::RestoreUnknown(who),
                Action::Restart(who),
            ]);
        }
        found.extend([Action::SBak, Action::KBak]);
        found.extend([Action::Wipe, Action::OldBroker, Action::Delete]);
        found.extend([Action::Stale, Action::Clone, Action::RestoreConsumer]);
        if let Some(stream) = &state.stream {
            let messages = stream.messages.len();
            found.extend((1..=messages).map(Action::LoseTail));
            found.extend((stream.first + 1..=stream.head() + 1).map(Action::Trim));
        }
    }

    fn act(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Commit(who) => service::commit(state, who),
            Action::Open(who) => service::open_early(self, state, who),
            Action::Prune(who) => service::prune(self, state, who),
            Action::Contact(who) => relay::contact(self, state, who),
            Action::Publish(who) => relay::publish(self, state, who),
            Action::Land(who) => relay::land(self, state, who),
            Action::KConn => consumer::connect(self, state),
            Action::KApply => consumer::apply(self, state),
            Action::KSave => consumer::save(state),
            Action::KAsk(who) => consumer::ask(self, state, who),
            Action::KFork(who) => consumer::fork(state, who),
            Action::KSnap(who) => consumer::snapshot(self, state, who),
            Action::Adopt(who) => operator::adopt(self, state, who),
            Action::New(who) => operator::new_epoch(self, state, who),
            Action::Kill(who) => operator::kill(self, state, who),
            Action::PBak(_) | Action::SBak | Action::KBak => faults::back_up(self, state, action),
            _ => faults::strike(self, state, action),
        }
    }

    /// What an action destroyed, and who has seen what.
    fn account(&self, before: &State, after: &mut State, action: Action) {
        let held = after.held();
        if action.fault().is_some() {
            let gone = before.held().without(held);
            after.destroyed = after.destroyed.and(gone);
        }
        after.destroyed = after.destroyed.without(held);
        let applied = after.consumer.table.applied.set();
        after.seen = match action {
            Action::RestoreConsumer => applied,
            _ => after.seen.and(applied),
        };
        let counts = self.bounds.doctrine != Doctrine::StopFirst;
        if counts && matches!(action, Action::Adopt(_) | Action::New(_)) {
            after.decisions += 1;
        }
    }
}

/// Sets aside what `list` holds and `log` lacks, if the rule that asks for it holds.
pub(crate) fn set_aside(state: &mut State, list: Ids, log: IdSet, holds: bool) {
    if holds {
        state.saved = state.saved.and(list.set().without(log));
    }
}

/// A live writer, to be changed.
pub(crate) fn writer(state: &mut State, who: Who) -> Option<&mut crate::state::Writer> {
    state.writers.get_mut(usize::from(who))?.as_mut()
}
