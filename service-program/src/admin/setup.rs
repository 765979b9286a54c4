//! A service as its commands see it: its settings, its database, its stream and its consumers.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use relay::error::{OpenError, Refusal};
use relay::event::KeysError;
use relay::nats::{NatsReader, NatsStream};
use relay::operate::ReadOnly;
use relay::{Consumer, Database, Keys, Nats, Options};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::socket;
use crate::settings::CommonArgs;
use crate::settings::about::About;

pub(crate) struct Setup {
    pub(crate) about: About,
    pub(crate) common: CommonArgs,
    /// Without keys, which a command that only reads or copies does not need.
    pub(crate) options: Options,
    /// The key file.
    pub(crate) keys: Option<PathBuf>,
    pub(crate) consumers: Vec<Consumer>,
}

impl Setup {
    pub(crate) fn database(&self) -> &Path {
        &self.common.database
    }

    /// The broker, not yet connected.
    pub(crate) fn nats(&self) -> anyhow::Result<Nats> {
        self.common.nats(&self.about)
    }

    /// The service's own stream.
    pub(crate) fn stream(&self, nats: &Nats) -> NatsStream {
        let stream = nats.stream(&self.about.stream);
        stream.max_bytes(self.common.max_stream_bytes)
    }

    /// The stream of a consumer.
    pub(crate) fn reader(&self, consumer: &Consumer) -> anyhow::Result<NatsReader> {
        Ok(self.nats()?.reader(consumer.stream()))
    }

    /// Opens the database to serve, and makes it and its key file if there is none.
    pub(crate) async fn open(&self) -> anyhow::Result<Database> {
        self.refuse_lost_keys()?;
        let options = Options {
            open_without_stream: self.common.open_without_stream,
            ..self.with_keys(Keys::open_or_create)?
        };
        Ok(Database::open(self.database(), options).await?)
    }

    /// Fails if the key file is missing although events are sealed with its keys: a new file could not open them.
    fn refuse_lost_keys(&self) -> anyhow::Result<()> {
        if let Some(keys) = &self.keys
            && !keys.exists()
            && let Some(key) = relay::database::key_in_use(self.database(), &self.options)?
        {
            let path = self.database().to_owned();
            let why = Refusal::KeyLost { key };
            return Err(OpenError { path, why }.into());
        }
        Ok(())
    }

    /// The database's options, with the keys from its key file.
    pub(crate) fn with_keys(
        &self,
        open: impl FnOnce(&Path) -> Result<Keys, KeysError>,
    ) -> Result<Options, KeysError> {
        let options = self.options.clone();
        Ok(match &self.keys {
            Some(path) => options.keys(open(path)?),
            None => options,
        })
    }

    /// Opens the database read-only, whether the service runs or not.
    pub(crate) async fn read_only(&self) -> Result<ReadOnly, OpenError> {
        ReadOnly::open(self.database(), &self.options).await
    }

    /// Opens the database in place of the service, which must not run, and closes it even if the work fails.
    pub(crate) async fn exclusively<T>(
        &self,
        work: impl AsyncFnOnce(&Database) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if !self.database().exists() {
            bail!("there is no database {}", self.database().display());
        }
        let opened = Database::open(self.database(), self.with_keys(Keys::open)?).await;
        let db = match opened {
            Err(error) if matches!(error.why, Refusal::InUse { .. }) => {
                return Err(error).with_context(|| format!("stop {} first", self.about.name));
            }
            opened => opened?,
        };
        let done = work(&db).await;
        db.close().await;
        done
    }

    /// Asks the running service to do it; without one, this process does it.
    pub(crate) async fn by_service_or_here<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        here: impl AsyncFnOnce(&Database) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        match socket::find(self.database()).await? {
            Some((running, _)) => running.post(path, body).await,
            None => self.exclusively(here).await,
        }
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

    /// Without a name, the only consumer.
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
