//! `cargo xtask new-service NAME`: a service from the template, with everything that names it.

mod followed;
mod names;
mod template;
mod workspace;

use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, value_parser};
use freehold_tests::paths;
use tempfile::TempDir;

use crate::new_service::followed::Declared;
use crate::new_service::names::Name;
use crate::new_service::template::{Values, format, render};
use crate::new_service::workspace::{MANIFEST, Service, Workspace};
use crate::say;

/// It makes NAME-events (what travels) and NAME-service: a table, an event, a keyed POST, a GET, a cache of what it follows, a
/// reaction, and a test with kills. Everything is refused, or everything is made.
#[derive(Debug, Args)]
pub(crate) struct NewService {
    /// What it owns, as a plural in small letters: payments
    name: String,
    /// One of them [default: NAME without its last s]
    #[arg(long)]
    item: Option<String>,
    /// The service whose stream it follows
    #[arg(long, value_name = "OWNER", default_value = "orders")]
    follows: String,
    /// Its port [default: the first from 7105 on that no service has]
    #[arg(long, value_parser = value_parser!(u16).range(1024..))]
    port: Option<u16>,
    /// Another workspace that gets it; if it does not exist, it is made, and uses this checkout
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Add lines to files that have uncommitted changes
    #[arg(long)]
    allow_dirty: bool,
}

/// What is made, checked.
struct Plan {
    name: Name,
    item: Name,
    service: Service,
    owner: Service,
    declared: Declared,
    /// NAME-events and NAME-service.
    folders: [String; 2],
}

const FIRST_PORT: u16 = 7105;
/// What a workspace elsewhere has of this one.
const SHARED: &str = "event-schema";

impl NewService {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let checkout = Workspace::open(paths::workspace())?;
        let target = self.target()?;
        let plan = match target.join(MANIFEST).is_file() {
            true => self.add(Workspace::open(&target)?, &checkout)?,
            false => self.create(&target, &checkout)?,
        };
        report(&plan, self.into.as_deref());
        Ok(ExitCode::SUCCESS)
    }

    /// The workspace, which may have to be made.
    fn target(&self) -> Result<PathBuf> {
        let (here, ours) = (env::current_dir()?, paths::workspace());
        if let Some(folder) = &self.into {
            return Ok(here.join(folder));
        }
        ensure!(
            here.starts_with(ours),
            "this is not {}: run it there, or name a workspace with --into",
            ours.display()
        );
        Ok(ours.to_owned())
    }

    fn add(&self, workspace: Workspace, checkout: &Workspace) -> Result<Plan> {
        let plan = self.plan(&[&workspace, checkout])?;
        workspace.refuse_taken(&plan.service, &plan.folders)?;
        if !self.allow_dirty {
            workspace.refuse_uncommitted()?;
        }
        let made = temporary(&workspace.root().join("target"))?;
        for folder in ["{{project-name}}-events", "{{project-name}}-service"] {
            let to = made
                .path()
                .join(folder.replace("{{project-name}}", plan.name.kebab()));
            render(&template().join(folder), &to, &plan.values())?;
        }
        format(made.path())?;
        workspace.add(&plan.service, made.path(), &plan.folders)?;
        Ok(plan)
    }

    /// A workspace of its own, with the versions of this one.
    fn create(&self, folder: &Path, checkout: &Workspace) -> Result<Plan> {
        let shown = folder.display();
        let is_free =
            !folder.exists() || fs::read_dir(folder).is_ok_and(|mut files| files.next().is_none());
        ensure!(
            is_free,
            "{shown} is neither empty nor a workspace with a {MANIFEST}: choose another folder"
        );
        let plan = self.plan(&[checkout])?;
        let parent = folder
            .parent()
            .context("a workspace needs a folder of its own")?;
        let made = temporary(parent)?;
        render(&template(), made.path(), &plan.values())?;
        format(made.path())?;
        fs::copy(
            checkout.root().join("Cargo.lock"),
            made.path().join("Cargo.lock"),
        )?;
        fs::rename(made.path(), folder).with_context(|| format!("cannot make {shown}"))?;
        Ok(plan)
    }

    /// Checks all that does not depend on where the service is put. The first workspace gets it.
    fn plan(&self, workspaces: &[&Workspace]) -> Result<Plan> {
        let name = Name::of_many(&self.name)?;
        let item = self
            .item
            .as_deref()
            .map_or_else(|| name.one(), Name::parse)?;
        let owner = |workspace: &&Workspace| {
            let mut services = workspace.services().into_iter();
            services.find(|service| service.is_called(&self.follows))
        };
        ensure!(
            self.follows != name.kebab(),
            "a service cannot follow itself: name another one with --follows"
        );
        let found = workspaces
            .iter()
            .find_map(|it| Some((it.root(), owner(it)?)));
        let (root, owner) = found.with_context(|| unknown_owner(&self.follows, workspaces))?;
        let declared = followed::find(&owner.stream, root)?;
        ensure!(
            root == workspaces[0].root() || declared.of_crate == SHARED,
            "{} is declared in {}, which that workspace does not have: follow another service",
            owner.stream,
            declared.of_crate
        );
        ensure!(
            item != declared.item,
            "both are called {}: say what one of the {} is called with --item",
            item.kebab(),
            name.kebab()
        );
        let port = self.free_port(workspaces)?;
        let here = workspaces[0].services().contains(&owner);
        let service = Service {
            name: format!("{}-service", name.kebab()),
            port,
            stream: name.shouty(),
            follows: here.then(|| owner.stream.clone()).into_iter().collect(),
        };
        let folders = ["events", "service"].map(|part| format!("{}-{part}", name.kebab()));
        Ok(Plan {
            name,
            item,
            service,
            owner,
            declared,
            folders,
        })
    }

    fn free_port(&self, workspaces: &[&Workspace]) -> Result<u16> {
        let taken: Vec<u16> = workspaces
            .iter()
            .flat_map(|it| it.services())
            .map(|it| it.port)
            .collect();
        let mut ports = FIRST_PORT..;
        let port = self
            .port
            .or_else(|| ports.find(|port| !taken.contains(port)));
        let port = port.context("no port is left: choose one with --port")?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            bail!("port {port} is in use on this machine: choose another one with --port");
        }
        Ok(port)
    }
}

