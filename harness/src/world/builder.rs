//! Builds a world of any services.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use relay::Event;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::World;
use crate::broker::{self, Broker, Settings};
use crate::credentials::Credentials;
use crate::declared::{Account, Declared};
use crate::manifest::Manifest;
use crate::part::Part;
use crate::played::Played;
use crate::ports::Port;
use crate::services::{Home, Service, introduced};

/// Which services a world has, and what differs in its broker.
#[derive(Default)]
pub struct WorldBuilder {
    programs: Vec<PathBuf>,
    manifest: Option<Source>,
    played: BTreeSet<&'static str>,
    changes: Vec<Change>,
}

/// Which `freehold.toml`.
enum Source {
    Nearest,
    File(PathBuf),
}
/// A change of the broker's settings.
type Change = Box<dyn FnOnce(&mut Settings) + Send>;

/// A service that is to be started.
type Program = (Declared, PathBuf);

impl WorldBuilder {
    /// Adds a service by its program, such as `env!("CARGO_BIN_EXE_payments-service")`. It says itself what it is called, owns and
    /// follows (`PROGRAM describe`), and what its account is (`PROGRAM broker-config`).
    #[must_use]
    pub fn service(mut self, program: impl Into<PathBuf>) -> WorldBuilder {
        self.programs.push(program.into());
        self
    }

    /// Adds every service of the nearest `freehold.toml`, built by cargo, except those whose program was given and those whose
    /// stream the test plays.
    #[must_use]
    pub fn manifest(mut self) -> WorldBuilder {
        self.manifest = Some(Source::Nearest);
        self
    }

    /// The same of this file.
    #[must_use]
    pub fn manifest_file(mut self, file: impl Into<PathBuf>) -> WorldBuilder {
        self.manifest = Some(Source::File(file.into()));
        self
    }

    /// The test itself is the owner of this stream: [`World::emit`] publishes its events. It answers no requests for snapshots.
    #[must_use]
    pub fn plays<E: Event>(mut self) -> WorldBuilder {
        self.played.insert(E::STREAM);
        self
    }

    /// Changes the broker's configuration before its start.
    #[must_use]
    pub fn broker(mut self, change: impl FnOnce(&mut Settings) + Send + 'static) -> WorldBuilder {
        self.changes.push(Box::new(change));
        self
    }

    /// Starts broker, played services and services, in this order.
    ///
    /// Panics with the reason when a part does not start.
    pub async fn start(self) -> World {
        let started = Box::pin(self.try_start()).await;
        started.unwrap_or_else(|error| panic!("the world does not start: {error:#}"))
    }

    async fn try_start(self) -> Result<World> {
        let programs = find_programs(&self.programs, self.manifest, &self.played).await?;
        let played: Vec<_> = self.played.iter().map(|it| Played::declared(it)).collect();
        can_be_one_world(&programs, &played)?;
        let mut accounts: Vec<_> = played.iter().map(Declared::account).collect();
        for (declared, program) in &programs {
            accounts.push(declared.account_by(program).await?);
        }
        let mut world = empty(&accounts).await?;
        for change in self.changes {
            world.broker.change(change)?;
        }
        world.broker.start().await?;
        for declared in &played {
            let nats = world.broker.nats(&declared.stream)?;
            let played = Played::start(declared, world.folder(), nats).await?;
            world.played.push(played);
        }
        world.services = assemble(&world, programs)?;
        for service in &mut world.services {
            service.start().await?;
        }
        Ok(world)
    }
}

async fn find_programs(
    given: &[PathBuf],
    manifest: Option<Source>,
    played: &BTreeSet<&str>,
) -> Result<Vec<Program>> {
    let mut found = Vec::new();
    for program in given {
        found.push((Declared::by(program).await?, program.clone()));
    }
    if let Some(source) = manifest {
        let all = spawn_blocking(|| source.read()?.programs()).await??;
        let given: BTreeSet<_> = found.iter().map(|(it, _)| it.name.clone()).collect();
        let wanted = all.into_iter().filter(|(declared, _)| {
            !given.contains(&declared.name) && !played.contains(&*declared.stream)
        });
        for (declared, program) in wanted {
            // The program says what it follows: the final check covers that, and freehold.toml may be out of date.
            found.push((declared.confirmed_by(&program).await?, program));
        }
    }
    Ok(found)
}

impl Source {
    fn read(self) -> Result<Manifest> {
        match self {
            Source::Nearest => Manifest::nearest(),
            Source::File(file) => Manifest::read(&file),
        }
    }
}

