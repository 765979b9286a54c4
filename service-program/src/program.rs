//! A service as a program: it declares its own parts once; serving and every command use the declaration.

pub(crate) mod service;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, FromArgMatches, Parser, Subcommand};
use relay::{Consumer, Database, Keys, Options};

use crate::admin::command::Command;
use crate::admin::setup::Setup;
use crate::process::exit::{Outcome, on_disk_failure, or_end, run};
use crate::process::files::keep_files_private;
use crate::process::logs::{DEFAULT_FILTER, start_logs, start_quiet_logs};
use crate::process::signals::stop_on_signal;
use crate::program::service::Service;
use crate::settings::{About, CommonArgs};
use service_kit::Routes;
use service_kit::process::machine::{check_clock, check_machine};
use service_kit::{Access, Limits, Token, TokenStore};

/// A service. Its settings are the value, read from the command line and the environment.
pub trait Program: Parser {
    const ABOUT: About;

    fn common(&self) -> &CommonArgs;

    /// How the database is opened, without the keys of [`keys`](Self::keys).
    fn options(&self) -> Options;

    /// The key file, if parts of its events are sealed.
    fn keys(&self) -> Option<PathBuf> {
        None
    }

    /// The consumers of other services' streams.
    fn consumers(&self) -> anyhow::Result<Vec<Consumer>> {
        Ok(Vec::new())
    }

    /// The tokens in its own database, in addition to those of the access file.
    fn token_store(&self, _: &Database) -> Option<Arc<dyn TokenStore>> {
        None
    }

    /// `consumers` are those of [`consumers`](Self::consumers), running: their status has their offset.
    fn routes(&self, db: &Database, consumers: &[Consumer]) -> anyhow::Result<Routes>;
}

/// Serves until it is stopped, or runs the command that the command line names.
pub fn main<P: Program>() -> ExitCode {
    keep_files_private();
    let (program, asked) = or_end(parse::<P>());
    run(async {
        match asked {
            None => Box::pin(serve(&program)).await.map(|()| Outcome::Done),
            Some((command, json)) => {
                start_quiet_logs();
                Box::pin(command.run(&setup(&program)?, json)).await
            }
        }
    })
}

/// The settings that only serving takes. A command takes the others, before its name or after it.
const SERVING: [&str; 8] = [
    "listen",
    "max_requests_per_second",
    "open_without_stream",
    "keep_events",
    "keep_days",
    "hold_readers",
    "help",
    "version",
];

/// Reads the settings, and the command if there is one with whether it answers in JSON, from the command line and the
/// environment.
fn parse<P: Program>() -> Result<(P, Option<(Command, bool)>), clap::Error> {
    let about = P::ABOUT;
    let or_default = |arg: Arg, default| arg.required(false).default_value(default);
    let settings = P::command()
        .name(about.name)
        .mut_arg("listen", |arg| or_default(arg, about.listen))
        .mut_arg("database", |arg| or_default(arg, about.database))
        .mut_args(|arg| match SERVING.contains(&arg.get_id().as_str()) {
            true => arg,
            false => arg.global(true),
        })
        .after_help(environment(&about));
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    let json = json.help("Answer in JSON, for programs").global(true);
    let given = Command::augment_subcommands(settings)
        .subcommand_required(false)
        .mut_subcommands(|command| command.arg(json.clone()))
        .mut_subcommand("rotate-key", |command| command.hide(!about.has_keys))
        .try_get_matches()?;
    let command = match given.subcommand() {
        Some((_, of_command)) => Some((
            Command::from_arg_matches(&given)?,
            of_command.get_flag("json"),
        )),
        None => None,
    };
    Ok((P::from_arg_matches(&given)?, command))
}

/// The part of `--help` that clap does not generate.
fn environment(about: &About) -> String {
    let About {
        name,
        password_env,
        read_token_env,
        ..
    } = about;
    format!(
        "Environment only, since every user of the machine can read flags:
  {password_env}  The password of {name} at the broker. Required
  {read_token_env}  What other services send to load snapshots from {name}: at least 16 characters. Without it only those of the access file can
  RUST_LOG  What to log, to stderr, as text on a terminal and as JSON elsewhere [default: {DEFAULT_FILTER}]

A flag wins over the environment, the environment over a default.

Exit codes:
  0  done; equal; healthy
  1  refused or failed; stderr says why
  2  the command line is not valid
  3  it differs; it is not healthy; events still wait for an operator
  4  unknown: a dependency did not respond"
    )
}

fn setup<P: Program>(program: &P) -> anyhow::Result<Setup> {
    Ok(Setup {
        about: P::ABOUT,
        common: program.common().clone(),
        options: Options {
            on_disk_failure: on_disk_failure(),
            ..program.options()
        },
        keys: program.keys(),
        consumers: program.consumers()?,
    })
}

/// Checks settings and machine before it binds the port and opens the file.
async fn serve<P: Program>(program: &P) -> anyhow::Result<()> {
    start_logs()?;
    check_clock()?;
    check_machine(&program.common().database)?;
    let (stop, setup) = (stop_on_signal(), setup(program)?);
    let (common, nats) = (&setup.common, setup.nats()?);
    let access = Access::from_file(common.access())?;
    let limits = Limits::of(common.max_requests_per_second);
    let listener = common.listen.bind().await?;
    setup.refuse_lost_keys()?;
    let options = Options {
        open_without_stream: common.open_without_stream,
        ..setup.with_keys(Keys::open_or_create)?
    };
    let db = Database::open(setup.database(), options).await?;
    let read_token = Token::from_env(P::ABOUT.read_token_env);
    if let Err(cure) = &read_token {
        tracing::warn!(%cure, "services without a token in the access file can load no snapshot from this one");
    }
    let access = access.limits(limits).read_token(read_token);
    let access = access.store(program.token_store(&db));
    let mut service = Service::new(&db)
        .publish(setup.stream(&nats), common.retention())
        .share(P::ABOUT.share)
        .access(access);
    for consumer in &setup.consumers {
        service = service.apply(consumer.clone(), nats.reader(consumer.stream()));
    }
    let routes = program.routes(&db, &setup.consumers)?;
    service.serve(routes, listener, stop).await
}
