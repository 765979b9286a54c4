//! A service as a program: what is its own is said once, and serving and every command use it alike.

pub(crate) mod args;
pub(crate) mod exit;
pub(crate) mod files;
pub(crate) mod service;
pub(crate) mod signals;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use relay::{
    Consumer, Database, Keys, KeysError, Nats, NatsReader, NatsStream, OpenError, Options,
    ReadOnly, Refusal,
};

use crate::auth::{Access, Limits, Token, TokenStore};
use crate::http::Routes;
use crate::machine::{check_clock, check_machine};
use crate::observe::logs::{start_logs, start_quiet_logs};
use crate::program::args::{About, CommonArgs, parse};
use crate::program::exit::{Outcome, on_disk_failure, run};
use crate::program::files::keep_files_private;
use crate::program::service::Service;
use crate::program::signals::stop_on_signal;

/// A service. Its settings are the value, read from the command line and the environment.
pub trait Program: Parser {
    const ABOUT: About;

    fn common(&self) -> &CommonArgs;

    /// What the database is for; the keys are those of [`keys`](Self::keys).
    fn options(&self) -> Options;

    /// The file of keys that seal parts of its events, if it has one.
    fn keys(&self) -> Option<PathBuf> {
        None
    }

    /// What it applies of other services' streams.
    fn consumers(&self) -> anyhow::Result<Vec<Consumer>> {
        Ok(Vec::new())
    }

    /// The tokens in its own database, in addition to those of the access file.
    fn token_store(&self, _: &Database) -> Option<Arc<dyn TokenStore>> {
        None
    }

    /// `consumers` are those above, at work: their status says how new it is what they have applied.
    fn routes(&self, db: &Database, consumers: &[Consumer]) -> anyhow::Result<Routes>;
}

/// Serves until told to stop, or does what the command line asks for instead.
pub fn main<P: Program>() -> ExitCode {
    keep_files_private();
    let (program, command) = parse::<P>();
    run(async {
        match command {
            None => Box::pin(serve(&program)).await.map(|()| Outcome::Done),
            Some(command) => {
                start_quiet_logs();
                Box::pin(command.run(&Parts::of(&program)?)).await
            }
        }
    })
}

/// Whatever can be refused is refused before the port is taken and the file is touched.
async fn serve<P: Program>(program: &P) -> anyhow::Result<()> {
    start_logs()?;
    check_clock()?;
    check_machine(&program.common().database)?;
    let stop = stop_on_signal();
    let parts = Parts::of(program)?;
    let (nats, retention) = (parts.nats()?, parts.common.retention());
    let access = Access::from_file(parts.common.access())?
        .limits(Limits::of(parts.common.max_requests_per_second));
    let listener = parts.common.bind().await?;
    let options = match parts.make_keys()? {
        Some(keys) => parts.options.clone().keys(keys),
        None => parts.options.clone(),
    };
    let db = parts.common.open(options).await?;
    let mut service = Service::new(&db)
        .keep(retention)
        .publish(parts.stream_of(&nats))
        .share(P::ABOUT.share, Token::from_env(P::ABOUT.read_token_env))
        .access(access.store(program.token_store(&db)));
    for consumer in &parts.consumers {
        service = service.apply(consumer.clone(), reader_of(consumer, &nats));
    }
    service
        .serve(program.routes(&db, &parts.consumers)?, listener, stop)
        .await
}

fn reader_of(consumer: &Consumer, nats: &Nats) -> NatsReader {
    nats.reader(consumer.stream())
}

/// What a program is put together from.
pub(crate) struct Parts {
    pub(crate) about: About,
    pub(crate) common: CommonArgs,
    /// Without keys, which nobody needs who only looks or copies.
    pub(crate) options: Options,
    pub(crate) keys: Option<PathBuf>,
    pub(crate) consumers: Vec<Consumer>,
}

impl Parts {
    fn of<P: Program>(program: &P) -> anyhow::Result<Self> {
        Ok(Self {
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

    pub(crate) fn database(&self) -> &Path {
        &self.common.database
    }

    /// The way to the broker. Nothing is connected yet.
    pub(crate) fn nats(&self) -> anyhow::Result<Nats> {
        self.common.nats(&self.about)
    }

    /// The way to the service's own stream.
    pub(crate) fn stream(&self) -> anyhow::Result<NatsStream> {
        Ok(self.stream_of(&self.nats()?))
    }

    fn stream_of(&self, nats: &Nats) -> NatsStream {
        let stream = nats.stream(self.about.stream);
        stream.max_bytes(self.common.max_stream_bytes)
    }

    /// The way of a consumer to its stream.
    pub(crate) fn reader(&self, consumer: &Consumer) -> anyhow::Result<NatsReader> {
        Ok(reader_of(consumer, &self.nats()?))
    }

    /// The keys, made when there are none and nothing is sealed yet.
    fn make_keys(&self) -> anyhow::Result<Option<Keys>> {
        let Some(path) = &self.keys else {
            return Ok(None);
        };
        if !path.exists()
            && let Some(key) = relay::key_in_use(self.database(), &self.options)?
        {
            let path = self.database().to_owned();
            let why = Refusal::KeyLost { key };
            return Err(OpenError { path, why }.into());
        }
        Ok(Some(Keys::open_or_create(path)?))
    }

    /// What the database is for, to a command that opens it: the keys must be there.
    pub(crate) fn options_with_keys(&self) -> Result<Options, KeysError> {
        let options = self.options.clone();
        match &self.keys {
            Some(path) => Ok(options.keys(Keys::open(path)?)),
            None => Ok(options),
        }
    }

    /// Opens the database as the service does, which must not run meanwhile.
    pub(crate) async fn open(&self) -> anyhow::Result<Database> {
        if !self.database().exists() {
            bail!("there is no database {}", self.database().display());
        }
        let opened = Database::open(self.database(), self.options_with_keys()?).await;
        match opened {
            Err(
                in_use @ OpenError {
                    why: Refusal::InUse { .. },
                    ..
                },
            ) => Err(in_use).with_context(|| format!("stop {} first", self.about.name)),
            opened => Ok(opened?),
        }
    }

    /// Opens the database to look at it, whether the service runs or not.
    pub(crate) async fn look(&self) -> Result<ReadOnly, OpenError> {
        ReadOnly::open(self.database(), &self.options).await
    }

    pub(crate) fn consumer(&self, name: &str) -> anyhow::Result<&Consumer> {
        let found = self.consumers.iter().find(|known| known.name() == name);
        found.with_context(|| {
            let about = self.about.name;
            match self.names() {
                known if known.is_empty() => format!("{about} has no consumers"),
                known => format!("{about} has no consumer {name}; it has {known}"),
            }
        })
    }

    /// The one that is meant, when there is only one.
    pub(crate) fn consumer_or_only(&self, name: Option<&str>) -> anyhow::Result<&Consumer> {
        match (name, &self.consumers[..]) {
            (Some(name), _) => self.consumer(name),
            (None, [only]) => Ok(only),
            (None, []) => bail!("{} has no consumers", self.about.name),
            (None, _) => bail!("say which one with --consumer: {}", self.names()),
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.consumers.iter().map(Consumer::name).collect();
        names.join(", ")
    }
}
