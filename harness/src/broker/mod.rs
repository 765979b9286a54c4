//! A private nats-server with nats.conf and the accounts of its services: started, stopped, killed, restarted, and damaged.

mod admin;
mod config;
mod fetch;
mod locate;
mod store;
mod version;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use relay::Nats;

pub use config::{Settings, accounts_file, whole_config};
pub use fetch::python_packages;
pub use locate::{NatsServer, Refusal, Say, VARIABLE, inspect, nats_server};
pub use store::Block;
pub use version::{OLDEST, PINNED, Version};

use crate::credentials::Credentials;
use crate::declared::{Account, inbox};
use crate::eventually::within;
use crate::image::{self, Image};
use crate::observer::Observer;
use crate::part::Part;
use crate::ports::Port;
use crate::process::{Launch, Process, StartError};
use crate::wire::Login;

/// The broker of a world or of `cargo xtask up`, running or not. Its port and its store stay the same for its life.
#[derive(Debug)]
pub struct Broker {
    /// Its own, beside the store, unless a test sets another one.
    pub config: PathBuf,
    server: NatsServer,
    port: Port,
    store: PathBuf,
    logs: PathBuf,
    credentials: Credentials,
    /// The user that owns each stream.
    owners: BTreeMap<String, String>,
    /// The disk of the store, if it has one of its own.
    image: Option<Image>,
    process: Option<Process>,
}

/// Reading a large store may take a while; a server that is not ready by then never will be.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const NAME: &str = "nats-server";

impl Broker {
    /// For the owners of these accounts, whose passwords the credentials must hold. Writes its configuration beside the store.
    pub fn new(
        server: NatsServer,
        port: Port,
        store: PathBuf,
        logs: PathBuf,
        credentials: Credentials,
        accounts: &[Account],
    ) -> io::Result<Broker> {
        let config = store.with_extension("conf");
        fs::write(&config, whole_config(accounts))?;
        let owner = |it: &Account| (it.stream.clone(), it.user.clone());
        Ok(Broker {
            config,
            server,
            port,
            store,
            logs,
            credentials,
            owners: accounts.iter().map(owner).collect(),
            image: None,
            process: None,
        })
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Where it listens for clients.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The folder of its JetStream store.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The program that runs.
    pub fn server(&self) -> &NatsServer {
        &self.server
    }

    /// The passwords and tokens of its users.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Reads streams as the user `observer`.
    pub fn observer(&self) -> Observer {
        Observer::new(self.address(), self.credentials.observer().clone())
    }

    /// How the owner of this stream logs in.
    pub fn login(&self, stream: &str) -> Result<Login> {
        Ok(Login {
            user: self.owner_of(stream)?.to_owned(),
            password: self.credentials.password(stream).reveal().to_owned(),
            inbox: inbox(stream),
        })
    }

    /// The same for relay: publish and read as the owner of this stream.
    pub fn nats(&self, stream: &str) -> Result<Nats> {
        let user = self.owner_of(stream)?;
        let password = self.credentials.password(stream).reveal();
        Ok(Nats::new(&self.url(), user, password, &inbox(stream)))
    }

    fn owner_of(&self, stream: &str) -> Result<&str> {
        let owner = self.owners.get(stream);
        let owner = owner.with_context(|| format!("no account here owns stream {stream}"))?;
        Ok(owner)
    }

    /// From its next start on its configuration is changed so.
    pub fn change(&mut self, change: impl FnOnce(&mut Settings)) -> io::Result<()> {
        let mut settings = Settings::of(fs::read_to_string(&self.config)?);
        change(&mut settings);
        self.config = self.store.with_extension("conf");
        fs::write(&self.config, settings.text())
    }

    /// From its next start on its store is on a disk of its own, empty at first, and [`Broker::power_cut`] can cut that disk's
    /// power. Check [`image::available`] first.
    pub fn put_store_on_image(&mut self) -> io::Result<()> {
        assert!(
            !self.is_running(),
            "stop or kill the broker before its store moves"
        );
        self.image = Some(Image::create(self.store.with_extension("image"))?);
        Ok(())
    }

    /// Cuts the power: at the next start only flushed data is there. Its last answers may still be in flight.
    pub async fn power_cut(&mut self) -> io::Result<()> {
        let process = self.process.as_ref().expect("the broker runs");
        process.pause();
        process.until_paused().await?;
        self.image
            .as_mut()
            .expect("its store is on an image")
            .cut()?;
        self.kill();
        Ok(())
    }

    /// Flushes everything written so far, as the machine does by itself within half a minute.
    pub fn flush_store(&self) -> io::Result<()> {
        let pid = self.pid().expect("the broker runs");
        image::flush(pid, &self.store)
    }
}

impl Part for Broker {
    fn name(&self) -> &str {
        NAME
    }

    fn launch(&self) -> Launch {
        let launch = Launch::of(NAME, &self.server.program, &self.logs)
            .arg("-c")
            .arg(&self.config)
            .arg("-p")
            .arg(self.port.to_string())
            // nats-server reads the variable as a value of its configuration: a path with a blank needs its quotes.
            .env(
                "FREEHOLD_NATS_STORE",
                &format!("{:?}", self.store.to_string_lossy()),
            );
        let launch = self
            .credentials
            .environment()
            .fold(launch, |launch, (name, value)| launch.env(name, value));
        match &self.image {
            Some(image) => image.mounted(launch, &self.store),
            None => launch,
        }
    }

    /// Ready means: the observer can log in and JetStream answers for an account, so the passwords are right and every
    /// stream has been loaded.
    async fn until_ready(&self, process: &mut Process) -> Result<(), StartError> {
        let observer = self.observer();
        let answer = within(READY_DEADLINE, || {
            let ended = process.exit_status().is_some();
            let observer = &observer;
            async move {
                if ended {
                    Ok(Err("ended before it was ready".to_owned()))
                } else {
                    observer.jetstream_answers().await.map(Ok)
                }
            }
        });
        let reason = match answer.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(ended)) => ended,
            Err(reason) => format!("was not ready within {READY_DEADLINE:?}: {reason}"),
        };
        Err(process.failed(NAME, reason))
    }

    /// A stream whose file could not be written accepts nothing more, even once there is room again (2.15.1).
    fn needs_restart(&self) -> bool {
        self.log_tail(usize::MAX).contains("critical write error")
    }

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn slot(&mut self) -> &mut Option<Process> {
        &mut self.process
    }
}
