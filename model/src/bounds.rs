//! How far a search goes: how many writes and faults, which faults, who decides and how.

use std::fmt;

use crate::actions::Fault;

/// The bounds of one search.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Events written, over all writers.
    pub commits: u8,
    /// Faults, of any kind allowed, in any order; `x` and `l` are not counted.
    pub faults: u8,
    /// Which kinds, by their letters: `W T S D t P u K C c R x l`.
    pub kinds: Kinds,
    pub doctrine: Doctrine,
    pub early: Early,
    /// One or two readers of the stream.
    pub consumers: u8,
}

/// How the operator chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doctrine {
    /// With two live writers one is stopped first; then the other adopts or begins a new epoch.
    StopFirst,
    /// Any choice by any halted writer, also contradictory, up to so many; stopping is not counted.
    Free(u8),
    /// The first who chooses is the survivor; it begins a new epoch while the other still runs.
    SurvivorLives,
}

/// May a service write before its first contact?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Early {
    Never,
    /// No, and the broker can be reached: what matters is whether a write may come during the first look (S10).
    Reachable,
    /// Yes, unless its file is marked as a copy: the decision taken for a broker that cannot be reached.
    Unmarked,
    Always,
}

/// Every fault that leaves one writer, and live copies as they come.
pub const ONE_WRITER: &str = "WTSDtPucRl";
/// Every fault that counts, and live copies as they come.
pub const TWO_WRITERS: &str = "WTSDtPuKCcRl";
/// The same, and connections are lost.
pub const ANYTHING: &str = "WTSDtPuKCcRlx";

impl Bounds {
    pub const fn new(commits: u8, faults: u8, kinds: &str) -> Self {
        Self {
            commits,
            faults,
            kinds: Kinds::of(kinds),
            doctrine: Doctrine::StopFirst,
            early: Early::Unmarked,
            consumers: 1,
        }
    }

    pub const fn doctrine(mut self, doctrine: Doctrine) -> Self {
        self.doctrine = doctrine;
        self
    }

    pub const fn early(mut self, early: Early) -> Self {
        self.early = early;
        self
    }

    pub const fn consumers(mut self, consumers: u8) -> Self {
        self.consumers = consumers;
        self
    }
}

/// A set of kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    const fn of(letters: &str) -> Self {
        let (letters, mut kinds, mut at) = (letters.as_bytes(), 0, 0);
        while at < letters.len() {
            kinds |= 1 << Fault::from_letter(letters[at]) as u16;
            at += 1;
        }
        Self(kinds)
    }

    pub(crate) const fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u16) != 0
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = ANYTHING.chars();
        letters
            .filter(|letter| self.has(Fault::from_letter(*letter as u8)))
            .try_for_each(|letter| write!(f, "{letter}"))
    }
}
