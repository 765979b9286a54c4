//! `token new`, `token list`, `token revoke`: who may come in. All of it is the access file, so it works whether the
//! service runs or not, and a running one follows within a second.

use std::fs::{self, File};
use std::io::stdout;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::json;

use super::answer::Answer;
use super::{Change, Look};
use crate::auth::file::{Entry, Name, change, listed_kind, look};
use crate::auth::{Kind, Token};
use crate::observe::output::note;
use crate::program::Parts;

#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a token and print it, this once: only its hash is kept
    New {
        /// `operator`: a person, or a person's program, that may do everything. `service`: another service, that may read
        /// what services share
        #[arg(value_name = "KIND", value_parser = listed_kind)]
        kind: &'static Kind,
        /// Whose it is. Each has one token; for a second one, say while the first is replaced, take a second name
        #[arg(value_name = "NAME", value_parser = name)]
        name: Name,
        /// Take it for so many days and no longer
        #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_days: Option<u32>,
        #[command(flatten)]
        change: Change,
    },
    /// List who has a token, and until when
    List(Look),
    /// Take a token away
    Revoke {
        #[arg(value_name = "KIND", value_parser = listed_kind)]
        kind: &'static Kind,
        #[arg(value_name = "NAME", value_parser = name)]
        name: Name,
        #[command(flatten)]
        change: Change,
    },
}

fn name(text: &str) -> Result<Name, String> {
    text.parse()
}

impl Tokens {
    pub(super) fn look(&self) -> Look {
        match self {
            Self::List(look) => *look,
            Self::New { change, .. } | Self::Revoke { change, .. } => change.look,
        }
    }

    pub(super) fn answer(self, parts: &Parts) -> anyhow::Result<Answer> {
        let path = parts.common.access();
        match self {
            Self::New {
                kind,
                name,
                expires_days,
                change,
            } => make(&path, kind, name, expires_days, change),
            Self::List(_) => list(&path),
            Self::Revoke { kind, name, change } => revoke(&path, kind, &name, change.dry_run),
        }
    }
}

/// Whoever pipes the token on gets it and nothing else; the sentence about it goes to stderr.
fn make(
    path: &Path,
    kind: &'static Kind,
    name: Name,
    expires_days: Option<u32>,
    Change {
        dry_run,
        look: as_json,
    }: Change,
) -> anyhow::Result<Answer> {
    let token = Token::draw(kind.token_prefix);
    let expires = expires_days.map(in_days).transpose()?;
    let entry = Entry {
        kind,
        name,
        hash: token.hash(),
        expires,
    };
    if dry_run {
        refuse_second(&look(path)?, &entry)?;
        let json = json!({"done": false, "kind": kind.name, "name": entry.name.to_string()});
        let what = format!("{} {} to {}", kind.name, entry.name, path.display());
        return Ok(Answer::new(json).line("would add", what));
    }
    let json = json!({
        "done": true,
        "kind": kind.name,
        "name": entry.name.to_string(),
        "expires": expires.map(|at| at.to_string()),
        "token": token.reveal(),
    });
    let answer = Answer::new(json).only(token.reveal());
    change(path, |known, lines| {
        refuse_second(known, &entry)?;
        lines.push(entry.to_string());
        show(&answer, as_json.json)
    })
    .context("no token was made; one that was printed does not count")?;
    note(format_args!(
        "This is the token of {} {}, shown this once; it counts within a second.",
        kind.name, entry.name
    ));
    Ok(Answer::printed())
}

/// Before it counts: a token that no one has seen would be a way in for no one, and its name would be taken.
fn show(token: &Answer, json: bool) -> anyhow::Result<()> {
    if is_null(stdout()).unwrap_or(true) {
        bail!(
            "stdout is closed or /dev/null, so the token would be lost: let it go to a terminal, a pipe or a file"
        );
    }
    match token.print(json)? {
        true => Ok(()),
        false => bail!("the reader of stdout is gone, so the token would be lost"),
    }
}

/// A program whose stdout is closed at its start has `/dev/null` in its place.
fn is_null(file: impl AsFd) -> std::io::Result<bool> {
    let null = fs::metadata("/dev/null")?.rdev();
    let this = File::from(file.as_fd().try_clone_to_owned()?).metadata()?;
    Ok(this.rdev() == null)
}

fn refuse_second(known: &[Entry], new: &Entry) -> anyhow::Result<()> {
    if known.iter().any(|known| known.is(new.kind, &new.name)) {
        let Entry { kind, name, .. } = new;
        bail!(
            "{} {name} has a token already: revoke it first, or take another name",
            kind.name
        );
    }
    Ok(())
}

fn list(path: &Path) -> anyhow::Result<Answer> {
    let (entries, now) = (look(path)?, Timestamp::now());
    let json = entries.iter().map(|entry| {
        json!({
            "kind": entry.kind.name,
            "name": entry.name.to_string(),
            "expires": entry.expires.map(|at| at.to_string()),
            "valid": entry.is_valid(now),
        })
    });
    let json = json!({"file": path.display().to_string(), "tokens": json.collect::<Vec<_>>()});
    let answer = Answer::new(json).line("file", path.display());
    if entries.is_empty() {
        return Ok(answer.line(
            "tokens",
            "none, so nobody gets in: `token new operator NAME` makes one",
        ));
    }
    let fate = |entry: &Entry| match entry.expires {
        None => "does not expire".to_owned(),
        Some(at) if entry.is_valid(now) => format!("expires {at}"),
        Some(at) => format!("expired {at}"),
    };
    Ok(entries.iter().fold(answer, |answer, entry| {
        answer.line(entry.kind.name, format!("{}, {}", entry.name, fate(entry)))
    }))
}

fn revoke(path: &Path, kind: &Kind, name: &Name, dry_run: bool) -> anyhow::Result<Answer> {
    let of_theirs = |line: &str| {
        let entry = Entry::parse_line(line).ok().flatten();
        entry.is_some_and(|entry| entry.is(kind, name))
    };
    let known = |entries: &[Entry]| match entries.iter().any(|entry| entry.is(kind, name)) {
        true => Ok(()),
        false => bail!("{} {name} has no token in {}", kind.name, path.display()),
    };
    let json = json!({"done": !dry_run, "kind": kind.name, "name": name.to_string()});
    let answer = Answer::new(json);
    if dry_run {
        known(&look(path)?)?;
        return Ok(answer.line("would revoke", format!("{} {name}", kind.name)));
    }
    change(path, |entries, lines| {
        known(entries)?;
        lines.retain(|line| !of_theirs(line));
        Ok(())
    })?;
    let what = format!(
        "{} {name}; a running service turns it away within a second",
        kind.name
    );
    Ok(answer.line("revoked", what))
}

/// To the second: nobody counts further.
fn in_days(days: u32) -> anyhow::Result<Timestamp> {
    let later = SignedDuration::from_hours(24 * i64::from(days));
    Ok(Timestamp::now().checked_add(later)?.round(Unit::Second)?)
}
