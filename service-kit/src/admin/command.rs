//! The commands of an operator: the same program, the same settings, other work.

mod answer;
mod broker_config;
mod copies;
mod decide;
mod keys;
mod letters;
mod rebuild;
mod set_aside;
mod start_at;
mod status;
mod stream;
mod tokens;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::program::Parts;
use crate::program::exit::Outcome;
use answer::Answer;
use letters::Letters;
use start_at::Where;
use tokens::Tokens;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show how the database, its stream and the running service stand
    Status(Look),
    /// Compare the outbox with the stream, and each cache with its producer
    Verify(Look),
    /// Take a copy of the database, whether the service runs or not
    Backup {
        /// The file to make; a manifest is written beside it
        #[arg(value_name = "TO")]
        to: PathBuf,
        #[command(flatten)]
        look: Look,
    },
    /// Put a backup in the database's place, and take over what its stream holds more. The service must not run
    Restore {
        #[arg(value_name = "FROM")]
        from: PathBuf,
        #[command(flatten)]
        change: Change,
    },
    /// Decide a fork: follow the stream's line of events, set aside what only this file holds. The service must not run
    AdoptStream(Change),
    /// Decide a fork: keep this file's line of events, make the stream anew from it. The service must not run
    NewEpoch(Change),
    /// Load a consumer's cache anew from a snapshot of its producer
    Rebuild {
        #[arg(value_name = "CONSUMER")]
        consumer: String,
        #[command(flatten)]
        change: Change,
    },
    /// Let a consumer that cannot go on by itself go on elsewhere in its stream. The service must not run
    StartAt {
        #[arg(value_name = "CONSUMER")]
        consumer: String,
        /// `first` (the oldest event that the stream keeps), `now` (what comes next), or the sequence after which it goes on
        #[arg(value_name = "WHERE")]
        at: Where,
        #[command(flatten)]
        change: Change,
    },
    /// See the events that a consumer could not apply, let them back in, or give them up
    #[command(subcommand)]
    DeadLetter(Letters),
    /// List the events that were in a log once and are in none any more
    SetAside(Look),
    /// Make, list and take away the tokens with which operators and services come in
    #[command(subcommand)]
    Token(Tokens),
    /// Print the account file of this service for the broker, from what the program declares
    BrokerConfig(Look),
    /// Add a fresh key to the key file; what is sealed from the next start on is sealed with it
    RotateKey(Change),
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Answer in JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    look: Look,
}

impl Command {
    /// Does it and says on stdout what came of it.
    pub(crate) async fn run(self, parts: &Parts) -> anyhow::Result<Outcome> {
        let Look { json } = self.look();
        let answer = self.answer(parts).await?;
        answer.print(json)?;
        Ok(answer.outcome())
    }

    async fn answer(self, parts: &Parts) -> anyhow::Result<Answer> {
        match self {
            Self::Status(_) => status::status(parts).await,
            Self::Verify(_) => verify::verify(parts).await,
            Self::Backup { to, .. } => copies::take(parts, to).await,
            Self::Restore { from, change } if change.dry_run => copies::check(parts, from).await,
            Self::Restore { from, .. } => copies::restore(parts, from).await,
            Self::AdoptStream(change) => decide::adopt_stream(parts, change.dry_run).await,
            Self::NewEpoch(change) => decide::new_epoch(parts, change.dry_run).await,
            Self::Rebuild { consumer, change } if change.dry_run => {
                rebuild::plan(parts, &consumer).await
            }
            Self::Rebuild { consumer, .. } => rebuild::rebuild(parts, &consumer).await,
            Self::StartAt {
                consumer,
                at,
                change,
            } if change.dry_run => start_at::plan(parts, &consumer, at).await,
            Self::StartAt { consumer, at, .. } => start_at::start_at(parts, &consumer, at).await,
            Self::DeadLetter(letters) => letters.answer(parts).await,
            Self::SetAside(look) => set_aside::list(parts, look.json).await,
            Self::Token(tokens) => tokens.answer(parts),
            Self::BrokerConfig(_) => Ok(broker_config::print(parts)),
            Self::RotateKey(change) => keys::rotate(parts, change.dry_run).await,
        }
    }

    fn look(&self) -> Look {
        match self {
            Self::Status(look)
            | Self::Verify(look)
            | Self::SetAside(look)
            | Self::BrokerConfig(look) => *look,
            Self::Backup { look, .. } => *look,
            Self::Restore { change, .. }
            | Self::Rebuild { change, .. }
            | Self::StartAt { change, .. } => change.look,
            Self::AdoptStream(change) | Self::NewEpoch(change) | Self::RotateKey(change) => {
                change.look
            }
            Self::DeadLetter(letters) => letters.look(),
            Self::Token(tokens) => tokens.look(),
        }
    }
}
