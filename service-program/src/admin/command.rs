//! The operator's commands: the same program, with the same settings, runs a command instead of serving.

mod answer;
mod broker_config;
mod copies;
mod decide;
mod describe;
mod keys;
mod letters;
mod quarantine;
mod rebuild;
mod start_at;
mod status;
mod stream;
mod tokens;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::admin::setup::Setup;
use crate::process::exit::Outcome;
use letters::Letters;
use start_at::Where;
use tokens::Tokens;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the state of the database, its stream and the running service
    Status,
    /// Compare the outbox with the stream, and each cache with its producer
    Verify,
    /// Copy the database, whether the service runs or not
    Backup {
        /// The file to create; a manifest is written next to it
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
    /// Replace the database with a backup, and import the events that only its stream holds. The service must not run
    Restore {
        #[arg(value_name = "FROM")]
        from: PathBuf,
        #[command(flatten)]
        change: Change,
    },
    /// Decide a fork: follow the stream and quarantine the events that only this file holds. The service must not run
    AdoptStream(Change),
    /// Decide a fork: keep this file's events and recreate the stream from it. The service must not run
    NewEpoch(Change),
    /// Reload a consumer's cache from a snapshot of its producer
    Rebuild {
        #[arg(value_name = "CONSUMER")]
        consumer: String,
        #[command(flatten)]
        change: Change,
    },
    /// Move a stopped consumer to another sequence of its stream. The service must not run
    StartAt {
        #[arg(value_name = "CONSUMER")]
        consumer: String,
        /// `first` (the oldest event that the stream keeps), `now` (what comes next), or the sequence of the last event that it need not apply
        #[arg(value_name = "WHERE")]
        at: Where,
        #[command(flatten)]
        change: Change,
    },
    /// List the events that a consumer could not apply, retry them or discard them
    DeadLetter(Letters),
    /// List the quarantined events, which no log holds any more
    #[command(alias = "set-aside")]
    Quarantine,
    /// Create, list and revoke the tokens of operators and other services
    #[command(subcommand)]
    Token(Tokens),
    /// Print the account file of this service for nats-server
    BrokerConfig,
    /// Print what the service declares, as JSON for programs that start it
    #[command(hide = true)]
    Describe,
    /// Add a key to the key file. After its next start the service seals with it
    RotateKey(Change),
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Print what the command would do, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Command {
    /// Runs the command and prints its answer.
    pub(crate) async fn run(self, setup: &Setup, json: bool) -> anyhow::Result<Outcome> {
        let answer = match self {
            Self::Status => status::status(setup).await?,
            Self::Verify => verify::verify(setup).await?,
            Self::Backup { to } => copies::backup(setup, to).await?,
            Self::Restore { from, change } => copies::restore(setup, from, change.dry_run).await?,
            Self::AdoptStream(change) => decide::adopt_stream(setup, change.dry_run).await?,
            Self::NewEpoch(change) => decide::new_epoch(setup, change.dry_run).await?,
            Self::Rebuild { consumer, change } => {
                rebuild::rebuild(setup, &consumer, change.dry_run).await?
            }
            Self::StartAt {
                consumer,
                at,
                change,
            } => start_at::start_at(setup, &consumer, at, change.dry_run).await?,
            Self::DeadLetter(letters) => letters.answer(setup).await?,
            Self::Quarantine => quarantine::list(setup, json).await?,
            Self::Token(tokens) => tokens.answer(&setup.common.access(), json)?,
            Self::BrokerConfig => broker_config::print(setup),
            Self::Describe => describe::describe(setup),
            Self::RotateKey(change) => keys::rotate(setup, change.dry_run).await?,
        };
        answer.print(json)?;
        Ok(answer.outcome)
    }
}
