//! Which services a system has: those of `freehold.toml`, and those of `--with`. Where their programs are.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use freehold_tests::declared::{Account, Declared};
use freehold_tests::manifest::{self, Entry, Manifest};
use freehold_tests::services::{DRIVER_APP, ORDERS_SERVICE, USER_SERVICE};
use freehold_tests::{binaries, paths};
use tokio::task::spawn_blocking;

use crate::console::Console;
use crate::driver::{PEOPLE, name_of};
use crate::options::Up;
use crate::with::{check_free, check_owners};

/// The services, in the order in which they start.
pub(crate) struct Plan {
    pub(crate) services: Vec<Declared>,
    entries: Vec<Entry>,
}

/// The folder of the programs that cargo has built, and the program of each service.
pub(crate) struct Programs {
    pub(crate) built: PathBuf,
    pub(crate) services: Vec<PathBuf>,
}

impl Plan {
    /// Nothing is built yet, so that a mistake shows before minutes of building.
    pub(crate) async fn of(up: &Up) -> Result<Plan> {
        let mut entries = manifest_entries()?;
        let mut services: Vec<_> = entries.iter().map(|entry| entry.declared.clone()).collect();
        for with in &up.with {
            let declared = with.declared(&services).await?;
            services.push(declared.clone());
            entries.push(Entry {
                declared,
                program: Some(with.program.clone()),
            });
        }
        check_owners(&services)?;
        for name in [USER_SERVICE, ORDERS_SERVICE] {
            let there = services.iter().any(|service| service.name == name);
            ensure!(
                there,
                "{} has no {name}, and customers and drivers need it",
                manifest::NAME
            );
        }
        check_left_out(&services, &up.without)?;
        Ok(Plan { services, entries })
    }

    /// cargo shows its own progress on stderr, so this only says what is built.
    pub(crate) async fn build(&self, release: bool, console: &Console) -> Result<Programs> {
        let ours = self.entries.iter().filter(|entry| entry.program.is_none());
        let mut names: Vec<String> = ours.map(|entry| entry.declared.name.clone()).collect();
        names.push(DRIVER_APP.to_owned());
        console.about(
            "build",
            &format!("{} (the first time takes minutes)", names.join(", ")),
        );
        let built = spawn_blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            match release {
                true => binaries::optimised(paths::workspace(), &names),
                false => binaries::built(paths::workspace(), &names),
            }
        });
        let built = built.await??;
        let program = |entry: &Entry| {
            let own = || built.join(&entry.declared.name);
            entry.program.clone().unwrap_or_else(own)
        };
        let services: Vec<_> = self.entries.iter().map(program).collect();
        for (declared, program) in self.services.iter().zip(&services) {
            check_follows(declared, &declared.confirmed_by(program).await?)?;
        }
        Ok(Programs { built, services })
    }

    /// The account of each service at the broker, as its program prints it.
    pub(crate) async fn accounts(&self, programs: &Programs) -> Result<Vec<Account>> {
        let mut accounts = Vec::new();
        for (declared, program) in self.services.iter().zip(&programs.services) {
            accounts.push(declared.account_by(program).await?);
        }
        Ok(accounts)
    }

    pub(crate) fn streams(&self) -> Vec<&str> {
        let services = self.services.iter();
        services.map(|service| service.stream.as_str()).collect()
    }
}

/// Those of `freehold.toml`, with absolute programs.
fn manifest_entries() -> Result<Vec<Entry>> {
    let manifest = Manifest::read(&paths::workspace().join(manifest::NAME))?;
    let mut entries = manifest.services().to_vec();
    for Entry { declared, program } in &mut entries {
        check_free(&declared.name, &[]).context(manifest::NAME)?;
        *program = program
            .take()
            .map(|program| manifest.folder().join(program));
    }
    Ok(entries)
}

/// The system gives a service the addresses of the owners that freehold.toml names, so it would lack the others.
fn check_follows(declared: &Declared, said: &Declared) -> Result<()> {
    let sorted = |it: &Declared| it.follows.iter().cloned().collect::<BTreeSet<_>>();
    let (declares, says) = (sorted(declared), sorted(said));
    ensure!(
        declares == says,
        "{} says that {} follows {declares:?}, its program says {says:?}: correct {0}",
        manifest::NAME,
        declared.name
    );
    Ok(())
}

/// A name that was misspelt would leave nothing out.
fn check_left_out(services: &[Declared], left_out: &[String]) -> Result<()> {
    let devices = (1..=PEOPLE.len()).map(name_of);
    let names = services.iter().map(|service| service.name.clone());
    let names: Vec<String> = names.chain(devices).collect();
    let unknown = left_out.iter().find(|name| !names.contains(name));
    if let Some(name) = unknown {
        bail!(
            "--without {name}: there is none of this name, but {}",
            names.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_follows_other_streams_than_freehold_toml_says_is_refused() {
        let follows = |streams: &[&str]| Declared {
            name: "orders-service".to_owned(),
            port: 7102,
            stream: "ORDERS".to_owned(),
            follows: streams.iter().map(|&stream| stream.to_owned()).collect(),
        };
        check_follows(&follows(&["A", "B"]), &follows(&["B", "A"])).unwrap();
        let refused = check_follows(&follows(&[]), &follows(&["USERS"])).expect_err("another");
        assert_eq!(
            refused.to_string(),
            r#"freehold.toml says that orders-service follows {}, its program says {"USERS"}: correct freehold.toml"#
        );
    }

    #[test]
    fn a_misspelt_name_is_refused_and_the_right_ones_are_listed() {
        let declared = Declared {
            name: "user-service".to_owned(),
            port: 7101,
            stream: "USERS".to_owned(),
            follows: vec![],
        };
        let check =
            |name: &str| check_left_out(std::slice::from_ref(&declared), &[name.to_owned()]);
        check("user-service").unwrap();
        check("driver-2").unwrap();
        let refused = check("users").expect_err("unknown").to_string();
        assert_eq!(
            refused,
            "--without users: there is none of this name, but user-service, driver-1, driver-2"
        );
    }
}
