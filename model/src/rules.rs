//! The rules of the protocol, each a switch. All are on unless a search turns one off to see what it is for.

use std::fmt;

/// One rule, or the part of one that can be left out by itself. S: service and relay, K: consumer, O: operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// S1. Row n is published with expected last sequence n-1, so that the broker refuses another writer's, a repeated or a missing number.
    ExpectedSequence,
    /// S1. The number in the acknowledgement must be the row's own (`relay/src/nats/publish.rs`; the second look at the same thing).
    AckNumber,
    /// S2. A new connection takes its position from the stream, because what was remembered may have been lost or overtaken.
    PositionFromStream,
    /// S2. The id at the stream's head must be the outbox row's of that number, because equal lengths are not equal logs.
    IdAtHead,
    /// S3. A publish dies with its connection, because one that lands later lands on a stream that its relay has not seen.
    NothingQueued,
    /// S4. Each creation of the stream draws a token that opens its write subject, so that who has not seen the new stream cannot write to it.
    Token,
    /// S5. A stream of a lower epoch is replaced: an older copy of it came back, or a new epoch has begun.
    Outdated,
    /// S5. A stream of a higher epoch means halt: the loser of a decision is recognised even on a common prefix.
    Superseded,
    /// S5. A new epoch is above the stream's, too, because an equal one does not replace it.
    NewIsAbove,
    /// S6. The contact is repeated on a timer, because a relay with nothing to publish would never notice another writer or a missing stream.
    Timer,
    /// S7. A process imports a longer stream at its first contact, because a restored file is the common reason for one.
    Import,
    /// S7. An import into a file not marked as restored raises an alarm, because then another writer wrote that tail.
    ImportAlarm,
    /// S7. If a stream grows after the first contact, another process publishes: halt.
    RivalHalts,
    /// S8. An empty stream that does not begin at the oldest kept row is recreated, because an empty stream matches any log.
    EmptyProvesNothing,
    /// S8. Trimming and pruning never remove the head, because the head's id is the only evidence whose log it is.
    HeadIsKept,
    /// S9. An import joins only on evidence: the id at the common number, or `prev` of the first kept message.
    ImportEvidence,
    /// S9. So does adopting.
    AdoptEvidence,
    /// S10. The gate is closed from before the first look until it is decided, because a write in between makes a fork of an import.
    GateFirst,
    /// K1. Effect and position are stored in one transaction.
    OneTransaction,
    /// K2. Every look reads the offset itself; the event there must be the one applied.
    OffsetItself,
    /// K3. Afterwards each event must have the next number.
    NextNumber,
    /// K3. Each event must name the applied one as the event before it, because a read does not say of which incarnation it is.
    Prev,
    /// K3. When the stream is trimmed exactly up to the offset, `prev` of its first message decides.
    Edge,
    /// K4. While the stream does not reach the offset, the producer is asked whether its log holds the position: no means fork.
    Ask,
    /// K4. A stream that reaches the offset but has nothing at it and nothing after it does not count as reaching it.
    NothingThere,
    /// K5. A stream that begins after the next event means: load a snapshot.
    Snapshot,
    /// K5. Every snapshot request carries the position, so that a trim cannot hide a fork.
    PositionTold,
    /// K4. Another event at the offset is a question for the producer, too, because a replica that lags answers for an older stream.
    AskFirst,
    /// K6. The look is repeated on a timer, because neither a get nor a live copy ends with its stream.
    LookAgain,
    /// K6. It reads the offset itself also when the incarnation is the same: a late copy of an older one may have been applied since.
    OffsetAgain,
    /// K7. What live delivery skips is read by get, also when no later copy shows the gap.
    ReadOn,
    /// K8. A copy that does not follow proves nothing: it may be late, or of an older incarnation.
    CopyProvesNothing,
    /// K8. A missing event below the head means a replica that is behind, neither a trim nor a fork.
    NothingYet,
    /// O1. Nothing is dropped before its bytes are saved.
    SaveFirst,
    /// O1. Events that only a decommissioned outbox holds are found by readable messages: a trimmed sequence proves nothing.
    SaveByMessages,
    /// O1. The quarantine of a decommissioned file is saved as well: it may be the only copy.
    HandOver,
    /// O1. A stream is closed before its tail is saved, so that nothing comes after what was saved.
    CloseFirst,
    /// O1. Only the incarnation that was saved is deleted, because another relay may have replaced it meanwhile.
    DeleteSame,
    /// O1. A stream behind the oldest kept row is saved, too, before it is recreated.
    SaveBehind,
}

/// Which rules hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules(u64);

impl Rules {
    pub const ALL: Self = Self(u64::MAX);

    pub const fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u64))
    }

    pub fn without_all(rules: &[Rule]) -> Self {
        rules
            .iter()
            .fold(Self::ALL, |rest, rule| rest.without(*rule))
    }

    pub const fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u64) != 0
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rules({:#x})", self.0)
    }
}
