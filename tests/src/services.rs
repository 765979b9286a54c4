//! The real service binaries: built once, started with exactly the given settings, ready when they report that they listen.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::access;
use crate::cargo::cargo;
use crate::chance;
use crate::credentials::{Credentials, Password};
use crate::eventually::within;
use crate::http::{Api, UserApi};
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
    name: Cow<'static, str>,
    program: PathBuf,
    port: Port,
    logs: PathBuf,
    process: Option<Process>,
}

/// The folders and the broker of one system's services.
#[derive(Clone, Debug)]
pub struct Home {
    pub binaries: PathBuf,
    pub databases: PathBuf,
    pub logs: PathBuf,
    pub broker_url: String,
}

pub const USER_SERVICE: &str = "user-service";
pub const ORDERS_SERVICE: &str = "orders-service";
pub const DRIVER_APP: &str = "driver-app";
const PROGRAMS: [&str; 3] = [USER_SERVICE, ORDERS_SERVICE, DRIVER_APP];
/// Names a folder that holds the binaries; nothing is built then.
pub const BINARIES_VARIABLE: &str = "FREEHOLD_BIN_DIR";
/// The operator's name in the access file.
const OPERATOR: &str = "up";
/// Opening a damaged file may check the whole file.
const READY_DEADLINE: Duration = Duration::from_secs(60);
const READY_LINE: &str = "listening on http://";

impl Service {
    pub fn users(home: &Home, port: Port, credentials: &Credentials) -> io::Result<Service> {
        Ok(Service::new(USER_SERVICE, home, port, credentials)?
            .with_password("FREEHOLD_USERS_PASSWORD", &credentials.users)
            .with_password("FREEHOLD_USERS_READ_TOKEN", &credentials.users_read))
    }

    pub fn orders(
        home: &Home,
        port: Port,
        credentials: &Credentials,
        users_url: &str,
    ) -> io::Result<Service> {
        let mut service = Service::new(ORDERS_SERVICE, home, port, credentials)?
            .with_password("FREEHOLD_ORDERS_PASSWORD", &credentials.orders)
            .with_password("FREEHOLD_ORDERS_READ_TOKEN", &credentials.orders_read)
            .with_password("FREEHOLD_USERS_READ_TOKEN", &credentials.users_read);
        service.args = vec!["--users-url".to_owned(), users_url.to_owned()];
        Ok(service)
    }

    /// A driver's device. There may be many, so it has a name, and so have its file and its logs.
    pub fn device(name: &str, home: &Home, port: Port, orders_url: &str) -> Service {
        Service {
            args: vec!["--orders-url".to_owned(), orders_url.to_owned()],
            env: vec![],
            database: home.databases.join(format!("{name}.db")),
            broker_url: String::new(),
            // Unused: a device has no operator and accepts no token.
            operator: Password::generate(),
            name: Cow::Owned(name.to_owned()),
            program: home.binaries.join(DRIVER_APP),
            port,
            logs: home.logs.clone(),
            process: None,
        }
    }

