//! One step: which actions are possible, and what the world is after one.

use crate::actions::{Action, Fault};
use crate::bounds::Doctrine;
use crate::protocol::Protocol;
use crate::state::{Link, Mode, State};
use crate::{consumer, faults, operator, relay, service};

impl Protocol {
    /// The world after an action; nothing if it is not possible now or changes nothing.
    pub fn step(&self, before: &State, action: Action) -> Option<State> {
        let after = self.untidied(before, action)?.tidy();
        (after != *before).then_some(after)
    }

    /// The same, with every id and token as it was named first.
    pub(crate) fn untidied(&self, before: &State, action: Action) -> Option<State> {
        let mut after = before.clone();
        self.act(&mut after, action)?;
        self.account(before, &mut after, action);
        Some(after)
    }

    /// All possible next actions: the protocol's and the operator's steps first, then the world's.
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

    /// Nothing is left to do for the writers, the stream and the operator; no consumer can change them.
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
        for (k, consumer) in (0..).zip(&state.consumers) {
            let Some(consumer) = consumer else { continue };
            found.push(Action::KConn(k));
            match consumer.link {
                Link::Open(_) => found.extend([Action::KApply(k), Action::KSave(k)]),
                Link::Waiting => found.extend([Action::KAsk(k, 0), Action::KAsk(k, 1)]),
                Link::Forked => found.extend([Action::KFork(k, 0), Action::KFork(k, 1)]),
                Link::Trimmed => found.extend([Action::KSnap(k, 0), Action::KSnap(k, 1)]),
                Link::Down => {}
            }
        }
    }

    fn writer_actions(&self, state: &State, found: &mut Vec<Action>) {
        if state.live().any(|writer| writer.mode == Mode::Halted) {
            found.extend([Action::Kill(0), Action::Kill(1)]);
        }
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
        }
    }

    /// Writes, copies, faults: possible, but not required. So may stopping a writer while no consumer waits for it.
    pub(crate) fn world_actions(&self, state: &State, found: &mut Vec<Action>) {
        if state.decisions > 0 {
            found.extend([Action::Kill(0), Action::Kill(1)]);
        }
        for (who, writer) in (0..).zip(&state.writers) {
            let Some(writer) = writer else { continue };
            match writer.mode {
                Mode::Started => found.extend([Action::Open(who), Action::Look(who)]),
                Mode::Early | Mode::Open => found.push(Action::Commit(who)),
                Mode::Halted => {}
            }
            found.push(Action::Prune(who));
            if self.bounds.kinds.has(Fault::Cut) {
                found.push(Action::Cut(who));
            }
        }
        if self.bounds.kinds.has(Fault::Live) {
            self.deliveries(state, found);
        }
        if state.faults_left > 0 {
            self.faults(state, found);
        }
    }

    /// Live copies, and replicas that are behind.
    fn deliveries(&self, state: &State, found: &mut Vec<Action>) {
        for (k, consumer) in (0..).zip(&state.consumers) {
            let Some(consumer) = consumer else { continue };
            if let (Link::Open(_), Some(stream)) = (consumer.link, &state.stream) {
                let places = stream.first..=stream.head();
                found.extend(places.map(|place| Action::KLive(k, place)));
            }
            found.push(Action::KPast(k, 0));
            for nth in 1..=state.gone.len() {
                found.extend([Action::KLate(k, nth), Action::KPast(k, nth)]);
            }
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
        found.extend([Action::SBak, Action::KBak(0), Action::KBak(1)]);
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
            Action::Commit(who) => service::commit(self, state, who),
            Action::Open(who) => service::open_early(self, state, who),
            Action::Prune(who) => service::prune(self, state, who),
            Action::Contact(who) => relay::contact(self, state, who),
            Action::Look(who) => relay::look(self, state, who),
            Action::Publish(who) => relay::publish(self, state, who),
            Action::Land(who) => relay::land(self, state, who),
            Action::KConn(k) => consumer::connect(self, state, k),
            Action::KPast(k, nth) => consumer::look_behind(self, state, k, nth),
            Action::KApply(k) => consumer::apply(self, state, k),
            Action::KLive(k, seq) => consumer::live(self, state, k, seq),
            Action::KLate(k, nth) => consumer::late(self, state, k, nth),
            Action::KSave(k) => consumer::save(state, k),
            Action::KAsk(k, who) => consumer::ask(self, state, k, who),
            Action::KFork(k, who) => consumer::fork(state, k, who),
            Action::KSnap(k, who) => consumer::snapshot(self, state, k, who),
            Action::Adopt(who) => operator::adopt(self, state, who),
            Action::New(who) => operator::new_epoch(self, state, who),
            Action::Kill(who) => operator::kill(self, state, who),
            Action::PBak(_) | Action::SBak | Action::KBak(_) => {
                faults::back_up(self, state, action)
            }
            _ => faults::strike(self, state, action),
        }
    }

    /// Records what an action destroyed, and which consumer has seen what.
    fn account(&self, before: &State, after: &mut State, action: Action) {
        let held = after.held();
        if action.fault().is_some() {
            let gone = before.held().without(held);
            after.destroyed = after.destroyed.and(gone);
        }
        if self.bounds.kinds.has(Fault::Live) && before.stream != after.stream {
            let (before, now) = (before.stream.as_ref(), after.stream.as_ref());
            after.gone.change(before, now);
        }
        after.destroyed = after.destroyed.without(held);
        for consumer in after.consumers.iter_mut().flatten() {
            consumer.seen = consumer.seen.and(consumer.table.applied.set());
        }
        let counts = self.bounds.doctrine != Doctrine::StopFirst;
        if counts && matches!(action, Action::Adopt(_) | Action::New(_)) {
            after.decisions += 1;
        }
    }
}
