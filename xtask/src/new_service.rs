//! `cargo xtask new-service NAME`: a service from the template, with everything that names it.

mod followed;
mod names;
mod plan;
mod template;
mod workspace;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use freehold_tests::manifest::NAME as MANIFEST;
use freehold_tests::paths;
use tempfile::TempDir;

pub(crate) use crate::new_service::plan::NewService;
use crate::new_service::plan::Plan;
use crate::new_service::template::{format, render};
use crate::new_service::workspace::Workspace;
use crate::say;

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
            "{} is not in {}: run it there, or name another workspace with --into",
            here.display(),
            ours.display()
        );
        Ok(ours.to_owned())
    }

    fn add(&self, workspace: Workspace, checkout: &Workspace) -> Result<Plan> {
        let plan = Plan::of(self, Some(&workspace), checkout)?;
        workspace.refuse_taken(&plan.service, &plan.folders)?;
        if !self.allow_dirty {
            workspace.refuse_uncommitted()?;
        }
        let made = temporary(&workspace.root().join("target"))?;
        let values = plan.values();
        for folder in ["{{project-name}}-events", "{{project-name}}-service"] {
            let to = made.path().join(values.fill_in(folder)?);
            render(&template().join(folder), &to, &values)?;
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
        let plan = Plan::of(self, None, checkout)?;
        let made = temporary(
            folder
                .parent()
                .context("a workspace needs a folder of its own")?,
        )?;
        let whole = made.path().join("workspace"); // with the rights of any folder
        render(&template(), &whole, &plan.values())?;
        format(&whole)?;
        fs::copy(checkout.root().join("Cargo.lock"), whole.join("Cargo.lock"))?;
        fs::rename(&whole, folder).with_context(|| format!("cannot make {shown}"))?;
        Ok(plan)
    }
}

fn template() -> PathBuf {
    paths::workspace().join("template")
}

/// What is made appears in its place at once, so it is made nearby, on the same disk.
fn temporary(parent: &Path) -> Result<TempDir> {
    let cannot = || format!("cannot make a folder in {}", parent.display());
    fs::create_dir_all(parent).with_context(cannot)?;
    tempfile::Builder::new()
        .prefix(".new-service-")
        .tempdir_in(parent)
        .with_context(cannot)
}

fn report(plan: &Plan, into: Option<&Path>) {
    let [events, service] = &plan.folders;
    let (port, stream) = (plan.service.port, &plan.service.stream);
    let (root, id) = (plan.name.snake(), plan.followed.item.snake());
    say(&format!(
        "made  {events}   what travels on {stream}: {root}.recorded.v1"
    ));
    say(&format!(
        "made  {service}  port {port}, follows {}",
        plan.owner.stream
    ));
    match into {
        None => {
            say(&format!(
                "they are in {MANIFEST}, Cargo.toml and accounts.conf, too\n"
            ));
            say(&format!("test  cargo test -p {events} -p {service}"));
            say("run   cargo xtask up");
        }
        Some(folder) => {
            let folder = folder.display();
            say(&format!(
                "they are in {folder}, which uses {}\n",
                paths::workspace().display()
            ));
            say(&format!(
                "test  (cd {folder} && cargo test -p {events} -p {service})"
            ));
            say(&format!(
                "run   cargo xtask up --with {service}={folder}/target/debug/{service}"
            ));
        }
    }
    let path = plan.name.kebab();
    let new = format!(r#"{{"{id}_id":"01985b3e-90aa-7c31-b0aa-11d05e7fc0de","reason":"by hand"}}"#);
    say(&format!(
        "call  . .freehold/commands.sh && api ${root}/{path} -H 'Idempotency-Key: 1' -d '{new}'"
    ));
}