    /// The access file is at its default path; it is set anyway, because a test may point the service at another database.
    fn new(
        name: &'static str,
        home: &Home,
        port: Port,
        credentials: &Credentials,
    ) -> io::Result<Service> {
        let database = home.databases.join(format!("{name}.db"));
        let access = database.with_added_extension("access");
        access::let_in(&access, OPERATOR, &credentials.operator)?;
        Ok(Service {
            args: vec![],
            env: vec![(
                "FREEHOLD_ACCESS".to_owned(),
                access.to_string_lossy().into_owned(),
            )],
            database,
            broker_url: home.broker_url.clone(),
            operator: credentials.operator.clone(),
            name: Cow::Borrowed(name),
            program: home.binaries.join(name),
            port,
            logs: home.logs.clone(),
            process: None,
        })
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
            program: self.program.clone(),
            port: Port::any()?,
            // The logs have the name of the service, so they need a folder of their own.
            logs: self.logs.join(format!("twin-{:x}", chance::number())),
            process: None,
        })
    }

    fn with_password(mut self, variable: &str, password: &Password) -> Service {
        self.env
            .push((variable.to_owned(), password.reveal().to_owned()));
        self
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

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

/// As the operator in the access file.
impl Api {
    pub fn of(service: &Service) -> Api {
        Api::new(service.url(), Some(service.operator.clone()))
    }
}

impl UserApi {
    pub fn of(service: &Service) -> UserApi {
        UserApi::new(service.url(), Some(service.operator.clone()))
    }
}

/// The folder with the binaries, built once per process so that no test runs yesterday's code.
pub fn binaries() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let find_or_build = || named_folder().unwrap_or_else(|| build(&own_folder()?));
    let built = BUILT.get_or_init(|| find_or_build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

/// The same, built with optimisations, however we were built.
pub fn optimised_binaries() -> Result<PathBuf> {
    named_folder().unwrap_or_else(|| build(&own_folder()?.with_file_name("release")))
}

fn named_folder() -> Option<Result<PathBuf>> {
    std::env::var_os(BINARIES_VARIABLE).map(|folder| complete(PathBuf::from(folder)))
}

fn own_folder() -> Result<PathBuf> {
    let us = std::env::current_exe().context("cannot determine the path of this program")?;
    let folder =
        profile_folder(&us).with_context(|| format!("{} is in no target folder", us.display()))?;
    Ok(folder.to_owned())
}

fn complete(folder: PathBuf) -> Result<PathBuf> {
    match PROGRAMS.iter().find(|name| !folder.join(name).is_file()) {
        Some(name) => bail!(
            "{BINARIES_VARIABLE} is {}, but there is no {name} in it",
            folder.display()
        ),
        None => Ok(folder),
    }
}

/// `target/debug` of `target/debug/xtask` and of `target/debug/deps/it-0123`: our own profile decides how they are built.
fn profile_folder(program: &Path) -> Option<&Path> {
    let folder = program.parent()?;
    let inner = folder
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples");
    if inner { folder.parent() } else { Some(folder) }
}

/// The profile of the folder `debug` is called `dev`.
fn profile_name(folder: &Path) -> Option<&str> {
    let name = folder.file_name()?.to_str()?;
    Some(if name == "debug" { "dev" } else { name })
}

/// cargo takes its own lock, so parallel test processes wait for one another. Its progress goes to our stderr.
fn build(folder: &Path) -> Result<PathBuf> {
    let (Some(profile), Some(target)) = (profile_name(folder), folder.parent()) else {
        bail!("{} is no profile folder", folder.display());
    };
    let status = cargo()
        .args(["build", "--profile", profile])
        .args(PROGRAMS.iter().flat_map(|program| ["--package", program]))
        .arg("--target-dir")
        .arg(target)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .status()
        .context("cargo does not run; without it, name a folder that holds the binaries with FREEHOLD_BIN_DIR")?;
    if !status.success() {
        bail!("the services do not build; cargo's own lines above say why");
    }
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binaries_are_expected_in_our_own_target_folder() {
        let folder = |program| profile_folder(Path::new(program)).and_then(Path::to_str);
        assert_eq!(
            folder("/w/target/debug/deps/it-0123"),
            Some("/w/target/debug")
        );
        assert_eq!(folder("/w/target/release/xtask"), Some("/w/target/release"));
        assert_eq!(
            folder("/w/target/debug/examples/x"),
            Some("/w/target/debug")
        );
        assert_eq!(profile_name(Path::new("/w/target/debug")), Some("dev"));
        assert_eq!(
            profile_name(Path::new("/w/target/release")),
            Some("release")
        );
    }

    #[test]
    fn a_named_folder_without_them_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = complete(folder.path().to_owned())
            .expect_err("empty")
            .to_string();
        assert!(
            refusal.contains("there is no user-service in it"),
            "{refusal}"
        );
    }
}
