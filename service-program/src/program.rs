//! A service as a program: it is declared once, and serving and every command use the declaration.

mod given;
pub(crate) mod parts;
#[cfg(feature = "testing")]
pub mod testing;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use relay::log::{Share, Sink};
use relay::rusqlite::{self, Connection};
use relay::{Consumer, Database, Event, Fold, Options};
use service_kit::process::machine::{check_clock, check_machine};
use service_kit::{Access, Limits, Routes, Token, TokenStore};

use crate::admin::setup::Setup;
use crate::process::exit::{Outcome, on_disk_failure, or_end, run};
use crate::process::files::keep_files_private;
use crate::process::logs::{start_logs, start_quiet_logs};
use crate::process::signals::stop_on_signal;
use crate::program::given::Given;
use crate::program::parts::Parts;
use crate::settings::CommonArgs;
use crate::settings::about::About;
use crate::settings::owners::{Followed, Owner, Owners};

/// A service, declared. `S` are the settings of its own, in addition to those that every service has.
///
/// Names follow from the declaration: a service of stream `PAYMENTS` reads its password at the broker from
/// `FREEHOLD_PAYMENTS_PASSWORD`, the token with which others load its snapshots from `FREEHOLD_PAYMENTS_READ_TOKEN`, and a
/// service that follows the stream finds its owner with `--payments-url`. The flags `--listen`, `--database`, `--keys` and
/// `--access` replace the address and the files of one process.
pub struct Service<S = ()> {
    about: About,
    options: Options,
    share: Share,
    sealed: bool,
    consumers: Vec<Consumer>,
    followed: Followed,
    tokens: Option<Tokens>,
    routes: Box<MakeRoutes<S>>,
}

type Tokens = fn(&Database) -> Arc<dyn TokenStore>;
type MakeRoutes<S> = dyn Fn(&App<S>) -> anyhow::Result<Routes>;

/// What a service's routes are made from, when it starts.
pub struct App<S = ()> {
    /// The database of the service, open and migrated.
    pub db: Database,
    /// The service's own settings.
    pub settings: S,
    /// Running: their status has their offset.
    consumers: Vec<Consumer>,
    owners: Owners,
}

impl Service {
    /// A service of this name, which is also its user at the broker, and the name of its database file. It answers at this
    /// port of this machine unless `--listen` says otherwise. Until it [emits](Self::emits), its stream is its name without
    /// `-service`, in capitals, and stays empty.
    pub fn new(name: &'static str, port: u16) -> Self {
        Self::with_settings(name, port)
    }
}

