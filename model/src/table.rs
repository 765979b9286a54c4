//! Every rule with what happens without it: the named property, our shortest path, and the first model's.

use crate::bounds::{Bounds, Doctrine, Early, ONE_WRITER, TWO_WRITERS};
use crate::properties::Property::{self, A, B, C, D, E, F, G, H, I, L};
use crate::properties::SAFETY;
use crate::protocol::Protocol;
use crate::rules::{Rule, Rules};
use crate::search::{Effort, Outcome, counterexample, search};

/// One rule left out, or a pair of which each covers for the other.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The rule's name in the first model.
    pub name: &'static str,
    pub off: &'static [Rule],
    /// The property that fails in the first model.
    pub property: Property,
    /// The first model's counterexample: properties, steps, faults.
    pub first_model: &'static str,
    /// Our steps; none when a complete search within the bounds finds no counterexample.
    pub ours: Option<usize>,
    /// All kinds of faults, so that the path found is the shortest there is.
    pub wide: Bounds,
    /// Only the kinds in that path: the same length, found at once.
    pub narrow: Bounds,
    pub story: &'static str,
}

impl Case {
    /// Looks for the named property to fail, or, where none is expected to, for any.
    pub fn look(&self, protocol: Protocol, effort: Effort) -> Outcome {
        match self.ours {
            Some(_) => counterexample(protocol, self.property, effort),
            None => search(protocol, &SAFETY, effort),
        }
    }

    pub fn wide(&self) -> Protocol {
        Protocol::new(Rules::without_all(self.off), self.wide)
    }

    pub fn narrow(&self) -> Protocol {
        Protocol::new(Rules::without_all(self.off), self.narrow)
    }

    const fn decided(mut self) -> Self {
        self.wide = self.wide.doctrine(Doctrine::SurvivorLives);
        self.narrow = self.narrow.doctrine(Doctrine::SurvivorLives);
        self
    }

    const fn reachable(mut self) -> Self {
        self.wide = self.narrow.early(Early::Reachable);
        self.narrow = self.wide;
        self
    }

    const fn wide_in(mut self, bounds: Bounds) -> Self {
        self.wide = bounds;
        self
    }
}

