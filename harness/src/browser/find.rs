//! Finds a Chromium and a chromedriver of the same version: the named ones, else ones on the PATH; or says what is missing.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::tool::Found;

/// A Chromium and a chromedriver of the same major version; other pairs do not work together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// The browser.
    pub chromium: PathBuf,
    /// The program that drives it, of the same version.
    pub chromedriver: PathBuf,
    /// As Chromium prints it: `Chromium 156.0.8078.79 …`.
    pub version: String,
}

/// These name the programs to use; the PATH is not searched then.
pub const CHROMIUM: &str = "FREEHOLD_CHROMIUM";
/// The variable that names another driver.
pub const CHROMEDRIVER: &str = "FREEHOLD_CHROMEDRIVER";
/// `required`: a missing browser is a failure, not a skip.
pub const BROWSER_TESTS: &str = "FREEHOLD_BROWSER_TESTS";

const CHROMIUM_NAMES: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
];
const CHROMEDRIVER_NAMES: [&str; 2] = ["chromedriver", "chromium.chromedriver"];

/// What this process's environment names or holds.
pub fn find() -> Result<Found<Programs>> {
    let search = Search {
        chromium: env::var_os(CHROMIUM),
        chromedriver: env::var_os(CHROMEDRIVER),
        path: env::var_os("PATH").unwrap_or_default(),
    };
    search.run()?.unless_required(BROWSER_TESTS)
}

struct Search {
    chromium: Option<OsString>,
    chromedriver: Option<OsString>,
    path: OsString,
}

/// A program that answered, and its major version.
struct Answered {
    program: PathBuf,
    said: String,
    major: u32,
}

impl Search {
    /// A named program that does not work is an error: the operator wants that one, not a skip.
    fn run(&self) -> Result<Found<Programs>> {
        let mut refusals = Vec::new();
        let chromiums = self.one_of(CHROMIUM, &self.chromium, &CHROMIUM_NAMES, &mut refusals)?;
        let drivers = self.one_of(
            CHROMEDRIVER,
            &self.chromedriver,
            &CHROMEDRIVER_NAMES,
            &mut refusals,
        )?;
        Ok(pair(&chromiums, &drivers)
            .map_or_else(|| missing(&chromiums, &drivers, &refusals), Found::Here))
    }

    fn one_of(
        &self,
        variable: &str,
        named: &Option<OsString>,
        names: &[&str],
        refusals: &mut Vec<String>,
    ) -> Result<Vec<Answered>> {
        if let Some(named) = named {
            return match ask(Path::new(named)) {
                Ok(answered) => Ok(vec![answered]),
                Err(refusal) => bail!("{variable} names a program that will not do: {refusal}"),
            };
        }
        let (good, bad): (Vec<_>, Vec<_>) = on_path(&self.path, names)
            .iter()
            .map(|program| ask(program))
            .partition(Result::is_ok);
        refusals.extend(bad.into_iter().filter_map(Result::err));
        Ok(good.into_iter().filter_map(Result::ok).collect())
    }
}

fn on_path(path: &OsStr, names: &[&str]) -> Vec<PathBuf> {
    let folders: Vec<PathBuf> = env::split_paths(path).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .filter(|program| program.is_file())
        .collect()
}

