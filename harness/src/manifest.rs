//! `freehold.toml`: the services of a system, named in one place for everything that starts them.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;

use crate::binaries;
use crate::declared::Declared;

/// The services of one file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    folder: PathBuf,
    services: Vec<Entry>,
}

/// One `[[service]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says of the service.
    pub declared: Declared,
    /// Where its program is; without it, cargo builds the package of its name.
    pub program: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    service: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    port: u16,
    stream: String,
    #[serde(default)]
    follows: Vec<String>,
    program: Option<PathBuf>,
}

/// Its file name.
pub const NAME: &str = "freehold.toml";
/// Accounts of nats.conf that belong to no service.
const RESERVED: [&str; 2] = ["SYS", "OBSERVER"];

impl Manifest {
    /// The file in the folder of the package that cargo runs, in the current folder, or in the nearest folder above one of them.
    pub fn nearest() -> Result<Manifest> {
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = env::current_dir().context("cannot determine the current folder")?;
        let starts: Vec<_> = package.into_iter().chain([here]).collect();
        let mut files = starts.iter().filter_map(|start| above(start));
        let file = files.next().with_context(|| {
            let start = starts[0].display();
            format!("there is no {NAME} in {start} or a folder above it: create one with a [[service]] for each service")
        })?;
        Manifest::read(&file)
    }

    /// Reads a manifest. The error names the entry and the cure.
    pub fn read(file: &Path) -> Result<Manifest> {
        let shown = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
        let services = parse(&text).with_context(|| shown.to_string())?;
        let folder = file.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Manifest { folder, services })
    }

    /// Where the file is: the root of the workspace.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every service, in the order of the file.
    pub fn services(&self) -> &[Entry] {
        &self.services
    }

    /// The program of each service; those of the workspace are built by cargo.
    pub fn programs(&self) -> Result<Vec<(Declared, PathBuf)>> {
        let ours = self.services.iter().filter(|entry| entry.program.is_none());
        let names: Vec<_> = ours.map(|entry| entry.declared.name.as_str()).collect();
        let built = match names.is_empty() {
            true => PathBuf::new(),
            false => binaries::built(&self.folder, &names)?,
        };
        let program = |entry: &Entry| match &entry.program {
            Some(program) => self.folder.join(program),
            None => built.join(&entry.declared.name),
        };
        let services = self.services.iter();
        Ok(services
            .map(|entry| (entry.declared.clone(), program(entry)))
            .collect())
    }
}

fn above(start: &Path) -> Option<PathBuf> {
    let folders = start.ancestors();
    let mut files = folders.map(|folder| folder.join(NAME));
    files.find(|file| file.is_file())
}

fn parse(text: &str) -> Result<Vec<Entry>> {
    let read: Text = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        let line = before.matches('\n').count() + 1;
        anyhow!("line {line}: {}", error.message().replace('\n', ", "))
    })?;
    let services: Vec<Entry> = read.service.into_iter().map(Entry::from).collect();
    let declared: Vec<_> = services.iter().map(|entry| &entry.declared).collect();
    check(&declared)?;
    Ok(services)
}

impl From<Table> for Entry {
    fn from(table: Table) -> Entry {
        let Table {
            name,
            port,
            stream,
            follows,
            program,
        } = table;
        Entry {
            declared: Declared {
                name,
                port,
                stream,
                follows,
            },
            program,
        }
    }
}

/// Whether these services can be one system.
fn check(services: &[&Declared]) -> Result<()> {
    for service in services {
        sound(service)?;
    }
    if let Some(name) = repeated(services, |service| &service.name) {
        bail!("two services are called {name}: rename one, or remove it");
    }
    if let Some(port) = repeated(services, |service| &service.port) {
        bail!("two services have port {port}: give one another port");
    }
    if let Some(stream) = repeated(services, |service| &service.stream) {
        bail!(
            "two services own stream {stream}: a stream has one owner, so give one another stream"
        );
    }
    let owned: BTreeSet<_> = services.iter().map(|service| &*service.stream).collect();
    services.iter().try_for_each(|it| follows(it, &owned))
}

/// Whether its names can be part of environment variables, subjects and the broker's configuration.
///
/// # Errors
///
/// What is wrong with which name, and how it should look.
pub fn sound(
    Declared {
        name, port, stream, ..
    }: &Declared,
) -> Result<()> {
    let words = |text: &str, letters: fn(char) -> bool, joint| {
        text.starts_with(letters)
            && !text.ends_with(joint)
            && text
                .chars()
                .all(|c| letters(c) || c.is_ascii_digit() || c == joint)
    };
    ensure!(
        words(name, |c| c.is_ascii_lowercase(), '-') && !name.contains("--"),
        "{name:?} is no name of a service: write small letters, digits and single hyphens, such as \"payments-service\""
    );
    ensure!(
        words(stream, |c| c.is_ascii_uppercase(), '_'),
        "{stream:?} is no name of a stream: write capital letters, digits and underscores, such as \"PAYMENTS\""
    );
    ensure!(
        !RESERVED.contains(&&**stream),
        "{stream} is an account of the broker itself: give the stream of {name} another name"
    );
    ensure!(*port > 0, "{name} needs a port: 0 is none");
    Ok(())
}

