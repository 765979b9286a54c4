//! Searches: every reachable state, breadth first, until a property fails or nothing is left.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property as Expected};

use crate::actions::Action;
use crate::properties::{Property, converged};
use crate::protocol::Protocol;
use crate::state::State;

/// What a search saw.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Different states.
    pub states: usize,
    /// The longest of the shortest paths to a state, in steps.
    pub depth: usize,
    pub took: Duration,
    /// Every state within the bounds was seen.
    pub complete: bool,
    /// The first properties found to fail, each with a path that ends where it does.
    pub broken: Vec<(Property, Vec<Action>)>,
}

/// How long a search may take and on how many threads. One thread finds the shortest path; more find some short path.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub threads: usize,
    pub at_most: Duration,
}

impl Effort {
    pub const fn seconds(seconds: u64) -> Self {
        Self {
            threads: 1,
            at_most: Duration::from_secs(seconds),
        }
    }

    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}

/// Looks for a shortest path to where one property fails.
pub fn counterexample(protocol: Protocol, property: Property, effort: Effort) -> Outcome {
    if property != Property::L {
        return search(protocol, property.alone(), effort);
    }
    let found = rest_is_reachable(&protocol);
    Outcome {
        states: found.states,
        depth: 0,
        took: found.took,
        complete: found.dead_end.is_none(),
        broken: found
            .dead_end
            .map(|path| (Property::L, path))
            .into_iter()
            .collect(),
    }
}