/// A rule; the property asked for, the first model's result, our steps; commits, faults and kinds of the narrow search.
const fn case(
    name: &'static str,
    off: &'static [Rule],
    (property, first_model, ours): (Property, &'static str, usize),
    (commits, faults, kinds): (u8, u8, &str),
    story: &'static str,
) -> Case {
    Case {
        name,
        off,
        property,
        first_model,
        ours: Some(ours),
        wide: Bounds::new(commits, faults, TWO_WRITERS),
        narrow: Bounds::new(commits, faults, kinds),
        story,
    }
}

/// The broker's faults only: no writer may halt.
const BROKER: Bounds = Bounds::new(2, 1, "WTSDtcRl");

/// The rules whose counterexample is reproduced.
pub const CASES: &[Case] = &[
    case(
        "S1 + ack's number",
        &[Rule::ExpectedSequence, Rule::AckNumber],
        (B, "C E, 15, 2", 13),
        (2, 2, "Ct"),
        "clone and original fill the stream at once, each row lands twice, and the doubled log is adopted: its reader stands still",
    ),
    case(
        "S1",
        &[Rule::ExpectedSequence],
        (E, "C E, 15, 2", 18),
        (2, 3, "CDR"),
        "clone and original refill a deleted stream at once: a duplicate row is below a head that looks right",
    )
    .wide_in(Bounds::new(2, 3, "CDRWT")),
    case(
        "S1 + S3",
        &[Rule::ExpectedSequence, Rule::NothingQueued],
        (F, "L, 7, 1", 6),
        (2, 1, "WTSDtcR"),
        "a queued row 2 lands at number 1 of the emptied stream: a lost tail needs an operator",
    )
    .wide_in(BROKER),
    case(
        "S2 from memory",
        &[Rule::PositionFromStream],
        (C, "C E, 13, 2", 12),
        (3, 2, "CW"),
        "clone and wipe: the original remembers 1, and its row 2 lands on the clone's 1",
    ),
    case(
        "S2 numbers only",
        &[Rule::IdAtHead],
        (B, "B C D E, 11, 1", 7),
        (2, 1, "C"),
        "clone and original write one event each, the lengths are equal: all published",
    ),
    case(
        "S3",
        &[Rule::NothingQueued],
        (C, "C E, 14, 2", 12),
        (3, 2, "CT"),
        "clone, tail lost, queued rows of both land: row 2 on the other writer's 1, and the head check passes",
    ),
    case(
        "S4",
        &[Rule::Token],
        (C, "C E, 13, 2", 12),
        (3, 2, "CD"),
        "clone, stream deleted, the clone refills 1, the original's row 2 is accepted on top",
    ),
    case(
        "S4, operator",
        &[Rule::Token],
        (G, "G, 23, 1", 16),
        (3, 1, "C"),
        "the old process writes into the new epoch's stream: a second decision",
    )
    .decided(),
    case(
        "S5, operator",
        &[Rule::Superseded],
        (G, "G, 33, 1", 14),
        (3, 1, "C"),
        "the loser finds its own prefix in the half-filled stream and publishes its old tail",
    )
    .decided(),
    case(
        "S5, below",
        &[Rule::Outdated],
        (G, "-", 9),
        (3, 1, "C"),
        "a new epoch replaces nothing, and the survivor halts again",
    )
    .decided(),
    case(
        "S5, above",
        &[Rule::NewIsAbove],
        (G, "-", 18),
        (2, 2, "CP"),
        "the survivor's file is restored to before the new epoch: its next one equals the stream's and replaces nothing",
    )
    .decided(),
    case(
        "S6",
        &[Rule::Timer],
        (E, "E, 1, 1", 1),
        (1, 1, "D"),
        "the stream is deleted, and no look follows",
    ),
    case(
        "S6, rival",
        &[Rule::Timer],
        (D, "B C D E, 5, 1", 5),
        (2, 1, "C"),
        "a clone publishes while the original idles",
    ),
    case(
        "S7 import",
        &[Rule::Import],
        (F, "each restore needs an operator", 5),
        (2, 1, "P"),
        "each restore needs an operator",
    )
    .wide_in(Bounds::new(2, 1, "P")),
    case(
        "S7 alarm",
        &[Rule::ImportAlarm],
        (H, "H, 10, 2", 12),
        (2, 2, "CR"),
        "a clone writes in turn, the original restarts and imports quietly",
    ),
    case(
        "S7 halt and alarm",
        &[Rule::ImportAlarm, Rule::RivalHalts],
        (H, "H, 10, 1", 11),
        (2, 1, "C"),
        "two masters in turns",
    ),
    case(
        "S8 empty + K4 nothing there",
        &[Rule::EmptyProvesNothing, Rule::NothingThere],
        (B, "S8: B D, 13, 3", 13),
        (3, 3, "tTu"),
        "trimmed to one, that one lost, a restored writer's own row 1 matches an empty stream at 1",
    ),
    case(
        "S8 head",
        &[Rule::HeadIsKept],
        (C, "C, 16, 2", 14),
        (2, 3, "Ct"),
        "both heads are trimmed and pruned: two empty logs of one length take each other for their own",
    )
    .wide_in(Bounds::new(2, 3, TWO_WRITERS)),
    case(
        "S8 head + empty",
        &[Rule::HeadIsKept, Rule::EmptyProvesNothing],
        (C, "-", 7),
        (2, 2, "Ct"),
        "the other writer's row is trimmed, the own one with its number counts as published",
    ),
    case(
        "S9 import",
        &[Rule::ImportEvidence],
        (B, "B D, 17, 3", 12),
        (3, 2, "Ct"),
        "imported a tail whose beginning was trimmed onto another row 1",
    ),
    case(
        "S10",
        &[Rule::GateFirst],
        (F, "-", 8),
        (2, 1, "Pu"),
        "a file is rolled back unnoticed, and a write comes between the look and the import: a fork, with the broker there",
    )
    .reachable(),
    case(
        "K1",
        &[Rule::OneTransaction],
        (A, "A B, 5, 0", 5),
        (1, 0, ""),
        "the effect is stored, the position is not, the event is read again",
    ),
    case(
        "K2",
        &[Rule::OffsetItself],
        (B, "B, 11, 1", 14),
        (2, 1, "u"),
        "after a new epoch another event sits at the same number",
    ),
    case(
        "K3 prev",
        &[Rule::Prev],
        (A, "none", 11),
        (3, 2, "CD"),
        "stream deleted, the clone fills it otherwise, and the get of row 2, which shows no incarnation, is applied on the other row 1",
    ),
    case(
        "K3 gap",
        &[Rule::NextNumber, Rule::Prev],
        (A, "A, 6, 1", 6),
        (2, 1, "t"),
        "trimmed past the reader, unseen",
    )
    .wide_in(Bounds::new(2, 1, "WTSDtPuKCcR")),
    case(
        "K3 repeat",
        &[Rule::NextNumber, Rule::Prev],
        (A, "-", 4),
        (1, 0, "l"),
        "a live copy comes again, and is applied again",
    ),
    case(
        "K3 edge",
        &[Rule::Edge],
        (A, "A, 13, 2", 12),
        (3, 2, "Ct"),
        "another log goes on exactly after the trimmed offset",
    ),
    case(
        "K4",
        &[Rule::Ask],
        (B, "B, 9, 1", 13),
        (1, 1, "C"),
        "a new epoch shortens the log below the offset",
    ),
    case(
        "K4, silent",
        &[Rule::Ask],
        (D, "B D, 8, 2", 8),
        (1, 2, "WP"),
        "restored producer and lost stream: waits for ever",
    ),
    case(
        "K4 ask first",
        &[Rule::AskFirst],
        (I, "-", 9),
        (2, 2, "CDl"),
        "stream deleted and refilled otherwise; a replica that lags still has the other event at the offset: a fork that is none",
    ),
    case(
        "K5 not taken",
        &[Rule::Snapshot],
        (L, "L, 5, 1", 5),
        (2, 1, "t"),
        "trimmed past the reader: stuck",
    ),
    case(
        "K5 position not sent",
        &[Rule::PositionTold],
        (D, "D, 16, 3", 19),
        (3, 2, "Pt"),
        "\"trimmed\" hides a fork",
    ),
    case(
        "K6",
        &[Rule::LookAgain],
        (B, "B, 10, 1", 12),
        (1, 1, "C"),
        "a new epoch rebuilds the stream under a live reader",
    ),
    case(
        "K6, waiting",
        &[Rule::LookAgain],
        (D, "B D, 7, 2", 7),
        (1, 2, "DP"),
        "stream deleted, producer restored, the reader waits",
    ),
    case(
        "K6, offset",
        &[Rule::OffsetAgain],
        (B, "-", 8),
        (1, 2, "WPl"),
        "stream lost, producer restored to before the event; the reader has looked at the new stream, then the event's late copy comes",
    ),
    case(
        "K7",
        &[Rule::ReadOn],
        (B, "-", 2),
        (1, 0, ""),
        "the live copy of the last event is skipped, and nothing follows it",
    ),
    case(
        "K8 copy",
        &[Rule::CopyProvesNothing],
        (I, "-", 11),
        (3, 2, "CDl"),
        "a late copy of the older incarnation names another event than the one applied: a fork that is none",
    ),
    case(
        "K8 nothing yet",
        &[Rule::NothingYet],
        (I, "-", 4),
        (1, 0, "l"),
        "a replica that is behind has nothing at the offset, and the reader takes that for a trim",
    ),
    case(
        "O1",
        &[Rule::SaveFirst],
        (C, "C, 10, 1", 11),
        (1, 1, "C"),
        "a new epoch drops what only the stream held",
    ),
    case(
        "O1 by messages",
        &[Rule::SaveByMessages],
        (C, "C, 16, 3", 13),
        (2, 2, "Ct"),
        "a row the stream has trimmed counts as published when its outbox is decommissioned",
    ),
    case(
        "O1 behind",
        &[Rule::SaveBehind],
        (C, "C, 16, 3", 19),
        (3, 4, "tuWS"),
        "an older stream behind the oldest kept row is recreated unsaved",
    )
    .wide_in(Bounds::new(3, 4, "tuWS")),
    case(
        "O1 close",
        &[Rule::CloseFirst],
        (C, "-", 12),
        (2, 1, "C"),
        "after its tail is saved the loser publishes one more row and is stopped; the stream is deleted",
    )
    .decided(),
    case(
        "O1 same",
        &[Rule::DeleteSame],
        (C, "-", 20),
        (2, 3, "CP"),
        "two of one epoch replace the stream; the slower deletes the other's new one",
    )
    .wide_in(Bounds::new(2, 3, "CP")),
    case(
        "O1 hand over",
        &[Rule::HandOver],
        (C, "-", 11),
        (2, 2, "CK"),
        "the quarantine of a writer is lost with its file when that writer is stopped",
    ),
];

/// The rules without which a complete search finds none of the safety properties broken: other rules cover for them.
pub const COVERED: &[Case] = &[
    covered(
        "S8 empty",
        &[Rule::EmptyProvesNothing],
        (B, "B D, 13, 3"),
        (3, 3, ONE_WRITER),
    ),
    covered(
        "S9 adopt",
        &[Rule::AdoptEvidence],
        (B, "B D, 17, 3"),
        (3, 2, TWO_WRITERS),
    ),
    covered(
        "K3 number",
        &[Rule::NextNumber],
        (A, "not looked at"),
        (3, 2, TWO_WRITERS),
    ),
    covered(
        "K4 nothing there",
        &[Rule::NothingThere],
        (B, "not looked at"),
        (3, 3, ONE_WRITER),
    ),
];

const fn covered(
    name: &'static str,
    off: &'static [Rule],
    (property, first_model): (Property, &'static str),
    (commits, faults, kinds): (u8, u8, &str),
) -> Case {
    Case {
        name,
        off,
        property,
        first_model,
        ours: None,
        wide: Bounds::new(commits, faults, kinds),
        narrow: Bounds::new(2, 2, "CtTul"),
        story: "nothing found, by no property",
    }
}
