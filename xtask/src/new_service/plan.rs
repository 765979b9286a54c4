//! What is asked for, and what is made of it: checked before anything is made.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, value_parser};
use freehold_tests::declared::Declared;
use freehold_tests::paths;

use crate::new_service::followed::{self, Stream};
use crate::new_service::names::Name;
use crate::new_service::template::Values;
use crate::new_service::workspace::{Workspace, is_called};

/// Two crates: NAME-events declares what travels, and NAME-service has a table, an event, a keyed POST, a GET, a cache of what it
/// follows, a reaction, and a test with kills. Either everything is made, or nothing.
#[derive(Debug, Args)]
pub(crate) struct NewService {
    /// What the service owns, as a plural in small letters: payments
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
    /// Make it in another workspace. One that does not exist is made, too, and depends on this checkout
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,
    /// Add lines to files that have uncommitted changes
    #[arg(long)]
    pub(crate) allow_dirty: bool,
}

/// A service that can be made.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: Name,
    item: Name,
    pub(crate) service: Declared,
    pub(crate) owner: Declared,
    pub(crate) followed: Stream,
    /// NAME-events and NAME-service.
    pub(crate) folders: [String; 2],
}

const FIRST_PORT: u16 = 7105;
/// The crate of events that a workspace elsewhere depends on.
const SHARED: &str = "event-schema";

impl Plan {
    /// `target` gets the service; `None` while it does not exist. `checkout` is this workspace.
    pub(crate) fn of(
        asked: &NewService,
        target: Option<&Workspace>,
        checkout: &Workspace,
    ) -> Result<Self> {
        let name = Name::of_many(&asked.name)?;
        let item = asked
            .item
            .as_deref()
            .map_or_else(|| name.one(), Name::of_one)?;
        let elsewhere = target.is_none_or(|it| it.root() != checkout.root());
        let ours = elsewhere.then_some(checkout);
        let workspaces: Vec<_> = target.into_iter().chain(ours).collect();
        let (home, owner) = find_owner(&name, &asked.follows, &workspaces)?;
        let followed = followed::find(&owner.stream, home.root())?;
        let is_here = target.is_some_and(|it| it.root() == home.root());
        ensure!(
            is_here || followed.of_crate == SHARED,
            "{} is declared in {}, which the other workspace does not have: follow another service",
            owner.stream,
            followed.of_crate
        );
        ensure!(
            item != followed.item,
            "one of the {} and what it follows are both called {}: give the first another name with --item",
            name.kebab(),
            item.kebab()
        );
        let follows = is_here.then(|| owner.stream.clone());
        Ok(Self {
            service: Declared {
                name: format!("{}-service", name.kebab()),
                port: free_port(asked.port, &workspaces)?,
                stream: name.shouty(),
                follows: follows.into_iter().collect(),
            },
            folders: ["events", "service"].map(|part| format!("{}-{part}", name.kebab())),
            name,
            item,
            owner,
            followed,
        })
    }

    /// What stands for the placeholders of the template.
    pub(crate) fn values(&self) -> Values {
        let (followed, of_crate) = (&self.followed, &self.followed.of_crate);
        Values::default()
            .with_name("project-name", &self.name)
            .with_name("item", &self.item)
            .with_name("followed", &followed.item)
            .with("follows", self.owner.stream.to_lowercase())
            .with("follows | shouty_snake_case", &self.owner.stream)
            .with("follows | snake_case", self.owner.stream.to_lowercase())
            .with("followed_port", self.owner.port)
            .with("followed_event", &followed.events)
            .with("followed_variant", &followed.variant)
            .with("followed_type", &followed.event_type)
            .with("followed_data", &followed.data)
            .with("followed_crate", of_crate)
            .with("followed_crate | snake_case", of_crate.replace('-', "_"))
            .with("port", self.service.port)
            .with("freehold", paths::workspace().display())
    }
}

