//! `token new`, `token list`, `token revoke`: who may call the service. The commands edit the access file, so they work
//! whether the service runs or not, and a running service follows within a second.

use std::fmt;
use std::fs::{self, File};
use std::io::stdout;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use crate::admin::command::Change;
use crate::admin::command::answer::Answer;
use service_kit::access_file::{Entry, change, checked_name, listed_kind, look};
use service_kit::process::output::note;
use service_kit::{Kind, Token};

#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Create a token and print it. It is shown only now: the service stores its hash
    New {
        #[command(flatten)]
        holder: Holder,
        /// The token expires after so many days
        #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        expires_days: Option<u32>,
        #[command(flatten)]
        change: Change,
    },
    /// List the holders of tokens, and when each token expires
    List,
    /// Revoke a token
    Revoke {
        #[command(flatten)]
        holder: Holder,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Holder {
    /// `operator`: a person, or a person's program, that may do everything. `service`: another service, that may read
    /// what services share
    #[arg(value_name = "KIND", value_parser = listed_kind)]
    kind: &'static Kind,
    /// The holder's name. Each has one token; for a second one, such as while the first is replaced, use a second name
    #[arg(value_name = "NAME", value_parser = checked_name)]
    name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name, self.name)
    }
}

impl Tokens {
    pub(super) fn answer(self, path: &Path, json: bool) -> anyhow::Result<Answer> {
        match self {
            Self::New {
                holder,
                expires_days,
                change,
            } => {
                let expires = expires_days.map(in_days).transpose()?;
                create(path, holder, expires, change, json)
            }
            Self::List => list(path),
            Self::Revoke { holder, change } => revoke(path, &holder, change),
        }
    }
}

/// Prints only the token to stdout, so that it can be piped, and the explanation to stderr.
fn create(
    path: &Path,
    holder: Holder,
    expires: Option<Timestamp>,
    Change { dry_run }: Change,
    as_json: bool,
) -> anyhow::Result<Answer> {
    let (who, token) = (holder.to_string(), Token::draw(holder.kind.token_prefix));
    let entry = Entry {
        kind: holder.kind,
        name: holder.name,
        hash: token.hash(),
        expires,
    };
    let mut json = json_of(&entry);
    json["done"] = (!dry_run).into();
    if dry_run {
        refuse_second(&look(path)?, &entry)?;
        let what = format!("{who} to {}", path.display());
        return Ok(Answer::new(json).line("would add", what));
    }
    json["token"] = token.reveal().into();
    let answer = Answer::plain(json, token.reveal());
    change(path, |known, lines| {
        refuse_second(known, &entry)?;
        lines.push(entry.to_string());
        show(&answer, as_json)
    })
    .context("no token was made; one that was printed is not accepted")?;
    note(format_args!(
        "This is the token of {who}, shown this once; it is accepted within a second."
    ));
    Ok(Answer::printed())
}

/// Prints the token before its hash is stored: a token that no one has seen is useless and would still take its name.
fn show(answer: &Answer, json: bool) -> anyhow::Result<()> {
    if is_null(stdout()).unwrap_or(true) {
        bail!(
            "stdout is closed or /dev/null, so the token would be lost: send it to a terminal, a pipe or a file"
        );
    }
    match answer.print(json)? {
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
    let Entry { kind, name, .. } = new;
    if known.iter().any(|known| known.is(kind, name)) {
        let kind = kind.name;
        bail!("{kind} {name} has a token already: revoke it first, or take another name");
    }
    Ok(())
}

fn list(path: &Path) -> anyhow::Result<Answer> {
    let (entries, now) = (look(path)?, Timestamp::now());
    let tokens = entries.iter().map(|entry| {
        let mut json = json_of(entry);
        json["valid"] = entry.is_valid(now).into();
        json
    });
    let file = path.display().to_string();
    let json = json!({"file": file, "tokens": tokens.collect::<Value>()});
    let answer = Answer::new(json).line("file", &file);
    if entries.is_empty() {
        let none = "none, so no caller is let in: `token new operator NAME` makes one";
        return Ok(answer.line("tokens", none));
    }
    Ok(entries.iter().fold(answer, |answer, entry| {
        let expires = match entry.expires {
            None => "does not expire".to_owned(),
            Some(at) if entry.is_valid(now) => format!("expires {at}"),
            Some(at) => format!("expired {at}"),
        };
        answer.line(entry.kind.name, format!("{}, {expires}", entry.name))
    }))
}

fn json_of(entry: &Entry) -> Value {
    json!({
        "kind": entry.kind.name,
        "name": entry.name,
        "expires": entry.expires.map(|at| at.to_string()),
    })
}

fn revoke(path: &Path, of: &Holder, Change { dry_run }: Change) -> anyhow::Result<Answer> {
    let theirs = |entry: &Entry| entry.is(of.kind, &of.name);
    let known = |entries: &[Entry]| match entries.iter().any(theirs) {
        true => Ok(()),
        false => bail!("{of} has no token in {}", path.display()),
    };
    let json = json!({"done": !dry_run, "kind": of.kind.name, "name": of.name});
    let answer = Answer::new(json);
    if dry_run {
        known(&look(path)?)?;
        return Ok(answer.line("would revoke", of));
    }
    change(path, |entries, lines| {
        known(entries)?;
        lines.retain(|line| {
            !Entry::parse_line(line)
                .ok()
                .flatten()
                .is_some_and(|of| theirs(&of))
        });
        Ok(())
    })?;
    let what = format!("{of}; a running service refuses it within a second");
    Ok(answer.line("revoked", what))
}

/// To the second.
fn in_days(days: u32) -> anyhow::Result<Timestamp> {
    let later = SignedDuration::from_hours(24 * i64::from(days));
    Ok(Timestamp::now().checked_add(later)?.round(Unit::Second)?)
}
