//! A nats-server of our own, run with the workspace's nats.conf: started, stopped, killed, wiped, started again.

mod fetch;
mod locate;
mod version;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use locate::{NatsServer, Refusal, Say, VARIABLE, inspect, nats_server};
pub use version::{OLDEST, PINNED, Version};

use crate::credentials::{Credentials, Password};
use crate::eventually::within;
use crate::observer::Observer;
use crate::part::Part;
use crate::paths;
use crate::ports::Port;
use crate::process::{Launch, Process, StartError};
use crate::wire::Login;

/// The broker of a world or of `cargo xtask up`, running or not. Its port and its store stay the same for its life.
#[derive(Debug)]
pub struct Broker {
    /// The workspace's nats.conf, unless a test tries another one.
    pub config: PathBuf,
    server: NatsServer,
    port: Port,
    store: PathBuf,
    logs: PathBuf,
    credentials: Credentials,
    process: Option<Process>,
}

/// Reading a large store back may take a while; a server that is not ready by then never will be.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const NAME: &str = "nats-server";

impl Broker {
    pub fn new(
        server: NatsServer,
        port: Port,
        store: PathBuf,
        logs: PathBuf,
        credentials: Credentials,
    ) -> Broker {
        Broker {
            config: paths::nats_conf(),
            server,
            port,
            store,
            logs,
            credentials,
            process: None,
        }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn store(&self) -> &Path {
        &self.store
    }

    pub fn server(&self) -> &NatsServer {
        &self.server
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Reads streams as the user `observer`.
    pub fn observer(&self) -> Observer {
        Observer::new(self.address(), self.credentials.observer.clone())
    }

    /// How each user of nats.conf logs in.
    pub fn login(&self, user: User) -> Login {
        let (name, password, inbox) = user.parts(&self.credentials);
        Login {
            user: name.to_owned(),
            password: password.reveal().to_owned(),
            inbox: inbox.to_owned(),
        }
    }

    /// A lost disk. The broker must not run meanwhile.
    pub fn wipe_store(&mut self) -> io::Result<()> {
        assert!(
            !self.is_running(),
            "stop or kill the broker before its store is wiped"
        );
        match fs::remove_dir_all(&self.store) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
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
        self.credentials
            .environment()
            .into_iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value))
    }

    /// Ready means: the observer can log in and JetStream answers for an account, so the passwords are the right ones
    /// and every stream has been read back.
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

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn slot(&mut self) -> &mut Option<Process> {
        &mut self.process
    }
}

/// The users nats.conf knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Users,
    Orders,
    Observer,
}

impl User {
    /// Name, password, and the only inbox this user may listen to.
    fn parts(self, credentials: &Credentials) -> (&'static str, &Password, &'static str) {
        match self {
            User::Users => ("user-service", &credentials.users, "_INBOX_users"),
            User::Orders => ("orders-service", &credentials.orders, "_INBOX_orders"),
            User::Observer => ("observer", &credentials.observer, "_INBOX_observer"),
        }
    }
}
