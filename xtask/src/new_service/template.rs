//! The template: files with `{{placeholders}}`, filled in as `cargo generate` would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::new_service::names::Name;

/// What stands for each placeholder.
#[derive(Debug, Default)]
pub(crate) struct Values(Vec<(String, String)>);

impl Values {
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.push((format!("{{{{{name}}}}}"), value.to_string()));
        self
    }

    /// Together with the filters that turn it into other names.
    #[must_use]
    pub(crate) fn with_name(self, name: &str, value: &Name) -> Self {
        self.with(name, value.kebab())
            .with(&format!("{name} | snake_case"), value.snake())
            .with(&format!("{name} | shouty_snake_case"), value.shouty())
            .with(&format!("{name} | pascal_case"), value.pascal())
    }

    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.0.iter().map(|(placeholder, _)| placeholder);
        names.filter_map(|it| it.strip_prefix("{{")?.strip_suffix("}}"))
    }

    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.names().zip(&self.0);
        all.find(|(known, _)| *known == name)
            .map(|(_, (_, value))| &**value)
    }

    pub(crate) fn fill_in(&self, text: &str) -> Result<String> {
        let filled = |text: String, (from, to): &(String, String)| text.replace(from, to);
        let text = self.0.iter().fold(text.to_owned(), filled);
        if let Some((_, left)) = text.split_once("{{") {
            let line = left.lines().next().unwrap_or_default();
            bail!("the template has an unknown placeholder: {{{{{line}");
        }
        Ok(text)
    }
}

/// Every file of `from`, filled in. The names of files have placeholders, too.
pub(crate) fn render(from: &Path, to: &Path, values: &Values) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let from = entry?.path();
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let to = to.join(values.fill_in(&name)?);
        if from.is_dir() {
            render(&from, &to, values)?;
        } else if name != "cargo-generate.toml" {
            let text = values.fill_in(&fs::read_to_string(&from)?);
            fs::write(&to, text.with_context(|| from.display().to_string())?)?;
        }
    }
    Ok(())
}

/// The lines of a template have other lengths once they are filled in.
pub(crate) fn format(folder: &Path) -> Result<()> {
    let mut rustfmt = Command::new("rustfmt");
    let rustfmt = rustfmt.args(["--edition", "2024"]).args(programs(folder)?);
    let formatted = rustfmt.output();
    let formatted =
        formatted.context("rustfmt does not run: `rustup component add rustfmt` installs it")?;
    let said = String::from_utf8_lossy(&formatted.stderr);
    ensure!(
        formatted.status.success(),
        "rustfmt refuses the template: {said}"
    );
    Ok(())
}

fn programs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(programs(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_and_a_forgotten_one_is_refused() {
        let name = Name::of_many("parcel-labels").unwrap();
        let values = Values::default()
            .with_name("project-name", &name)
            .with("port", 7105);
        let text = "{{project-name}} {{project-name | pascal_case}}: {port} {{port}}";
        assert_eq!(
            values.fill_in(text).unwrap(),
            "parcel-labels ParcelLabels: {port} 7105"
        );
        let refusal = values.fill_in("{{prot}}").unwrap_err().to_string();
        assert!(refusal.ends_with("placeholder: {{prot}}"), "{refusal}");
    }
}