/// Looks at every reachable state for one where one of `properties` fails; stops at the first.
pub fn search(protocol: Protocol, properties: &'static [Property], effort: Effort) -> Outcome {
    let started = Instant::now();
    let deadline = Arc::new(Deadline::after(effort.at_most));
    let model = Search {
        protocol,
        properties,
        deadline: Arc::clone(&deadline),
    };
    let checker = model
        .checker()
        .threads(effort.threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    deadline.over.store(true, Relaxed);
    let found = |property: &Property| {
        let path = checker.discovery(property.name())?;
        Some((*property, path.into_actions()))
    };
    let broken: Vec<_> = properties.iter().filter_map(found).collect();
    let took = started.elapsed();
    Outcome {
        states: checker.unique_state_count(),
        depth: checker.max_depth() - 1,
        took,
        complete: broken.is_empty() && !deadline.cut.load(Relaxed),
        broken,
    }
}

/// All safety properties that fail in the state at the end of a path.
pub fn broken_at_end(protocol: &Protocol, path: &[Action]) -> Vec<Property> {
    let end = protocol.replay(path).last().cloned();
    let end = end.expect("a replay has its first state");
    let fails = |property: &Property| !property.holds(protocol, &end);
    crate::properties::SAFETY
        .into_iter()
        .filter(fails)
        .collect()
}

impl Protocol {
    /// The states along a path, the first one included.
    ///
    /// # Panics
    /// If an action is not possible where it stands.
    pub fn replay(&self, path: &[Action]) -> Vec<State> {
        let mut states = vec![State::first(&self.bounds)];
        for (count, action) in (1..).zip(path) {
            let next = self.step(&states[count - 1], *action);
            states.push(next.unwrap_or_else(|| panic!("step {count}, {action}, is not possible")));
        }
        states
    }
}

/// Property L: from how many states can none at rest be reached without further writes and faults?
#[derive(Clone, Debug)]
pub struct Liveness {
    pub states: usize,
    pub at_rest: usize,
    /// Shortest path into a dead end, if there is one.
    pub dead_end: Option<Vec<Action>>,
    pub took: Duration,
}

/// Explores everything, then walks back from the states at rest along the protocol's and the operator's own steps.
pub fn rest_is_reachable(protocol: &Protocol) -> Liveness {
    let started = Instant::now();
    let graph = Graph::explore(protocol);
    let reaches = graph.reaching_rest();
    let dead = reaches.iter().position(|reaches| !reaches);
    Liveness {
        states: graph.arrivals.len(),
        at_rest: graph.at_rest.len(),
        dead_end: dead.map(|at| graph.path_to(at)),
        took: started.elapsed(),
    }
}

/// All reachable states by number, in breadth-first order.
struct Graph {
    /// How each state was reached first.
    arrivals: Vec<Option<(usize, Action)>>,
    /// (from, to) by a step of the protocol or of the operator.
    own_steps: Vec<(usize, usize)>,
    at_rest: Vec<usize>,
}

impl Graph {
    fn explore(protocol: &Protocol) -> Self {
        let first = State::first(&protocol.bounds);
        let mut numbers = HashMap::from([(first.clone(), 0)]);
        let mut graph = Self {
            arrivals: vec![None],
            own_steps: Vec::new(),
            at_rest: Vec::new(),
        };
        let mut waiting = VecDeque::from([first]);
        for from in 0.. {
            let Some(state) = waiting.pop_front() else {
                break;
            };
            if converged(&state) && protocol.at_rest(&state) {
                graph.at_rest.push(from);
            }
            let mut actions = Vec::new();
            protocol.own_actions(&state, &mut actions);
            let own = actions.len();
            protocol.world_actions(&state, &mut actions);
            for (place, action) in actions.into_iter().enumerate() {
                let Some(next) = protocol.step(&state, action) else {
                    continue;
                };
                let to = *numbers.entry(next).or_insert_with_key(|next| {
                    graph.arrivals.push(Some((from, action)));
                    waiting.push_back(next.clone());
                    graph.arrivals.len() - 1
                });
                if place < own {
                    graph.own_steps.push((from, to));
                }
            }
        }
        graph
    }

    fn reaching_rest(&self) -> Vec<bool> {
        let mut before = vec![Vec::new(); self.arrivals.len()];
        for (from, to) in &self.own_steps {
            before[*to].push(*from);
        }
        let mut reaches = vec![false; self.arrivals.len()];
        let mut waiting = self.at_rest.clone();
        while let Some(state) = waiting.pop() {
            if !std::mem::replace(&mut reaches[state], true) {
                waiting.extend(&before[state]);
            }
        }
        reaches
    }

    fn path_to(&self, mut at: usize) -> Vec<Action> {
        let mut path = Vec::new();
        while let Some((from, action)) = self.arrivals[at] {
            path.push(action);
            at = from;
        }
        path.reverse();
        path
    }
}

/// The protocol as stateright sees it.
#[derive(Clone)]
struct Search {
    protocol: Protocol,
    properties: &'static [Property],
    deadline: Arc<Deadline>,
}

/// When a search has to end. stateright's own timeout does not reach a single thread, so the model itself stops
/// having actions.
struct Deadline {
    at: Instant,
    /// A state was left without its actions.
    cut: AtomicBool,
    /// The search is done; now paths are read back, which asks for actions again.
    over: AtomicBool,
}

impl Deadline {
    fn after(time: Duration) -> Self {
        Self {
            at: Instant::now() + time,
            cut: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    fn has_passed(&self) -> bool {
        if self.over.load(Relaxed) || Instant::now() < self.at {
            return false;
        }
        self.cut.store(true, Relaxed);
        true
    }
}

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(&self.protocol.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.deadline.has_passed() {
            self.protocol.actions(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.protocol.step(state, action)
    }

    fn properties(&self) -> Vec<Expected<Self>> {
        self.properties
            .iter()
            .map(|property| expected(*property))
            .collect()
    }
}

/// stateright takes plain functions, hence one for each letter.
fn expected(property: Property) -> Expected<Search> {
    type Check = fn(&Search, &State) -> bool;
    let check: Check = match property {
        Property::A => |it, state| Property::A.holds(&it.protocol, state),
        Property::B => |it, state| Property::B.holds(&it.protocol, state),
        Property::C => |it, state| Property::C.holds(&it.protocol, state),
        Property::D => |it, state| Property::D.holds(&it.protocol, state),
        Property::E => |it, state| Property::E.holds(&it.protocol, state),
        Property::F => |it, state| Property::F.holds(&it.protocol, state),
        Property::G => |it, state| Property::G.holds(&it.protocol, state),
        Property::H => |it, state| Property::H.holds(&it.protocol, state),
        Property::I => |it, state| Property::I.holds(&it.protocol, state),
        Property::L => |it, state| Property::L.holds(&it.protocol, state),
    };
    Expected::always(property.name(), check)
}
