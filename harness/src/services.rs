//! The real programs of services: started with exactly the given settings, ready when they report that they listen.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access;
use crate::chance;
use crate::credentials::{Credentials, Password};
use crate::declared::{Declared, variable};
use crate::eventually::within;
use crate::http::Api;
use crate::part::Part;
use crate::ports::Port;
use crate::process::{Launch, Process, StartError};

/// A service, running or not. Its port and its database stay the same for its life.
#[derive(Debug)]
pub struct Service {
    /// Added to the arguments at the next start; clap refuses a repeated flag, so add others only.
    pub args: Vec<String>,
    /// Set at the next start, after our own variables, so it overrides them: a wrong password, a log level.
    pub env: Vec<(String, String)>,
    /// The file it opens. A test may point it at another one.
    pub database: PathBuf,
    /// The broker's URL at its next start; empty for a program without a broker.
    pub broker_url: String,
    /// The token of its operator: the harness is one.
    pub operator: Password,
    name: String,
    stream: String,
    follows: Vec<String>,
    program: PathBuf,
    port: Port,
    logs: PathBuf,
    process: Option<Process>,
}

/// The folders and the broker of one system's services.
#[derive(Clone, Debug)]
pub struct Home {
    /// Where programs are that were built together.
    #[doc(hidden)] // For the platform's own World in tests/.
    pub binaries: PathBuf,
    /// Where their databases are.
    pub databases: PathBuf,
    /// Where their logs are.
    pub logs: PathBuf,
    /// The broker that they connect to.
    pub broker_url: String,
}

/// The operator's name in the access file.
const OPERATOR: &str = "up";
/// Opening a damaged file may check the whole file.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const READY_LINE: &str = "listening on http://";

impl Service {
    /// A service with its own password and token, whose operator is the harness.
    ///
    /// The access file is at its default path; it is set anyway, because a test may point the service at another database.
    pub fn new(
        declared: &Declared,
        program: PathBuf,
        home: &Home,
        port: Port,
        credentials: &Credentials,
    ) -> io::Result<Service> {
        let Declared { name, stream, .. } = declared;
        let mut service = Service::without_operator(name, program, home, port);
        let access = service.database.with_added_extension("access");
        access::let_in(&access, OPERATOR, credentials.operator())?;
        service.operator = credentials.operator().clone();
        service.broker_url.clone_from(&home.broker_url);
        stream.clone_into(&mut service.stream);
        let (password, token) = (credentials.password(stream), credentials.read_token(stream));
        Ok(service
            .with("FREEHOLD_ACCESS", &access.to_string_lossy())
            .with(&variable(stream, "PASSWORD"), password.reveal())
            .with(&variable(stream, "READ_TOKEN"), token.reveal()))
    }

    /// A program that has no broker and accepts no token. There may be many of one program, so each has a name, and so have
    /// its file and its logs.
    pub fn without_operator(name: &str, program: PathBuf, home: &Home, port: Port) -> Service {
        Service {
            args: vec![],
            env: vec![],
            database: home.databases.join(format!("{name}.db")),
            broker_url: String::new(),
            operator: Password::generate(), // unused
            name: name.to_owned(),
            stream: String::new(),
            follows: vec![],
            program,
            port,
            logs: home.logs.clone(),
            process: None,
        }
    }

    /// A second instance with the same settings and keys, on a database and a port of its own: a machine that was cloned.
    pub fn twin(&self, database: &Path) -> io::Result<Service> {
        let keys = self.database.with_added_extension("keys");
        if keys.exists() {
            std::fs::copy(keys, database.with_added_extension("keys"))?;
        }
        Ok(Service {
            args: self.args.clone(),
            env: self.env.clone(),
            database: database.to_owned(),
            broker_url: self.broker_url.clone(),
            operator: self.operator.clone(),
            name: self.name.clone(),
            stream: self.stream.clone(),
            follows: self.follows.clone(),
            program: self.program.clone(),
            port: Port::any()?,
            // The logs have the name of the service, so they need a folder of their own.
            logs: self.logs.join(format!("twin-{:x}", chance::number())),
            process: None,
        })
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn with(mut self, variable: &str, value: &str) -> Service {
        self.env.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// It follows this stream, whose owner is at this URL and takes this token.
    #[must_use]
    pub fn following(mut self, stream: &str, url: &str, token: &Password) -> Service {
        self.follows.push(stream.to_owned());
        self.with(&variable(stream, "URL"), url)
            .with(&variable(stream, "READ_TOKEN"), token.reveal())
    }

    /// Whether it reads this stream.
    pub fn follows(&self, stream: &str) -> bool {
        self.follows.iter().any(|followed| followed == stream)
    }

    /// The stream it owns; empty for a program without one.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The port where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its arguments, to serve or for a command.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![
            "--listen".into(),
            self.port.address().to_string().into(),
            "--database".into(),
            self.database.clone().into(),
        ];
        if !self.broker_url.is_empty() {
            arguments.extend(["--broker".into(), self.broker_url.clone().into()]);
        }
        arguments.extend(self.args.iter().map(OsString::from));
        arguments
    }
}

impl Part for Service {
    fn name(&self) -> &str {
        &self.name
    }

    fn launch(&self) -> Launch {
        let launch = Launch::of(&self.name, &self.program, &self.logs);
        let launch = self.arguments().into_iter().fold(launch, Launch::arg);
        self.env
            .iter()
            .fold(launch, |launch, (name, value)| launch.env(name, value))
    }

    async fn until_ready(&self, process: &mut Process) -> Result<(), StartError> {
        let api = Api::of(self);
        let listens = within(READY_DEADLINE, || {
            let ended = process.exit_status().is_some();
            let said = process.logs().stdout().contains(READY_LINE);
            let live = api.get("/livez");
            async move {
                // A full disk has no room for the line.
                match ended || said || live.await.is_success() {
                    true => Ok(!ended),
                    false => Err("it does not listen yet"),
                }
            }
        });
        let reason = match listens.await {
            Ok(true) => return Ok(()),
            Ok(false) => "ended at its start".to_owned(),
            Err(reason) => format!("was not ready within {READY_DEADLINE:?}: {reason}"),
        };
        Err(process.failed(&self.name, reason))
    }

    fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    fn slot(&mut self) -> &mut Option<Process> {
        &mut self.process
    }
}

/// Gives each service the address and the token of the owners that it follows. Each comes with the streams it follows; `others` are
/// owners beside them, by stream and address.
pub fn introduced(
    services: Vec<(Service, Vec<String>)>,
    others: Vec<(String, String)>,
    credentials: &Credentials,
) -> Vec<Service> {
    let owners = services.iter().map(|(it, _)| (it.stream.clone(), it.url()));
    let owners: Vec<_> = owners.chain(others).collect();
    let introduce = |(service, follows): (Service, Vec<String>)| {
        let followed = owners.iter().filter(|(stream, _)| follows.contains(stream));
        followed.fold(service, |service, (stream, url)| {
            service.following(stream, url, credentials.read_token(stream))
        })
    };
    services.into_iter().map(introduce).collect()
}

/// As the operator in the access file.
impl Api {
    /// Calls this service.
    pub fn of(service: &Service) -> Api {
        Api::new(service.url(), Some(service.operator.clone()))
    }
}
