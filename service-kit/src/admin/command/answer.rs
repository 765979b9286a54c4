//! What a command answers: for people short lines in two columns, for programs one JSON object.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anyhow::Context;
use jiff::{Timestamp, Unit};
use relay::{EventId, Position};
use serde_json::Value;

use crate::observe::output::print;
use crate::program::exit::Outcome;

/// What is said of an answer that stdout does not take.
pub(super) const NOT_PRINTED: &str =
    "the answer cannot be written to stdout (what the command did is done)";

/// Both at once; whoever asked sees one.
#[derive(Debug)]
pub(crate) struct Answer {
    lines: Vec<(String, String)>,
    /// Instead of the lines.
    only: Option<String>,
    json: Value,
    outcome: Outcome,
    /// It stands on stdout already.
    printed: bool,
}

impl Answer {
    pub(super) fn new(json: Value) -> Self {
        Self {
            lines: Vec::new(),
            only: None,
            json,
            outcome: Outcome::Done,
            printed: false,
        }
    }

    /// One that was too long to be kept, and was printed as it came.
    pub(super) fn printed() -> Self {
        Self {
            printed: true,
            ..Self::new(Value::Null)
        }
    }

    #[must_use]
    pub(super) fn line(mut self, label: impl Display, text: impl Display) -> Self {
        self.lines.push((label.to_string(), text.to_string()));
        self
    }

    /// One text and no column, for who pipes it on.
    #[must_use]
    pub(super) fn only(mut self, text: impl Display) -> Self {
        self.only = Some(format!("{text}\n"));
        self
    }

    #[must_use]
    pub(super) fn ends(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// `false`: its reader is gone.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<bool> {
        if self.printed {
            return Ok(true);
        }
        let text = match json {
            true => format!("{:#}\n", self.json),
            false => self.only.clone().unwrap_or_else(|| self.columns()),
        };
        print(&text).context(NOT_PRINTED)
    }

    fn columns(&self) -> String {
        let width = self.lines.iter().map(|(label, _)| label.chars().count());
        let width = width.max().unwrap_or(0);
        let line = |(label, text): &(String, String)| format!("{label:width$}  {text}\n");
        self.lines.iter().map(line).collect()
    }
}

/// `2026-11-22T18:30:00Z`
pub(super) fn moment(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok();
    let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.and_then(|at| at.round(Unit::Second).ok());
    at.map_or_else(|| "at an unknown time".to_owned(), |at| at.to_string())
}

/// `1042 (0199…)`, or `nothing`.
pub(super) fn place(at: Option<Position>) -> String {
    at.map_or_else(
        || "nothing".to_owned(),
        |Position { seq, id }| format!("{seq} ({id})"),
    )
}

pub(super) fn id_or_none(id: Option<EventId>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| id.to_string())
}

/// `1 event`, `2 events`
pub(super) fn count(of: u64, what: &str) -> String {
    match of {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

/// A line on the terminal that is written over and over, while somebody waits.
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let shown = std::io::stderr().is_terminal();
        Self { shown }
    }

    pub(super) fn show(&self, text: impl Display) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_two_columns() {
        let answer = Answer::new(Value::Null)
            .line("a", "one")
            .line("label", 2)
            .line("", "more");
        assert_eq!(answer.columns(), "a      one\nlabel  2\n       more\n");
        assert_eq!(Answer::new(Value::Null).columns(), "");
    }

    #[test]
    fn words_for_times_and_counts() {
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20Z");
        assert_eq!(moment(u64::MAX), "at an unknown time");
        assert_eq!(
            (count(1, "row"), count(0, "row")),
            ("1 row".into(), "0 rows".into())
        );
    }
}
