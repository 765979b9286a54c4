//! The answer of a command: short lines in two columns for people, one JSON object for programs.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use anyhow::Context;
use jiff::{Timestamp, Unit};
use relay::log::{Origin, Position};
use serde_json::Value;

use crate::process::exit::Outcome;
use service_kit::process::output::print;

/// The error when stdout does not accept the answer.
pub(super) const NOT_PRINTED: &str =
    "cannot write the answer to stdout (what the command did is done)";

#[derive(Debug)]
pub(super) struct Answer {
    text: Text,
    json: Value,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
enum Text {
    /// Labels and texts.
    Lines(Vec<(String, String)>),
    /// A text without columns, to be piped on.
    Plain(String),
    /// The command has printed it already.
    Printed,
}

impl Answer {
    pub(super) fn new(json: Value) -> Self {
        Self {
            text: Text::Lines(Vec::new()),
            json,
            outcome: Outcome::Done,
        }
    }

    pub(super) fn plain(json: Value, text: &str) -> Self {
        Self {
            text: Text::Plain(format!("{text}\n")),
            ..Self::new(json)
        }
    }

    pub(super) fn printed() -> Self {
        Self {
            text: Text::Printed,
            ..Self::new(Value::Null)
        }
    }

    #[must_use]
    pub(super) fn line(self, label: impl Display, text: impl Display) -> Self {
        self.lines(label, [text])
    }

    /// A line for each text.
    #[must_use]
    pub(super) fn lines(
        mut self,
        label: impl Display,
        texts: impl IntoIterator<Item = impl Display>,
    ) -> Self {
        if let Text::Lines(lines) = &mut self.text {
            let texts = texts.into_iter();
            lines.extend(texts.map(|text| (label.to_string(), text.to_string())));
        }
        self
    }

    #[must_use]
    pub(super) fn ends(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// `false`: the reader has closed the pipe.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<bool> {
        let text = match &self.text {
            Text::Printed => return Ok(true),
            _ if json => format!("{:#}\n", self.json),
            Text::Plain(text) => text.clone(),
            Text::Lines(lines) => columns(lines),
        };
        print(&text).context(NOT_PRINTED)
    }
}

fn columns(lines: &[(String, String)]) -> String {
    let width = lines.iter().map(|(label, _)| label.chars().count());
    let width = width.max().unwrap_or(0);
    let line = |(label, text): &(String, String)| format!("{label:width$}  {text}\n");
    lines.iter().map(line).collect()
}

/// `2026-11-22T18:30:00Z`
pub(super) fn moment(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok();
    let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.and_then(|at| at.round(Unit::Second).ok());
    at.map_or_else(|| "at an unknown time".to_owned(), |at| at.to_string())
}

/// `1042 (0199…)`, or `nothing`.
pub(super) fn position(at: Option<Position>) -> String {
    let position = at.map(|Position { seq, id }| format!("{seq} ({id})"));
    position.unwrap_or_else(|| "nothing".to_owned())
}

pub(super) fn database(of: &Origin) -> String {
    format!("{}, epoch {}", of.database_id, of.epoch)
}

/// `1 event`, `2 events`
pub(super) fn count(of: u64, what: &str) -> String {
    match of {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

/// A line on the terminal that is overwritten while the command waits.
pub(super) struct Progress;

impl Progress {
    pub(super) fn show(&self, text: impl Display) {
        if std::io::stderr().is_terminal() {
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
        let line = |label: &str, text: &str| (label.to_owned(), text.to_owned());
        let lines = [line("a", "one"), line("label", "2"), line("", "more")];
        assert_eq!(columns(&lines), "a      one\nlabel  2\n       more\n");
        assert_eq!(columns(&[]), "");
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