/// Else the declaration that is in the way, and what to do.
fn can_be_one_world(programs: &[Program], played: &[Declared]) -> Result<()> {
    let all = || programs.iter().map(|(declared, _)| declared).chain(played);
    let (mut names, mut streams) = (BTreeSet::new(), BTreeSet::new());
    for Declared { name, stream, .. } in all() {
        ensure!(
            names.insert(name),
            "two services are called {name}: add it once"
        );
        ensure!(
            streams.insert(stream),
            "two services own stream {stream}: leave one out, or do not play it"
        );
    }
    for Declared { name, follows, .. } in all() {
        if let Some(stream) = follows.iter().find(|stream| !streams.contains(stream)) {
            bail!(
                "{name} follows {stream}, which no service here owns: add its owner with .service(…) or .manifest(), or play it with .plays::<…>()"
            );
        }
    }
    Ok(())
}

/// A broker with these accounts that is not started yet, and no services.
pub(super) async fn empty(accounts: &[Account]) -> Result<World> {
    let folder = TempDir::with_prefix("freehold-").context("a temporary folder")?;
    let server = spawn_blocking(|| broker::nats_server(&|line| eprintln!("broker: {line}")));
    let streams: Vec<_> = accounts.iter().map(|it| it.stream.as_str()).collect();
    let logs = folder.path().join("logs");
    let broker = Broker::new(
        server.await??,
        Port::any()?,
        folder.path().join("broker"),
        logs.clone(),
        Credentials::generate(&streams),
        accounts,
    )?;
    let home = Home {
        binaries: folder.path().join("no-services-built"),
        databases: folder.path().to_owned(),
        logs,
        broker_url: broker.url(),
    };
    World::of(broker, home, folder)
}

/// Each gets the address and the token of the owners that it follows, played ones too.
fn assemble(world: &World, programs: Vec<Program>) -> Result<Vec<Service>> {
    let credentials = world.broker.credentials();
    let mut services = Vec::new();
    for (declared, program) in programs {
        let port = Port::any()?;
        let service = Service::new(&declared, program, world.home(), port, credentials)?;
        services.push((service, declared.follows));
    }
    let played = world.played.iter();
    let played = played.map(|it| (it.stream().to_owned(), it.url()));
    Ok(introduced(services, played.collect(), credentials))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Of a freehold.toml that says that x-service owns X and follows no stream, and a program that says this.
    async fn found(stream: &str, follows: &str) -> Result<Vec<Program>> {
        let folder = TempDir::new().expect("a folder");
        let (program, file) = (
            folder.path().join("x-service"),
            folder.path().join("freehold.toml"),
        );
        let says =
            format!(r#"{{"name":"x-service","port":1,"stream":"{stream}","follows":[{follows}]}}"#);
        fs::write(&program, format!("#!/bin/sh\necho '{says}'\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        let entry = "[[service]]\nname = \"x-service\"\nport = 1\nstream = \"X\"\nprogram = \"x-service\"\n";
        fs::write(&file, entry).expect("written");
        find_programs(&[], Some(Source::File(file)), &BTreeSet::new()).await
    }

    #[tokio::test]
    async fn the_program_says_what_it_follows_and_freehold_toml_which_service_it_is() {
        let programs = found("X", r#""Y""#).await.expect("it is x-service");
        assert_eq!(programs[0].0.follows, ["Y"]);
        let refused = found("Z", "").await.expect_err("another stream");
        assert!(
            refused
                .to_string()
                .contains("the program says x-service with stream Z: correct freehold.toml"),
            "{refused}"
        );
    }

    fn program(name: &str, stream: &str, follows: &[&str]) -> Program {
        let declared = Declared {
            name: name.to_owned(),
            port: 1,
            stream: stream.to_owned(),
            follows: follows.iter().map(|&it| it.to_owned()).collect(),
        };
        (declared, PathBuf::new())
    }

    #[test]
    fn what_cannot_be_one_world_is_refused_with_the_cure() {
        let x = program("x-service", "X", &[]);
        let refusal = |other: Program, played: &[&str]| {
            let played: Vec<_> = played.iter().map(|it| Played::declared(it)).collect();
            let refused = can_be_one_world(&[x.clone(), other], &played);
            refused.expect_err("refused").to_string()
        };
        let said = refusal(program("x-service", "Y", &[]), &[]);
        assert_eq!(said, "two services are called x-service: add it once");
        let said = refusal(program("y-service", "X", &[]), &[]);
        assert!(
            said.starts_with("two services own stream X: leave one out"),
            "{said}"
        );
        let said = refusal(program("y-service", "Y", &["Z"]), &[]);
        assert!(
            said.starts_with("y-service follows Z, which no service here owns"),
            "{said}"
        );
        let said = refusal(program("y-service", "Y", &["Z"]), &["Z", "X"]);
        assert!(said.starts_with("two services own stream X"), "{said}");
        let follower = program("y-service", "Y", &["X", "Z"]);
        can_be_one_world(&[x, follower], &[Played::declared("Z")]).expect("one world");
    }
}