/// The owner, and the workspace that it is in.
fn find_owner<'a>(
    name: &Name,
    follows: &str,
    workspaces: &[&'a Workspace],
) -> Result<(&'a Workspace, Declared)> {
    let own = [name.kebab().to_owned(), format!("{}-service", name.kebab())];
    let services = workspaces
        .iter()
        .flat_map(|home| home.services().iter().map(|it| (*home, it)));
    let is_taken = services.clone().any(|(_, known)| own.contains(&known.name));
    ensure!(
        is_taken || !own.contains(&follows.to_owned()), // what is taken is refused as such
        "a service cannot follow itself: name another one with --follows"
    );
    let mut called = services
        .clone()
        .filter(|(_, service)| is_called(service, follows));
    let owner = called.next().map(|(home, service)| (home, service.clone()));
    owner.with_context(|| {
        let names: BTreeSet<_> = services.map(|(_, service)| &*service.name).collect();
        let names: Vec<_> = names.into_iter().collect();
        format!(
            "no service is called {follows}: --follows takes one of {}",
            names.join(", ")
        )
    })
}

fn free_port(asked: Option<u16>, workspaces: &[&Workspace]) -> Result<u16> {
    let services = workspaces.iter().flat_map(|it| it.services());
    let taken: Vec<u16> = services.map(|it| it.port).collect();
    let free = (FIRST_PORT..).find(|port| !taken.contains(port));
    let port = asked
        .or(free)
        .context("no port is left: choose one with --port")?;
    // Without --port a busy port does no harm: `up` takes a free one instead.
    ensure!(
        asked.is_none() || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok(),
        "port {port} is in use on this machine: choose another one with --port"
    );
    Ok(port)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        new: NewService,
    }

    fn plan(arguments: &[&str], is_here: bool) -> Result<Plan> {
        let asked = Cli::try_parse_from([&["xtask"], arguments].concat())?.new;
        let checkout = Workspace::open(paths::workspace()).unwrap();
        Plan::of(&asked, is_here.then_some(&checkout), &checkout)
    }

    #[test]
    fn what_follows_from_a_name() {
        let Plan {
            service,
            owner,
            followed,
            item,
            ..
        } = plan(&["parcel-labels", "--follows", "users"], true).unwrap();
        assert_eq!(
            (&*service.name, &*service.stream),
            ("parcel-labels-service", "PARCEL_LABELS")
        );
        assert!(
            service.port >= FIRST_PORT && service.follows == ["USERS"],
            "{service:?}"
        );
        assert_eq!(
            (&*owner.name, item.kebab(), followed.item.kebab()),
            ("user-service", "parcel-label", "user")
        );
        assert_eq!(
            plan(&["parcel-labels"], false).unwrap().service.follows,
            [""; 0]
        );
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_the_cure() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        for (arguments, cure) in [
            (&["Payments"][..], "small letters"),
            (&["types"], "with --item: type is a keyword"),
            (&["payments", "--item", "Payment"], "small letters"),
            (&["results"], "with --item: result is a type"),
            (&["events"], "such as --item lab-event"),
            (&["rows"], "such as --item lab-row"),
            (&["parcels", "--item", "vec"], "such as --item lab-vec"),
            (
                &["payments", "--follows", "payments"],
                "cannot follow itself: name another one",
            ),
            (
                &["payments", "--follows", "payment"],
                "--follows takes one of orders-service, user-service",
            ),
            (
                &["subscriptions", "--item", "order"],
                "give the first another name with --item",
            ),
            (
                &["payments", "--port", &port],
                "choose another one with --port",
            ),
            (&["payments", "--port", "80"], "80 is not in 1024..=65535"),
        ] {
            let refusal = format!("{:#}", plan(arguments, true).unwrap_err());
            assert!(refusal.contains(cure), "{refusal}");
        }
    }

    #[test]
    fn cargo_generate_asks_for_the_same_placeholders_and_proposes_the_same_values() {
        let questions = paths::workspace().join("template/cargo-generate.toml");
        let questions: toml_edit::DocumentMut =
            std::fs::read_to_string(questions).unwrap().parse().unwrap();
        let questions = questions["placeholders"].as_table().unwrap();
        let values = plan(&["payments"], true).unwrap().values();
        for (name, question) in questions {
            let value = values.get(name).expect(name);
            let proposed = question.get("default").and_then(|default| default.as_str());
            assert!(
                name == "port" || proposed.is_none_or(|it| it == value),
                "{name}: {value}"
            );
        }
        for name in values.names().filter(|name| !name.contains(" | ")) {
            assert!(
                name == "project-name" || questions.contains_key(name),
                "{name}"
            );
        }
    }
}
