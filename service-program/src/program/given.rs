//! The command line and the environment, read into a service's settings.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Subcommand, value_parser};

use crate::admin::command::Command;
use crate::process::logs::DEFAULT_FILTER;
use crate::settings::CommonArgs;
use crate::settings::about::About;
use crate::settings::owners::{Followed, Owners};

pub(super) struct Given<S> {
    pub(super) common: CommonArgs,
    /// The key file, if it is not at its default path.
    pub(super) keys: Option<PathBuf>,
    pub(super) owners: anyhow::Result<Owners>,
    /// The service's own.
    pub(super) settings: S,
    /// None to serve; or a command, and whether it answers in JSON.
    pub(super) command: Option<(Command, bool)>,
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

pub(super) fn read<S: Args>(
    about: &About,
    sealed: bool,
    followed: &Followed,
) -> Result<Given<S>, clap::Error> {
    let mut command_line = command_line::<S>(about, sealed, followed);
    let given = command_line.try_get_matches_from_mut(std::env::args_os())?;
    Ok(Given {
        common: CommonArgs::from_arg_matches(&given)?,
        keys: sealed.then(|| given.get_one("keys").cloned()).flatten(),
        owners: followed.read(&given),
        settings: S::from_arg_matches(&given)?,
        command: command(&given)?,
    })
}

fn command(given: &ArgMatches) -> Result<Option<(Command, bool)>, clap::Error> {
    let Some((_, of_command)) = given.subcommand() else {
        return Ok(None);
    };
    let command = Command::from_arg_matches(given)?;
    Ok(Some((command, of_command.get_flag("json"))))
}

fn command_line<S: Args>(about: &About, sealed: bool, followed: &Followed) -> clap::Command {
    let or_default = |arg: Arg, default: String| arg.required(false).default_value(default);
    let settings = clap::Command::new(about.name)
        .version(about.version)
        .after_help(environment(about));
    let settings = CommonArgs::augment_args(settings)
        .mut_arg("listen", |arg| or_default(arg, about.listen()))
        .mut_arg("database", |arg| or_default(arg, about.database()))
        .args(sealed.then(|| keys(about)))
        .args(followed.flags());
    let settings = S::augment_args(settings)
        .about(about.purpose)
        .mut_args(|arg| match SERVING.contains(&arg.get_id().as_str()) {
            true => arg,
            false => arg.global(true),
        });
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    let json = json.help("Answer in JSON, for programs").global(true);
    Command::augment_subcommands(settings)
        .subcommand_required(false)
        .mut_subcommands(|command| command.arg(json.clone()))
        .mut_subcommand("rotate-key", |command| command.hide(!sealed))
}

fn keys(about: &About) -> Arg {
    Arg::new("keys")
        .long("keys")
        .env(about.keys_variable())
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The keys that seal parts of its events; created if missing. Keep a copy of it, apart from the backups of the database [default: beside the database, with .keys after its name]")
}

/// The part of `--help` that clap does not generate.
fn environment(about: &About) -> String {
    let (name, password, read_token) = (
        about.name,
        about.password_variable(),
        about.read_token_variable(),
    );
    format!(
        "Environment only, since every user of the machine can read flags:
  {password}  The password of {name} at the broker. Required
  {read_token}  What other services send to load snapshots from {name}: at least 16 characters. Without it only those of the access file can
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
