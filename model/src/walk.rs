//! A random walk through the model, as a list of actions that a test can replay in the library.

use std::fmt;
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::actions::{Action, UnknownAction};
use crate::bounds::Bounds;
use crate::protocol::Protocol;
use crate::rules::Rules;
use crate::state::State;

/// Actions in order, each possible where it stands. Prints as `Clone, Contact(1), Commit(1)` and reads that back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk(pub Vec<Action>);

/// Own steps that any walk must need at most to come to rest; more means that it goes in circles.
const PATIENCE: usize = 1_000;

impl Walk {
    /// So many actions under all rules, the same for the same seed and bounds. It is shorter only if nothing more
    /// is possible.
    pub fn draw(seed: u64, bounds: Bounds, steps: usize) -> Self {
        let protocol = Protocol::new(Rules::ALL, bounds);
        let mut random = SmallRng::seed_from_u64(seed);
        let mut state = State::first(&bounds);
        let mut walk = Vec::with_capacity(steps);
        while walk.len() < steps
            && let Some((action, next)) = any_step(&protocol, &state, &mut random)
        {
            walk.push(action);
            state = next;
        }
        Self(walk)
    }

    /// Adds steps of the protocol and the operator until nothing is left to do for them.
    ///
    /// # Panics
    /// If the walk is not possible under all rules, or does not come to rest.
    #[must_use]
    pub fn then_rest(mut self, seed: u64, bounds: Bounds) -> Self {
        let protocol = Protocol::new(Rules::ALL, bounds);
        let mut random = SmallRng::seed_from_u64(seed);
        let mut state = protocol.replay(&self.0).pop().expect("a first state");
        for _ in 0..PATIENCE {
            let Some((action, next)) = own_step(&protocol, &state, &mut random) else {
                return self;
            };
            self.0.push(action);
            state = next;
        }
        panic!("no rest after {PATIENCE} steps: {self}");
    }
}

/// Of ten steps seven are the protocol's or the operator's, two are writes and copies, one is a fault.
fn any_step(protocol: &Protocol, state: &State, random: &mut SmallRng) -> Option<(Action, State)> {
    let mut world = Vec::new();
    protocol.world_actions(state, &mut world);
    let (faults, writes): (Vec<_>, Vec<_>) = world.into_iter().partition(|it| it.fault().is_some());
    let drawn = match random.random_range(0..10) {
        0 => one_of(protocol, state, faults, random),
        1 | 2 => one_of(protocol, state, writes.clone(), random),
        _ => own_step(protocol, state, random),
    };
    drawn
        .or_else(|| own_step(protocol, state, random))
        .or_else(|| one_of(protocol, state, writes, random))
}

fn own_step(protocol: &Protocol, state: &State, random: &mut SmallRng) -> Option<(Action, State)> {
    let mut own = Vec::new();
    protocol.own_actions(state, &mut own);
    one_of(protocol, state, own, random)
}

fn one_of(
    protocol: &Protocol,
    state: &State,
    actions: Vec<Action>,
    random: &mut SmallRng,
) -> Option<(Action, State)> {
    let possible = |action| Some((action, protocol.step(state, action)?));
    let possible: Vec<_> = actions.into_iter().filter_map(possible).collect();
    possible.choose(random).cloned()
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, action) in self.0.iter().enumerate() {
            let before = if place == 0 { "" } else { ", " };
            write!(f, "{before}{action}")?;
        }
        Ok(())
    }
}

impl FromStr for Walk {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        let actions = text.split(',').filter(|part| !part.trim().is_empty());
        Ok(Self(actions.map(str::parse).collect::<Result<_, _>>()?))
    }
}