impl Plan {
    fn values(&self) -> Values {
        let declared = &self.declared;
        let follows = self.owner.stream.to_lowercase();
        let names = Values::default()
            .with_name("project-name", &self.name)
            .with_name("item", &self.item)
            .with_name("followed", &declared.item)
            .with("follows | shouty_snake_case", &self.owner.stream)
            .with("follows | snake_case", &follows);
        names
            .with("port", self.service.port)
            .with("freehold", paths::workspace().display())
            .with("followed_event", &declared.events)
            .with("followed_variant", &declared.variant)
            .with("followed_type", &declared.event_type)
            .with("followed_data", &declared.data)
            .with("followed_crate", &declared.of_crate)
            .with(
                "followed_crate | snake_case",
                declared.of_crate.replace('-', "_"),
            )
            .with("followed_port", self.owner.port)
    }
}

fn template() -> PathBuf {
    paths::workspace().join("template")
}

/// What is made appears in its place at once, so it is made nearby, on the same disk.
fn temporary(parent: &Path) -> Result<TempDir> {
    fs::create_dir_all(parent)?;
    let made = tempfile::Builder::new()
        .prefix(".new-service-")
        .tempdir_in(parent);
    made.with_context(|| format!("cannot make a folder in {}", parent.display()))
}

fn unknown_owner(name: &str, workspaces: &[&Workspace]) -> String {
    let services = workspaces.iter().flat_map(|it| it.services());
    let names: Vec<_> = services
        .map(|it| it.stream.to_lowercase().replace('_', "-"))
        .collect();
    format!(
        "no service is called {name}: --follows takes one of {}",
        names.join(", ")
    )
}

fn report(plan: &Plan, into: Option<&Path>) {
    let [events, service] = &plan.folders;
    let (port, path) = (plan.service.port, plan.name.kebab());
    let (item, root) = (&plan.declared.item.snake(), plan.name.snake());
    say(&format!(
        "{events}: what travels on stream {}, which is {root}.recorded.v1",
        plan.service.stream
    ));
    say(&format!(
        "{service}: port {port}, follows {}; its routes are in src/http.rs",
        plan.owner.stream
    ));
    match into {
        None => say("Cargo.toml and freehold.toml name them"),
        Some(folder) => say(&format!("in {}", folder.display())),
    }
    say("");
    say(&format!("test it:  cargo test -p {events} -p {service}"));
    say("run it:   cargo xtask up");
    say(&format!(
        "call it:  curl -H \"authorization: Bearer $FREEHOLD_OPERATOR_TOKEN\" 'http://127.0.0.1:{port}/{path}?{item}_id=…'"
    ));
}
