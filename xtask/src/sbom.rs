//! `cargo xtask sbom`: everything the workspace is built and tested with, as one CycloneDX document that is the same, byte for
//! byte, each time. Not cargo-cyclonedx: it writes one document per crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use freehold_tests::cargo::cargo;
use freehold_tests::paths::workspace;
use serde_json::{Value, json};

use crate::say;

#[derive(Debug, Args)]
pub(crate) struct Sbom {
    /// Where to write it [default: target/freehold.cdx.json]
    #[arg(value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Sbom {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let document = document()?;
        let to = self.to;
        let to = to.unwrap_or_else(|| workspace().join("target/freehold.cdx.json"));
        let text = format!("{document:#}\n");
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))?;
        let count = document["components"].as_array().map_or(0, Vec::len);
        say(&format!("{count} components in {}", to.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// The name of the whole among its components.
const WHOLE: &str = "freehold";

fn document() -> Result<Value> {
    let metadata = metadata()?;
    let lock = fs::read_to_string(workspace().join("Cargo.lock"))?;
    let checksums = checksums(&lock);
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let components: BTreeMap<String, Value> = packages
        .map(|package| (reference(package), component(package, &checksums)))
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": WHOLE, "name": "freehold", "version": env!("CARGO_PKG_VERSION"),
        }},
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies(&metadata),
    }))
}

fn metadata() -> Result<Value> {
    let asked = "metadata --format-version=1 --locked --all-features".split(' ');
    let output = cargo().args(asked).output().context("cannot run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn component(package: &Value, checksums: &BTreeMap<String, String>) -> Value {
    let (name, version) = (&package["name"], &package["version"]);
    let mut component = json!({
        "type": "library", "bom-ref": reference(package), "name": name, "version": version,
    });
    if is_from_registry(package) {
        component["purl"] = json!(reference(package));
    }
    if let Some(license) = package["license"].as_str() {
        // The slash is how crates said `OR` before SPDX.
        let words: Vec<&str> = license.split('/').map(str::trim).collect();
        component["licenses"] = json!([{"expression": words.join(" OR ")}]);
    }
    if let Some(checksum) = checksums.get(&reference(package)) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
}

/// Which component depends on which. The whole depends on the crates of the workspace.
fn dependencies(metadata: &Value) -> Vec<Value> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let references: BTreeMap<&str, String> = packages
        .filter_map(|package| Some((package["id"].as_str()?, reference(package))))
        .collect();
    let known = |id: &Value| references.get(id.as_str()?).cloned();
    let sorted = |ids: &Value| {
        let ids = ids.as_array().into_iter().flatten();
        let mut on: Vec<String> = ids.filter_map(known).collect();
        on.sort();
        on
    };
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten();
    let whole = (WHOLE.to_owned(), sorted(&metadata["workspace_members"]));
    let edges: BTreeMap<String, Vec<String>> = nodes
        .filter_map(|node| Some((known(&node["id"])?, sorted(&node["dependencies"]))))
        .chain([whole])
        .collect();
    let edge = |(of, on)| json!({"ref": of, "dependsOn": on});
    edges.into_iter().map(edge).collect()
}

/// `pkg:cargo/serde@1.0.229`, which is its purl, too; `relay@0.1.0` for a crate of the workspace, which is not the registry's crate of that name.
fn reference(package: &Value) -> String {
    let text = |field: &str| package[field].as_str().unwrap_or_default();
    let registry = match is_from_registry(package) {
        true => "pkg:cargo/",
        false => "",
    };
    format!("{registry}{}@{}", text("name"), text("version"))
}

fn is_from_registry(package: &Value) -> bool {
    let source = package["source"].as_str();
    source.is_some_and(|source| source.starts_with("registry+"))
}

/// Of each package of the lock file that came from a registry.
fn checksums(lock: &str) -> BTreeMap<String, String> {
    let field = |package: &str, name: &str| {
        let mut lines = package.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
        Some(line?.strip_suffix('"')?.to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter_map(|package| {
            let (name, version) = (field(package, "name")?, field(package, "version")?);
            Some((
                format!("pkg:cargo/{name}@{version}"),
                field(package, "checksum")?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_names_every_package_of_the_lock_file_with_its_licence_and_its_checksum() {
        let document = document().unwrap();
        let components = document["components"].as_array().unwrap();
        let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
        let locked = lock.matches("[[package]]").count();
        assert_eq!(components.len(), locked);
        let hashed = components
            .iter()
            .filter(|of| of["hashes"][0]["content"].is_string());
        assert_eq!(hashed.count(), lock.matches("\nchecksum = ").count());
        let refs: BTreeSet<&str> = components
            .iter()
            .filter_map(|of| of["bom-ref"].as_str())
            .collect();
        assert_eq!(refs.len(), locked);
        for component in components {
            let license = component["licenses"][0]["expression"].as_str();
            assert!(
                license.is_some_and(|license| !license.contains('/')),
                "{component}"
            );
        }
        let root = document["metadata"]["component"]["bom-ref"].as_str();
        let refs: BTreeSet<&str> = refs.into_iter().chain(root).collect();
        for edge in document["dependencies"].as_array().unwrap() {
            let on = edge["dependsOn"].as_array().unwrap();
            let mut ends = on.iter().chain([&edge["ref"]]);
            assert!(ends.all(|of| refs.contains(of.as_str().unwrap())), "{edge}");
        }
    }

    #[test]
    fn only_registry_packages_have_a_purl_and_a_checksum() {
        let document = document().unwrap();
        for component in document["components"].as_array().unwrap() {
            let hashed = component["hashes"].is_array();
            assert_eq!(component["purl"].is_string(), hashed, "{component}");
        }
    }

    #[test]
    fn the_whole_depends_on_every_crate_of_the_workspace() {
        let document = document().unwrap();
        let root = &document["metadata"]["component"]["bom-ref"];
        assert!(root.is_string());
        let edges = document["dependencies"].as_array().unwrap();
        let own = edges.iter().find(|edge| edge["ref"] == *root).unwrap();
        let named = |name: &str| {
            let on = own["dependsOn"].as_array().unwrap();
            let starts = format!("{name}@");
            on.iter()
                .any(|of| of.as_str().unwrap().starts_with(&starts))
        };
        let members = [
            "freehold-relay",
            "user-service",
            "orders-service",
            "driver-app",
            "xtask",
        ];
        assert!(members.iter().all(|member| named(member)), "{own}");
        assert!(!named("serde"));
    }

    #[test]
    fn it_is_the_same_each_time() {
        assert_eq!(
            document().unwrap().to_string(),
            document().unwrap().to_string()
        );
    }
}