fn repeated<'a, T: Eq + Hash + Ord>(
    services: &[&'a Declared],
    of: fn(&'a Declared) -> &'a T,
) -> Option<&'a T> {
    let mut seen = BTreeSet::new();
    services
        .iter()
        .map(|it| of(it))
        .find(|it| !seen.insert(*it))
}

fn follows(service: &Declared, owned: &BTreeSet<&str>) -> Result<()> {
    let name = &service.name;
    for stream in &service.follows {
        ensure!(
            *stream != service.stream,
            "{name} follows {stream}, which is its own stream: remove it from `follows`"
        );
        ensure!(
            owned.contains(&**stream),
            "{name} follows {stream}, and no service owns it: add its owner, or correct the name (there are {})",
            owned.iter().copied().collect::<Vec<_>>().join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "[[service]]\nname = \"user-service\"\nport = 7101\nstream = \"USERS\"\n";

    fn with(more: &str) -> Result<Vec<Entry>> {
        parse(&format!("{USERS}{more}"))
    }

    fn other(name: &str, port: u32, stream: &str, more: &str) -> String {
        format!("[[service]]\nname = {name:?}\nport = {port}\nstream = {stream:?}\n{more}\n")
    }

    #[test]
    fn services_are_read_in_their_order() {
        let orders = "follows = [\"USERS\"]\nprogram = \"../x\"";
        let read = with(&other("orders-service", 7102, "ORDERS", orders)).expect("sound");
        let [users, orders] = &read[..] else {
            panic!("two services, not {read:?}")
        };
        assert_eq!((users.declared.port, &users.program), (7101, &None));
        assert_eq!(orders.declared.follows, ["USERS"]);
        assert_eq!(orders.program, Some(PathBuf::from("../x")));
        assert_eq!(parse("# no service yet\n").expect("sound"), []);
    }

    #[test]
    fn what_cannot_be_one_system_is_refused_in_one_line_with_the_cure() {
        for (more, said) in [
            (
                other("user-service", 1, "X", ""),
                "two services are called user-service: rename",
            ),
            (
                other("x-service", 7101, "X", ""),
                "two services have port 7101: give one another",
            ),
            (
                other("x-service", 1, "USERS", ""),
                "two services own stream USERS: a stream has one",
            ),
            (
                other("x-service", 1, "X", "follows = [\"X\"]"),
                "x-service follows X, which is its own",
            ),
            (
                other("x-service", 1, "X", "follows = [\"USER\"]"),
                "follows USER, and no service owns it: add its owner, or correct the name (there are USERS, X)",
            ),
            (
                other("x-service", 1, "X", "prot = 2"),
                "line 9: unknown field `prot`, expected one of",
            ),
            (other("x-service", 70000, "X", ""), "line 7: "),
            (other("x-service", 0, "X", ""), "x-service needs a port"),
            (
                other("x service", 1, "X", ""),
                "\"x service\" is no name of a service: write small",
            ),
            (other("x-", 1, "X", ""), "\"x-\" is no name of a service"),
            (
                other("x--y", 1, "X", ""),
                "\"x--y\" is no name of a service",
            ),
            (other("", 1, "X", ""), "\"\" is no name of a service"),
            (
                other("x-service", 1, "x", ""),
                "\"x\" is no name of a stream: write capital",
            ),
            (
                other("x-service", 1, "X.Y", ""),
                "\"X.Y\" is no name of a stream",
            ),
            (
                other("x-service", 1, "OBSERVER", ""),
                "OBSERVER is an account of the broker itself",
            ),
            (
                "[[service]]\nname = \"x-service\"\n".to_owned(),
                "line 5: missing field `port`",
            ),
            ("[service]\n".to_owned(), "line 5: "),
            (
                "[[services]]\n".to_owned(),
                "line 5: unknown field `services`",
            ),
            ("port".to_owned(), "line 5: "),
        ] {
            let refusal = format!("{:#}", with(&more).expect_err(&more));
            assert!(refusal.contains(said), "{refusal}");
            assert_eq!(refusal.lines().count(), 1, "{refusal}");
        }
    }

    #[test]
    fn the_nearest_file_above_is_found_and_named_in_a_refusal() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(
            above(&deep).filter(|file| file.starts_with(root.path())),
            None
        );
        let file = root.path().join(NAME);
        fs::write(&file, USERS.replace("7101", "0")).unwrap();
        assert_eq!(above(&deep), Some(file.clone()));
        let refusal = format!("{:#}", Manifest::read(&file).expect_err("port 0"));
        assert!(refusal.contains(&*file.to_string_lossy()), "{refusal}");
    }
}