impl<S: Args + 'static> Service<S> {
    /// A service with settings of its own: flags and environment variables of [`clap`].
    pub fn with_settings(name: &'static str, port: u16) -> Self {
        let about = About::new(name, port);
        Self {
            options: Options::new(name, &about.stream, &[]).fold(Fold::nothing()),
            about,
            share: shares_nothing,
            sealed: false,
            consumers: Vec::new(),
            followed: Followed::default(),
            tokens: None,
            routes: Box::new(|_| Ok(Routes::default())),
        }
    }

    /// What it is for, to a reader of `--help` and of its documentation.
    #[must_use]
    pub fn about(mut self, purpose: &'static str) -> Self {
        self.about.purpose = purpose;
        self
    }

    /// The version that `--version` prints: `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.about.version = version;
        self
    }

    /// Its own tables: numbered migrations, final once released.
    #[must_use]
    pub fn tables(mut self, migrations: &[&str]) -> Self {
        self.options.migrations = migrations.iter().map(|sql| (*sql).to_owned()).collect();
        self
    }

    /// The events of its stream, which it alone writes, and how its tables follow from them. A [fold](Fold) of `E` imports the
    /// events that only the stream has, for a database that was restored or lost.
    #[must_use]
    pub fn emits<E: Event>(mut self, fold: Fold) -> Self {
        E::STREAM.clone_into(&mut self.about.stream);
        E::STREAM.clone_into(&mut self.options.stream);
        self.options.fold = Some(fold);
        self
    }

    /// Fills in, after the migrations of each opening, what SQL alone cannot.
    #[must_use]
    pub fn fill(mut self, fill: fn(&Connection) -> rusqlite::Result<()>) -> Self {
        self.options.fill = Some(fill);
        self
    }

    /// The rows of its snapshots, for services that keep a cache of them.
    #[must_use]
    pub fn shares(mut self, share: Share) -> Self {
        self.share = share;
        self
    }

    /// It seals parts of its events, with the keys of a file of its own.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.sealed = true;
        self
    }

    /// Applies another service's stream. The consumer asks the owner of the stream for snapshots, at the address in the flag
    /// that is named after the stream: `--orders-url` for ORDERS.
    #[must_use]
    pub fn follows(mut self, consumer: Consumer) -> Self {
        self.followed.add(consumer.stream());
        self.consumers.push(consumer);
        self
    }

    /// The port of this machine at which the owner of the stream is asked unless a flag says otherwise.
    #[must_use]
    pub fn owner<E: Event>(mut self, port: u16) -> Self {
        self.followed.at(E::STREAM, port);
        self
    }

    /// The tokens in its own database, in addition to those of the access file.
    #[must_use]
    pub fn tokens(mut self, tokens: fn(&Database) -> Arc<dyn TokenStore>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Its routes. `/livez`, `/readyz`, `/metrics` and `/docs` are added.
    #[must_use]
    pub fn routes(mut self, make: impl Fn(&App<S>) -> anyhow::Result<Routes> + 'static) -> Self {
        self.routes = Box::new(make);
        self
    }

    /// How its database is opened, without its keys.
    pub fn options(&self) -> Options {
        self.options.clone()
    }

    /// The consumers of other services' streams, without the owners that they ask.
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    /// Serves until it is stopped, or runs the command that the command line names.
    pub fn main(self) -> ExitCode {
        keep_files_private();
        let given: Given<S> = or_end(given::read(&self.about, self.sealed, &self.followed));
        run(async {
            match given.command {
                None => {
                    start_logs()?;
                    let served =
                        self.serve(given.common, given.keys, given.owners?, given.settings);
                    Box::pin(served).await.map(|()| Outcome::Done)
                }
                Some((command, json)) => {
                    start_quiet_logs();
                    let setup = self.setup(given.common, given.keys, &given.owners?)?;
                    Box::pin(command.run(&setup, json)).await
                }
            }
        })
    }

    /// What a declaration cannot mean.
    fn refuse_mistakes(&self) -> anyhow::Result<()> {
        let About { name, stream, .. } = &self.about;
        let mut names = BTreeSet::new();
        for consumer in &self.consumers {
            if consumer.stream() == stream {
                bail!(
                    "it owns {stream} and follows it, too: its own tables follow from its events by its fold"
                );
            }
            if !names.insert(consumer.name()) {
                bail!(
                    "{name} has two consumers {}: each keeps a position under its name, so rename one",
                    consumer.name()
                );
            }
        }
        Ok(())
    }

    fn setup(
        &self,
        common: CommonArgs,
        keys: Option<PathBuf>,
        owners: &Owners,
    ) -> anyhow::Result<Setup> {
        let asking = |consumer: &Consumer| match owners.get(consumer.stream()) {
            Some(owner) => owner.answers(consumer.clone()),
            None => Ok(consumer.clone()),
        };
        Ok(Setup {
            about: self.about.clone(),
            options: Options {
                on_disk_failure: on_disk_failure(),
                ..self.options()
            },
            keys: self.sealed.then(|| common.keys(keys)),
            common,
            consumers: self
                .consumers
                .iter()
                .map(asking)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Checks settings and machine before it binds the port and opens the file.
    async fn serve(
        self,
        common: CommonArgs,
        keys: Option<PathBuf>,
        owners: Owners,
        settings: S,
    ) -> anyhow::Result<()> {
        check_clock()?;
        check_machine(&common.database)?;
        let (stop, setup) = (stop_on_signal(), self.setup(common, keys, &owners)?);
        let (common, nats) = (&setup.common, setup.nats()?);
        let access = Access::from_file(common.access())?;
        let listener = common.listen.bind().await?;
        let app = App {
            db: setup.open().await?,
            settings,
            consumers: setup.consumers.clone(),
            owners,
        };
        let routes = self.checked_routes(&app).await?;
        let limits = Limits::of(common.max_requests_per_second);
        let mut parts = Parts::new(&app.db)
            .publish(setup.stream(&nats), common.retention())
            .share(self.share)
            .access(self.admitting(&app, access.limits(limits)));
        for consumer in &setup.consumers {
            parts = parts.apply(consumer.clone(), nats.reader(consumer.stream()));
        }
        parts.serve(routes, listener, stop).await
    }

    /// Besides those of the access file, callers with the read token or a token of the service's own.
    fn admitting(&self, app: &App<S>, access: Access) -> Access {
        let read_token = Token::from_env(&self.about.read_token_variable());
        app.warn_of_missing_tokens(&read_token);
        let access = access.read_token(read_token);
        match self.tokens {
            Some(tokens) => access.store(tokens(&app.db)),
            None => access,
        }
    }

    /// Its routes, unless a part of the service lacks its tables.
    async fn checked_routes(&self, app: &App<S>) -> anyhow::Result<Routes> {
        self.refuse_mistakes()?;
        for consumer in &app.consumers {
            consumer.check(&app.db).await?;
        }
        let About { name, purpose, .. } = self.about;
        let routes = Routes::new(name, purpose).merge((self.routes)(app)?);
        routes.check(&app.db).await?;
        Ok(routes)
    }
}

impl<S> App<S> {
    /// A consumer of this name that the service [follows](Service::follows) a stream with.
    ///
    /// # Errors
    ///
    /// The service has declared no such consumer.
    pub fn consumer(&self, name: &str) -> anyhow::Result<&Consumer> {
        let found = self.consumers.iter().find(|known| known.name() == name);
        found.with_context(|| format!("the service follows no stream with a consumer {name}"))
    }

    /// The owner of a followed stream, to ask it something of its API.
    ///
    /// # Errors
    ///
    /// Neither a flag nor the environment names its address.
    pub fn owner<E: Event>(&self) -> anyhow::Result<&Owner> {
        let found = self.owners.get(E::STREAM);
        found.with_context(|| format!("the address of the owner of {} is not set", E::STREAM))
    }

    fn warn_of_missing_tokens(&self, own: &Result<Token, String>) {
        if let Err(cure) = own {
            tracing::warn!(%cure, "services without a token in the access file can load no snapshot from this one");
        }
        for (stream, owner) in &self.owners {
            if let Err(cure) = &owner.token {
                tracing::warn!(%cure, "the owner of {stream} will refuse questions and requests for snapshots");
            }
        }
    }
}

/// What a service shares that declares nothing to share: a refusal, since an empty snapshot would empty its readers' caches.
fn shares_nothing(_: &Connection, _: &mut Sink<'_>) -> rusqlite::Result<()> {
    let why = "this service shares no snapshot of its state";
    Err(rusqlite::Error::ToSqlConversionFailure(why.into()))
}
