//! The protocol under some rules and bounds: everything that a step depends on.

use crate::actions::{Reader, Who};
use crate::bounds::Bounds;
use crate::rules::{Rule, Rules};
use crate::state::{Consumer, State, Writer};

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
}

/// A live writer, to be changed.
pub(crate) fn writer(state: &mut State, who: Who) -> Option<&mut Writer> {
    state.writers.get_mut(usize::from(who))?.as_mut()
}

/// A consumer, to be changed.
pub(crate) fn reader(state: &mut State, k: Reader) -> Option<&mut Consumer> {
    state.consumers.get_mut(usize::from(k))?.as_mut()
}
