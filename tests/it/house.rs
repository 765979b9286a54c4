//! The rules of ARCHITECTURE.md as tests: which crate may depend on which, where SQL and NATS are, and that the page names files
//! that exist.

use std::fs;
use std::path::{Path, PathBuf};

use freehold_tests::cargo::cargo;
use freehold_tests::paths::workspace;
use relay::publish::Case;
use serde_json::Value;

/// Each crate and the workspace crates that its programs may depend on. Dev-dependencies are not listed.
const ARROWS: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("event-schema", &["freehold-event"]),
    ("relay", &["freehold-event"]),
    ("service-kit", &["freehold-relay"]),
    (
        "service-program",
        &["freehold-relay", "freehold-service-kit"],
    ),
    ("user-service", OF_A_SERVICE),
    ("orders-service", OF_A_SERVICE),
    ("driver-app", OF_A_SERVICE),
    ("harness", &["freehold-relay"]),
    (
        "examples",
        &[
            "freehold-relay",
            "freehold-service-kit",
            "freehold-service-program",
        ],
    ),
    ("tests", &["freehold-harness"]),
    ("bench", &["freehold-tests", "freehold-relay"]),
    ("model", &[]),
    ("demo", &["freehold-tests"]),
    ("xtask", &["demo", "freehold-tests"]),
];

/// What a service and a device stand on.
const OF_A_SERVICE: &[&str] = &[
    "freehold-event-schema",
    "freehold-relay",
    "freehold-service-kit",
    "freehold-service-program",
];

/// Where SQL is allowed, besides the store of every service. The harness inspects databases from outside.
const SQL_ROOMS: &[&str] = &[
    "relay/src",
    "service-kit/src/idempotency/store",
    "orders-service/src/cache",
    "driver-app/src/store",
    "harness/src/database",
    "harness/src/outbox",
    "tests/src/users",
    "bench/src",
];

#[test]
fn every_crate_depends_only_on_what_its_arrows_allow() {
    let packages = packages();
    let ours: Vec<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    for package in &packages {
        let folder = &package.folder;
        for name in package
            .depends_on
            .iter()
            .filter(|name| ours.contains(&name.as_str()))
        {
            assert!(
                may_depend(folder, name),
                "{folder} depends on {name}: a new arrow needs a line in ARCHITECTURE.md and here"
            );
        }
    }
    for (folder, _) in ARROWS {
        assert!(
            packages.iter().any(|package| package.folder == *folder),
            "there is no {folder}"
        );
    }
}

/// The services that `cargo xtask new-service` makes need no line here: they follow a rule.
fn may_depend(folder: &str, on: &str) -> bool {
    match ARROWS.iter().find(|(of, _)| *of == folder) {
        Some((_, allowed)) => allowed.contains(&on),
        None if folder.ends_with("-service") => {
            OF_A_SERVICE.contains(&on) || on.ends_with("-events")
        }
        None if folder.ends_with("-events") => on == "freehold-event",
        None => panic!("{folder} is missing here"),
    }
}

#[test]
fn only_one_module_speaks_nats() {
    for (name, text) in sources() {
        let speaks = uses(&text, "async_nats");
        let may = name == "relay/src/nats.rs" || name.starts_with("relay/src/nats/");
        assert!(!speaks || may, "{name} uses async_nats");
    }
}

#[test]
fn sql_is_only_in_the_library_the_stores_and_the_caches() {
    for (name, text) in sources() {
        let is_store = name.contains("-service/src/store");
        let may = is_store || SQL_ROOMS.iter().any(|room| name.starts_with(room));
        let quotes_sql = code(&text).any(|line| {
            let line = line.to_lowercase();
            let verbs = [
                "select",
                "insert",
                "update",
                "delete from",
                "create table",
                "with",
            ];
            verbs
                .iter()
                .any(|verb| line.contains(&format!("\"{verb} ")))
        });
        assert!(!quotes_sql || may, "{name} contains SQL");
    }
}

#[test]
fn domains_are_pure() {
    for (name, text) in sources() {
        if name.contains("/src/domain") {
            for world in [
                "relay",
                "rusqlite",
                "tokio",
                "axum",
                "reqwest",
                "service_kit",
            ] {
                assert!(!uses(&text, world), "{name} uses {world}");
            }
            assert!(
                !code(&text).any(|line| line.contains("async fn")),
                "{name} is asynchronous"
            );
        }
    }
}