/// Some systems install a placeholder (Ubuntu's, without its snap) that prints no version, or does not run.
fn ask(program: &Path) -> Result<Answered, String> {
    let shown = program.display();
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| format!("{shown} does not run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major =
        major(&said).ok_or_else(|| format!("{shown} does not say its version: {said:?}"))?;
    Ok(Answered {
        program: program.to_owned(),
        said,
        major,
    })
}

/// `ChromeDriver 156.0.8078.79 (…)` → 156.
fn major(said: &str) -> Option<u32> {
    said.split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .and_then(|version| version.split('.').next())
        .and_then(|major| major.parse().ok())
}

fn pair(chromiums: &[Answered], drivers: &[Answered]) -> Option<Programs> {
    chromiums.iter().find_map(|chromium| {
        let driver = drivers
            .iter()
            .find(|driver| driver.major == chromium.major)?;
        Some(Programs {
            chromium: chromium.program.clone(),
            chromedriver: driver.program.clone(),
            version: chromium.said.clone(),
        })
    })
}

fn missing(chromiums: &[Answered], drivers: &[Answered], refusals: &[String]) -> Found<Programs> {
    let mut reasons = refusals.to_vec();
    match (chromiums.first(), drivers.first()) {
        (Some(chromium), Some(driver)) => reasons.push(format!(
            "Chromium is {} and chromedriver is {}; they must be the same",
            chromium.major, driver.major
        )),
        (chromium, driver) => {
            let none = [("Chromium", chromium), ("chromedriver", driver)];
            let none = none.iter().filter(|(_, found)| found.is_none());
            reasons.extend(none.map(|(name, _)| format!("there is no {name} on the PATH")));
        }
    }
    Found::Missing(format!(
        "{}. Install both (Debian: apt-get install chromium chromium-driver), or set {CHROMIUM} and {CHROMEDRIVER}",
        reasons.join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A folder with programs that print the given text.
    struct Shelf(tempfile::TempDir);

    impl Shelf {
        fn with(programs: &[(&str, &str)]) -> Shelf {
            let shelf = Shelf(tempfile::tempdir().unwrap());
            for (name, said) in programs {
                let program = shelf.0.path().join(name);
                fs::write(&program, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            }
            shelf
        }

        fn search(&self) -> Search {
            Search {
                chromium: None,
                chromedriver: None,
                path: self.0.path().into(),
            }
        }

        fn missing(&self) -> String {
            match self.search().run().expect("nothing is named") {
                Found::Missing(reason) => reason,
                Found::Here(programs) => panic!("found {programs:?}"),
            }
        }
    }

    #[test]
    fn a_chromium_is_taken_with_the_driver_of_its_version() {
        let shelf = Shelf::with(&[
            ("chromium", "snap needed"),
            ("google-chrome", "Google Chrome 130.0.1"),
            ("chromium-browser", "Chromium 156.0.8078.79 built on Debian"),
            ("chromedriver", "ChromeDriver 130.0.2 (abc)"),
        ]);
        let Found::Here(programs) = shelf.search().run().unwrap() else {
            panic!("both are there");
        };
        assert_eq!(programs.chromium, shelf.0.path().join("google-chrome"));
        assert_eq!(programs.version, "Google Chrome 130.0.1");
    }

    #[test]
    fn a_missing_program_is_named_with_what_to_do() {
        let reason = Shelf::with(&[("chromium", "Chromium 156.0")]).missing();
        assert!(
            reason.contains("no chromedriver") && !reason.contains("no Chromium"),
            "{reason}"
        );
        assert!(
            reason.contains("apt-get install") && reason.contains(CHROMEDRIVER),
            "{reason}"
        );
        let reason = Shelf::with(&[("chromium", "Chromium 156"), ("chromedriver", "x 155.1")]);
        let reason = reason.missing();
        assert!(
            reason.contains("Chromium is 156 and chromedriver is 155"),
            "{reason}"
        );
        let reason = Shelf::with(&[("chromium", "please install the snap")]).missing();
        assert!(reason.contains("does not say its version"), "{reason}");
    }

    #[test]
    fn a_named_program_is_used_or_refused_but_never_replaced() {
        let shelf = Shelf::with(&[("chromium", "Chromium 156.0"), ("chromedriver", "x 156.1")]);
        let named = Search {
            chromium: Some("/nowhere/chromium".into()),
            ..shelf.search()
        };
        let refusal = named.run().expect_err("not there").to_string();
        assert!(
            refusal.contains(CHROMIUM) && refusal.contains("/nowhere/chromium does not run"),
            "{refusal}"
        );
    }
}
