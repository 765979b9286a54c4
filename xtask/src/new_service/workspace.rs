//! The workspace that gets a new service: what it has, whether its files may be edited, and the edits, all of them or none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use freehold_tests::broker::accounts_file;
use freehold_tests::declared::Declared;
use freehold_tests::manifest::{Manifest, NAME as MANIFEST};
use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Item, Table, value};

/// A workspace with services.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    services: Vec<Declared>,
    cargo: DocumentMut,
    manifest: DocumentMut,
}

/// What was changed, until it is kept: dropped, it changes everything back.
#[derive(Debug, Default)]
struct Edits {
    made: Vec<PathBuf>,
    replaced: Vec<(PathBuf, String)>,
}

const CARGO: &str = "Cargo.toml";
/// The accounts of the broker, where a workspace has the file: a broker that runs without `up` reads it.
const ACCOUNTS: &str = "accounts.conf";

impl Workspace {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let manifest = Manifest::read(&root.join(MANIFEST))?;
        let services = manifest
            .services()
            .iter()
            .map(|entry| entry.declared.clone());
        Ok(Self {
            root: root.to_owned(),
            services: services.collect(),
            cargo: read(&root.join(CARGO))?,
            manifest: read(&root.join(MANIFEST))?,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn services(&self) -> &[Declared] {
        &self.services
    }

    /// Refuses to mix our edits with those of a person.
    pub(crate) fn refuse_uncommitted(&self) -> Result<()> {
        let mut git = Command::new("git");
        let git = git.arg("-C").arg(&self.root).args([
            "status",
            "--porcelain",
            "--",
            CARGO,
            MANIFEST,
            ACCOUNTS,
        ]);
        let changed = git.output().map_or_else(|_| vec![], |output| output.stdout); // no git, no changes
        let changed = String::from_utf8_lossy(&changed);
        let files: Vec<_> = changed.lines().filter_map(|line| line.get(3..)).collect();
        ensure!(
            files.is_empty(),
            "there are uncommitted changes in {}, and lines are added there: commit them, or say --allow-dirty",
            files.join(" and ")
        );
        Ok(())
    }

    /// Refuses a service that is here already, or a part of it.
    pub(crate) fn refuse_taken(&self, new: &Declared, folders: &[String; 2]) -> Result<()> {
        for known in self.services() {
            ensure!(
                known.name != new.name,
                "{MANIFEST} has a service {} already: choose another name",
                new.name
            );
            ensure!(
                known.stream != new.stream,
                "{} owns the stream {} already: choose another name",
                known.name,
                new.stream
            );
            ensure!(
                known.port != new.port,
                "port {} is that of {}: choose another one with --port",
                new.port,
                known.name
            );
        }
        for folder in folders {
            let path = self.root.join(folder);
            ensure!(
                !path.exists(),
                "{} exists already: remove it, or choose another name",
                path.display()
            );
        }
        Ok(())
    }

    /// Moves the folders of the service here from where they were made, and adds it to the workspace's files.
    pub(crate) fn add(mut self, new: &Declared, made: &Path, folders: &[String; 2]) -> Result<()> {
        let mut edits = Edits::default();
        for folder in folders {
            self.add_member(folder)?;
            edits.make(&made.join(folder), self.root.join(folder))?;
        }
        self.add_dependency(&folders[0])?;
        edits.replace(self.root.join(CARGO), &self.cargo.to_string())?;
        self.add_service(new);
        let manifest = self.root.join(MANIFEST);
        edits.replace(manifest.clone(), &self.manifest.to_string())?;
        let accounts = self.root.join(ACCOUNTS);
        if accounts.is_file() {
            edits.replace(
                accounts,
                &accounts_file(Manifest::read(&manifest)?.services()),
            )?;
        }
        edits.keep();
        Ok(())
    }

    fn add_member(&mut self, folder: &str) -> Result<()> {
        let members = self
            .cargo
            .get_mut("workspace")
            .and_then(|it| it.get_mut("members"));
        let members = members.and_then(Item::as_array_mut);
        let members = members.with_context(|| format!("{CARGO} has no list `members`"))?;
        members.push(folder);
        Ok(())
    }

    fn add_dependency(&mut self, folder: &str) -> Result<()> {
        let all = self
            .cargo
            .get_mut("workspace")
            .and_then(|it| it.get_mut("dependencies"));
        let all = all.and_then(Item::as_table_mut);
        let path = InlineTable::from_iter([("path", folder)]);
        all.with_context(|| format!("{CARGO} has no [workspace.dependencies]"))?
            .insert(folder, value(path));
        Ok(())
    }

    fn add_service(&mut self, new: &Declared) {
        let mut table = Table::new();
        table.insert("name", value(&new.name));
        table.insert("port", value(i64::from(new.port)));
        table.insert("stream", value(&new.stream));
        if !new.follows.is_empty() {
            table.insert("follows", value(toml_edit::Array::from_iter(&new.follows)));
        }
        let empty = || Item::ArrayOfTables(ArrayOfTables::new());
        let services = self.manifest.entry("service").or_insert_with(empty);
        if let Some(services) = services.as_array_of_tables_mut() {
            services.push(table);
        }
    }
}

/// Called by its name, with or without `-service`, or by its stream.
pub(crate) fn is_called(service: &Declared, name: &str) -> bool {
    let stream = service.stream.to_lowercase().replace('_', "-");
    let short = service.name.strip_suffix("-service");
    service.name == name || short == Some(name) || stream == name
}

impl Edits {
    fn make(&mut self, from: &Path, to: PathBuf) -> Result<()> {
        fs::rename(from, &to).with_context(|| format!("cannot make {}", to.display()))?;
        self.made.push(to);
        Ok(())
    }

    fn replace(&mut self, path: PathBuf, text: &str) -> Result<()> {
        let cannot = || format!("cannot write {}", path.display());
        let before = fs::read_to_string(&path).with_context(cannot)?;
        let written = fs::write(&path, text).with_context(cannot);
        self.replaced.push((path, before));
        written
    }

    fn keep(mut self) {
        self.made.clear();
        self.replaced.clear();
    }
}

impl Drop for Edits {
    fn drop(&mut self) {
        for (path, before) in self.replaced.drain(..) {
            let _failed = fs::write(path, before);
        }
        for folder in self.made.drain(..) {
            let _failed = fs::remove_dir_all(folder);
        }
    }
}

fn read(path: &Path) -> Result<DocumentMut> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARGO_TEXT: &str = "\
# Ours.
[workspace]
members = [\"a\", \"b\"] # all

[workspace.dependencies]
a = { path = \"a\" } # kept

# About lints.
[workspace.lints.rust]
";
    const MANIFEST_TEXT: &str = "\
# The services.

[[service]]
name = \"order-service\"
port = 7102 # the second
stream = \"ORDERS\"
";

    fn folders() -> [String; 2] {
        ["payments-events", "payments-service"].map(str::to_owned)
    }

    fn payments() -> Declared {
        Declared {
            name: "payments-service".to_owned(),
            port: 7105,
            stream: "PAYMENTS".to_owned(),
            follows: vec!["ORDERS".to_owned()],
        }
    }

    fn workspace() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(CARGO), CARGO_TEXT).unwrap();
        fs::write(root.path().join(MANIFEST), MANIFEST_TEXT).unwrap();
        fs::write(root.path().join(ACCOUNTS), "of before").unwrap();
        for folder in folders() {
            fs::create_dir_all(root.path().join("made").join(folder)).unwrap();
        }
        root
    }

    fn text(root: &Path, name: &str) -> String {
        fs::read_to_string(root.join(name)).unwrap()
    }

    #[test]
    fn a_service_is_added_and_every_comment_stays() {
        let root = workspace();
        let root = root.path();
        Workspace::open(root)
            .unwrap()
            .add(&payments(), &root.join("made"), &folders())
            .unwrap();
        let cargo = CARGO_TEXT
            .replace(
                "\"b\"]",
                "\"b\", \"payments-events\", \"payments-service\"]",
            )
            .replace(
                "# kept\n",
                "# kept\npayments-events = { path = \"payments-events\" }\n",
            );
        assert_eq!(text(root, CARGO), cargo);
        let service = "\n[[service]]\nname = \"payments-service\"\nport = 7105\nstream = \"PAYMENTS\"\nfollows = [\"ORDERS\"]\n";
        assert_eq!(text(root, MANIFEST), format!("{MANIFEST_TEXT}{service}"));
        assert!(text(root, ACCOUNTS).contains("include \"payments-service/nats-account.conf\""));
        assert!(folders().iter().all(|folder| root.join(folder).is_dir()));
    }

    #[test]
    fn a_failure_in_the_middle_leaves_everything_as_it_was() {
        let root = workspace();
        let root = root.path();
        let workspace = Workspace::open(root).unwrap();
        fs::remove_file(root.join(MANIFEST)).unwrap(); // the last of the edits
        let refusal = workspace
            .add(&payments(), &root.join("made"), &folders())
            .unwrap_err();
        assert!(refusal.to_string().contains("cannot write"), "{refusal}");
        assert_eq!(text(root, CARGO), CARGO_TEXT);
        assert!(folders().iter().all(|folder| !root.join(folder).exists()));
    }

    #[test]
    fn what_is_taken_is_refused_with_the_cure() {
        let root = workspace();
        let root = root.path();
        let workspace = Workspace::open(root).unwrap();
        assert!(workspace.refuse_taken(&payments(), &folders()).is_ok());
        fs::create_dir(root.join("payments-service")).unwrap();
        for (new, cure) in [
            (payments(), "payments-service exists already: remove it"),
            (
                Declared {
                    name: "order-service".to_owned(),
                    ..payments()
                },
                "choose another name",
            ),
            (
                Declared {
                    stream: "ORDERS".to_owned(),
                    ..payments()
                },
                "order-service owns the stream ORDERS already",
            ),
            (
                Declared {
                    port: 7102,
                    ..payments()
                },
                "port 7102 is that of order-service: choose another one with --port",
            ),
        ] {
            let refusal = workspace
                .refuse_taken(&new, &folders())
                .unwrap_err()
                .to_string();
            assert!(refusal.contains(cure), "{refusal}");
        }
    }

    #[test]
    fn an_owner_is_called_by_its_name_or_its_stream() {
        let root = workspace();
        let workspace = Workspace::open(root.path()).unwrap();
        let services = workspace.services();
        for (name, is) in [
            ("orders", true),
            ("order", true),
            ("order-service", true),
            ("ORDERS", false),
            ("users", false),
        ] {
            assert_eq!(is_called(&services[0], name), is, "{name}");
        }
    }

    #[test]
    fn files_with_uncommitted_changes_are_not_edited() {
        let root = workspace();
        let git = |arguments: &[&str]| {
            let done = Command::new("git")
                .arg("-C")
                .arg(root.path())
                .args(arguments)
                .output();
            assert!(done.expect("git runs").status.success(), "{arguments:?}");
        };
        let uncommitted = || Workspace::open(root.path()).unwrap().refuse_uncommitted();
        git(&["init", "-q"]);
        git(&["add", CARGO, MANIFEST, ACCOUNTS]);
        let refusal = uncommitted().unwrap_err().to_string();
        assert!(
            refusal.contains("in Cargo.toml and accounts.conf and freehold.toml, and lines"),
            "{refusal}"
        );
        git(&[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-qm",
            "all",
        ]);
        uncommitted().unwrap();
    }
}