#[test]
fn the_pages_name_files_that_exist() {
    for (page, fewest) in [
        ("ARCHITECTURE.md", 20),
        ("docs/guarantees.md", 15),
        ("docs/reconciliation.md", 3),
    ] {
        let text = read(&workspace().join(page));
        let quoted = text.split('`').skip(1).step_by(2);
        let named: Vec<&str> = quoted.filter(|word| is_path(word)).collect();
        assert!(named.len() > fewest, "{page} names {named:?}");
        for path in named {
            assert!(workspace().join(path).exists(), "{page} names {path}");
        }
    }
}

/// The table of cases in the docs is the one in the code: same cases, same order does not matter, each with its test.
#[test]
fn the_page_on_reconciliation_has_a_row_and_a_test_for_each_case_of_the_code() {
    let page = read(&workspace().join("docs/reconciliation.md"));
    let (_, table) = page
        .split_once("## The service and its stream")
        .expect("its table");
    let (table, _) = table.split_once("\n## ").expect("another part follows");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut rows: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let mut cases: Vec<&str> = Case::ALL.iter().map(|case| case.name()).collect();
    rows.sort_unstable();
    cases.sort_unstable();
    assert_eq!(rows, cases);

    let tests = read(&workspace().join("relay/tests/it/reconciliation.rs"));
    for case in cases {
        let test = format!("async fn stream_{}()", case.replace(' ', "_"));
        assert!(tests.contains(&test), "there is no {test}");
    }
}

/// `relay/src/outbox.rs`, `nats.conf`, `tests/`: not `Tx::emit`, not `/readyz` and not `GET /users`.
fn is_path(word: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let plain = !word.starts_with('/') && word.chars().all(allowed);
    let first = word.split('/').next().unwrap_or_default();
    let in_a_folder_of_ours = word.contains('/') && workspace().join(first).exists();
    let is_file = |end: &&str| word.ends_with(*end);
    let files = [".rs", ".md", ".conf", ".toml", ".sql"];
    plain && (in_a_folder_of_ours || files.iter().any(is_file))
}

pub(crate) fn members() -> Vec<PathBuf> {
    let folders = fs::read_dir(workspace()).expect("the workspace");
    let folders = folders.map(|entry| entry.expect("an entry").path());
    folders
        .filter(|path| path.join("Cargo.toml").exists())
        .collect()
}

/// A crate of ours, as cargo itself reads the manifests: tables, targets and renames included.
struct Package {
    name: String,
    folder: String,
    /// Dependencies of its programs, without dev-dependencies.
    depends_on: Vec<String>,
}

fn packages() -> Vec<Package> {
    let asked = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output();
    let asked = asked.expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&asked.stdout).expect("cargo answers JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Package {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let manifest = PathBuf::from(text(&package["manifest_path"]));
    let folder = manifest
        .parent()
        .and_then(Path::file_name)
        .expect("a folder");
    let dependencies = package["dependencies"].as_array().expect("a list");
    let for_programs = dependencies.iter().filter(|needed| needed["kind"] != "dev");
    Package {
        name: text(&package["name"]),
        folder: folder.to_string_lossy().into_owned(),
        depends_on: for_programs.map(|needed| text(&needed["name"])).collect(),
    }
}

/// Every program text of the workspace with its name, tests of the crates left out.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for member in members() {
        collect(&member.join("src"), &mut found);
    }
    assert!(
        found.len() > 50,
        "the house is larger than {} files",
        found.len()
    );
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path
                .strip_prefix(workspace())
                .expect("inside")
                .display()
                .to_string();
            found.push((name, read(&path)));
        }
    }
}

/// Lines that are neither comments nor the file's own tests.
pub(crate) fn code(text: &str) -> impl Iterator<Item = &str> {
    let program = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    program
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn uses(text: &str, krate: &str) -> bool {
    code(text)
        .any(|line| line.contains(&format!("use {krate}")) || line.contains(&format!("{krate}::")))
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What only allows a service to exist: its program, its declaration, its codes.
#[test]
fn the_frame_of_a_service_is_at_most_forty_lines() {
    for service in ["user-service", "template/{{project-name}}-service"] {
        let frame = ["src/main.rs", "src/lib.rs", "src/http/codes.rs"];
        let files = frame.map(|file| workspace().join(service).join(file));
        let lines: usize = files
            .iter()
            .filter(|it| it.exists())
            .map(|it| {
                code(&read(it))
                    .filter(|line| !line.trim().is_empty())
                    .count()
            })
            .sum();
        assert!((20..=40).contains(&lines), "{service}: {lines}");
    }
}
