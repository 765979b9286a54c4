//! The access file: the callers and their tokens, one line each. It holds tokens as hashes only.
//!
//! ```text
//! # the shop
//! operator ada sha256:9f86… expires 2027-01-01T00:00:00Z
//! service orders-service sha256:2c26…
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::principal::{Kind, OPERATOR, Principal, SERVICE};
use super::token::TokenHash;

/// The access file as a running service follows it.
pub(crate) struct Watched {
    path: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    looked: Instant,
    /// Its text, `None` without a file; or why it could not be read.
    text: Result<Option<String>, String>,
    listed: Arc<Listed>,
}

/// The entries of the lines that can be read.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    entries: Vec<Entry>,
    /// Why the other lines are ignored.
    damage: Option<String>,
}

/// A line of the access file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Operator or service.
    pub kind: &'static Kind,
    /// Of the caller, for audits.
    pub name: String,
    /// Of its token; the token itself is in no file.
    pub hash: TokenHash,
    /// From this moment on the token is refused. `None`: it does not expire.
    pub expires: Option<Timestamp>,
}

/// A change of the file is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// More than a list of people and services ever needs. A longer file is something else.
const MAX_BYTES: u64 = 1 << 20;

impl Watched {
    /// A damaged file is refused. A missing one counts as an empty one, until there is one.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let text = read(&path)?;
        let entries = whole(&path, text.as_deref())?;
        if text.is_none() {
            warn_of_no_file(&path);
        }
        let listed = Listed {
            entries,
            damage: None,
        };
        let seen = Mutex::new(Seen {
            looked: Instant::now(),
            text: Ok(text),
            listed: Arc::new(listed),
        });
        Ok(Self { path, seen })
    }

    pub(super) fn listed(&self) -> Arc<Listed> {
        self.listed_at(Instant::now())
    }

    fn listed_at(&self, now: Instant) -> Arc<Listed> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(seen.looked) >= LOOK_EVERY {
            seen.looked = now;
            seen.look(&self.path);
        }
        Arc::clone(&seen.listed)
    }
}

impl Seen {
    /// Damage is logged once, until the file changes.
    fn look(&mut self, path: &Path) {
        let text = read(path).map_err(|error| relay::error::chain(error.as_ref()));
        if text == self.text {
            return;
        }
        let listed = match &text {
            Ok(text) => Listed::parse(text.as_deref().unwrap_or_default()),
            Err(damage) => Listed {
                entries: Vec::new(),
                damage: Some(damage.clone()),
            },
        };
        match &listed.damage {
            Some(damage) => tracing::error!(
                %damage,
                "the access file is damaged: a line that cannot be read lets no caller in"
            ),
            None if text == Ok(None) => warn_of_no_file(path),
            None => tracing::info!(tokens = listed.entries.len(), "the access file was read"),
        }
        (self.text, self.listed) = (text, Arc::new(listed));
    }
}

fn warn_of_no_file(path: &Path) {
    tracing::warn!(
        path = %path.display(),
        "there is no access file, so no caller gets in: make a token with the command `token new operator NAME`"
    );
}

/// `None`: there is no file.
fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let failed = || format!("cannot read the access file {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(failed)?,
    };
    let found = file.metadata().with_context(failed)?;
    if found.size() > MAX_BYTES {
        bail!("{} is no access file: it is too long", path.display());
    }
    if found.mode() & 0o022 != 0 {
        bail!("others may write {0}: chmod 600 {0}", path.display());
    }
    let mut text = Vec::new();
    let taken = file.take(MAX_BYTES).read_to_end(&mut text);
    taken.with_context(failed)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// Refuses a damaged file: commands and starts can be repeated once the operator has repaired it.
fn whole(path: &Path, text: Option<&str>) -> anyhow::Result<Vec<Entry>> {
    let Listed { entries, damage } = Listed::parse(text.unwrap_or_default());
    match damage {
        None => Ok(entries),
        Some(damage) => bail!("{} is damaged: {damage}", path.display()),
    }
}

/// Its entries, for a command. Without a file there are none.
///
/// # Errors
///
/// The file cannot be read, others may write it, or a line is no entry; the text names the line.
pub fn look(path: &Path) -> anyhow::Result<Vec<Entry>> {
    whole(path, read(path)?.as_deref())
}

/// Changes the file by a new one that is renamed over it, so that a service never reads half of it. Lines that are not
/// changed stay as they are, comments too. Of two commands at the same time one waits for the other.
///
/// # Errors
///
/// As [`look`]; or the error of `change`, or the new file cannot be written. The file is then as it was.
pub fn change<T>(
    path: &Path,
    change: impl FnOnce(&[Entry], &mut Vec<String>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let path = relay::database::real_path(path).unwrap_or_else(|_| path.to_owned());
    let failed = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).with_context(failed)?;
    folder.lock().with_context(failed)?;
    let text = read(&path)?.unwrap_or_default();
    let mut lines = text.lines().map(str::to_owned).collect();
    let changed = change(&whole(&path, Some(&text))?, &mut lines)?;
    let replaced = replace(&path, &lines).and_then(|()| folder.sync_all());
    replaced.with_context(failed)?;
    Ok(changed)
}

fn replace(path: &Path, lines: &[String]) -> io::Result<()> {
    let aside = path.with_added_extension("new");
    let _left_by_a_kill = fs::remove_file(&aside);
    let mut new = File::options();
    let new = new.write(true).create_new(true).mode(0o600);
    let written = new.open(&aside).and_then(|mut file| {
        file.write_all(lines.join("\n").as_bytes())?;
        file.write_all(if lines.is_empty() { b"" } else { b"\n" })?;
        file.sync_all()?;
        fs::rename(&aside, path)
    });
    written.inspect_err(|_| {
        let _full = fs::remove_file(&aside);
    })
}

impl Listed {
    /// Ignores a line that it cannot read, and both of two lines for one name: either may be the old one.
    fn parse(text: &str) -> Self {
        let (mut entries, mut doubled): (Vec<Entry>, Vec<Entry>) = Default::default();
        let mut damage = None;
        for (number, line) in (1..).zip(text.lines()) {
            let parsed = Entry::parse_line(line).and_then(|entry| match entry {
                Some(new) if entries.iter().any(|known| known.is(new.kind, &new.name)) => {
                    let (kind, name) = (new.kind.name, new.name.clone());
                    doubled.push(new);
                    Err(format!(
                        "{kind} {name} has a token already; remove one line"
                    ))
                }
                entry => Ok(entry),
            });
            match parsed {
                Ok(entry) => entries.extend(entry),
                Err(why) => damage = damage.or_else(|| Some(format!("line {number}: {why}"))),
            }
        }
        entries.retain(|entry| !doubled.iter().any(|of| of.is(entry.kind, &entry.name)));
        Self { entries, damage }
    }

    /// Every line is compared, so that the time says nothing about which one it was.
    pub(super) fn find(&self, token: &TokenHash, now: Timestamp) -> Option<Principal> {
        let known = self.entries.iter().fold(None, |found, entry| {
            let this = (entry.hash == *token).then_some(entry);
            this.or(found)
        })?;
        let caller = || Principal::new(known.kind, &known.name);
        known.is_valid(now).then(caller)
    }

    pub(super) fn has(&self, kind: &Kind) -> bool {
        self.entries.iter().any(|entry| entry.kind == kind)
    }
}

impl Entry {
    /// Whether it is the entry of this caller.
    pub fn is(&self, kind: &Kind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }

    /// Whether its token is accepted at this moment.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// `None`: a comment, or an empty line.
    ///
    /// # Errors
    ///
    /// What the line should be like.
    pub fn parse_line(line: &str) -> Result<Option<Self>, String> {
        let entry = line.split('#').next().unwrap_or_default();
        let words: Vec<_> = entry.split_whitespace().collect();
        let (kind, name, hash, expires) = match words[..] {
            [] => return Ok(None),
            [kind, name, hash] => (kind, name, hash, None),
            [kind, name, hash, "expires", at] => (kind, name, hash, Some(at)),
            _ => return Err("expected `operator NAME sha256:HEX` or `service NAME sha256:HEX`, and after it nothing or `expires 2027-01-01T00:00:00Z`".to_owned()),
        };
        let hash = hash
            .strip_prefix("sha256:")
            .and_then(|hash| hash.parse().ok());
        let moment = |at: &str| {
            let why = |_| "expected a moment behind `expires`, such as 2027-01-01T00:00:00Z";
            at.parse::<Timestamp>().map_err(why)
        };
        Ok(Some(Self {
            kind: listed_kind(kind)?,
            name: checked_name(name)?,
            hash: hash.ok_or(
                "expected `sha256:` and 64 hexadecimal digits; `token new` makes a whole line",
            )?,
            expires: expires.map(moment).transpose()?,
        }))
    }
}

/// The kinds of callers that the file can list.
///
/// # Errors
///
/// The file does not list callers of this kind.
pub fn listed_kind(name: &str) -> Result<&'static Kind, String> {
    let mut kinds = [OPERATOR, SERVICE].into_iter();
    let found = kinds.find(|kind| kind.name == name);
    found.ok_or_else(|| format!("expected `operator` or `service`, found `{name}`"))
}

/// The name, if it can stand in the file: 1 to 64 letters, digits, dots, dashes and underscores.
///
/// # Errors
///
/// It cannot.
pub fn checked_name(name: &str) -> Result<String, String> {
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match (1..=64).contains(&name.len()) && name.bytes().all(sign) {
        true => Ok(name.to_owned()),
        false => Err("a name has 1 to 64 letters, digits, dots, dashes and underscores".to_owned()),
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} sha256:{}", self.kind.name, self.name, self.hash)?;
        match self.expires {
            Some(expires) => write!(f, " expires {expires}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LATER: Duration = LOOK_EVERY;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn line(kind: &str, name: &str, token: &str) -> String {
        format!("{kind} {name} sha256:{}", TokenHash::of(token))
    }

    #[test]
    fn a_line_says_who_with_which_token_and_until_when() {
        let text = format!(
            "# the shop\n\n{}\n  {} expires 2027-01-01T00:00:00Z # until then\n",
            line("operator", "ada", "a"),
            line("service", "orders-service", "b"),
        );
        let entries = Listed::parse(&text);
        let (before, after) = (at("2026-12-31T23:59:59Z"), at("2027-01-01T00:00:00Z"));
        let find = |token: &str, now| entries.find(&TokenHash::of(token), now);
        assert_eq!(find("a", after), Some(Principal::new(OPERATOR, "ada")));
        let orders = Principal::new(SERVICE, "orders-service");
        assert_eq!(find("b", before), Some(orders));
        assert_eq!(find("b", after), None, "expired");
        assert_eq!(find("c", before), None);
        assert_eq!(entries.damage, None);
        for entry in &entries.entries {
            let again = Entry::parse_line(&entry.to_string()).unwrap();
            assert_eq!(again.as_ref(), Some(entry), "it reads what it writes");
        }
    }

    #[test]
    fn a_damaged_line_is_named_by_its_number_with_the_cure() {
        let good = line("operator", "ada", "a");
        for (bad, why) in [
            ("operator ada".to_owned(), "expected `operator NAME"),
            (format!("{good} until"), "expected `operator NAME"),
            (format!("{good} expires"), "expected `operator NAME"),
            (format!("{good} expires tomorrow"), "expected a moment"),
            (
                line("device", "ada", "b"),
                "expected `operator` or `service`",
            ),
            (line("operator", "a/b", "b"), "a name has 1 to 64"),
            ("operator eve plain".to_owned(), "expected `sha256:`"),
            ("operator eve sha256:ab".to_owned(), "64 hexadecimal digits"),
            (line("operator", "ada", "b"), "has a token already"),
        ] {
            let said = Listed::parse(&format!("{good}\n{bad}\n")).damage.unwrap();
            assert!(said.starts_with("line 2: ") && said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_running_service_follows_the_file_and_what_is_damaged_lets_no_one_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.access");
        let watched = Watched::open(path.clone()).unwrap();
        let mut now = Instant::now();
        let mut knows = |token: &str| {
            now += LATER;
            let entries = watched.listed_at(now);
            entries
                .find(&TokenHash::of(token), at("2026-01-01T00:00:00Z"))
                .is_some()
        };
        assert!(!knows("a"), "there is no file");
        let put = |text: &str| {
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            replace(&path, &lines).unwrap();
        };
        put(&line("operator", "ada", "a"));
        assert!(knows("a") && !knows("b"));
        put(&line("operator", "ada", "b"));
        assert!(!knows("a") && knows("b"));
        let typo = format!("{}\noperator eve sha256:12\n", line("operator", "ada", "c"));
        put(&typo);
        assert!(knows("c") && !knows("b"), "a removed name stays out");
        put(&format!("{typo}{}", line("operator", "ada", "b")));
        assert!(!knows("b") && !knows("c"), "which one is the old one?");
        put(&line("operator", "ada", "b"));
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o666);
        assert!(!knows("b"), "others may have written it");
        mode(0o600);
        assert!(knows("b"));
        fs::remove_file(&path).unwrap();
        assert!(!knows("b"), "without a file no caller gets in");
    }

    #[test]
    fn between_two_looks_nothing_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.access");
        let watched = Watched::open(path.clone()).unwrap();
        let opened = watched.seen.lock().unwrap().looked;
        replace(&path, &[line("operator", "ada", "a")]).unwrap();
        let soon = opened + LATER / 2;
        assert!(!watched.listed_at(soon).has(OPERATOR));
        assert!(watched.listed_at(opened + LATER).has(OPERATOR));
    }

    #[test]
    fn a_service_refuses_to_start_with_a_damaged_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.access");
        let refusal = |path: &Path| {
            let refused = Watched::open(path.to_owned()).err().expect("refused");
            format!("{refused:#}")
        };
        fs::write(&path, "# a\nnonsense\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let said = refusal(&path);
        assert!(
            said.contains("a.access is damaged: line 2: expected"),
            "{said}"
        );
        fs::write(&path, line("operator", "ada", "a")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        let said = refusal(&path);
        assert!(
            said.contains("others may write") && said.contains("chmod 600"),
            "{said}"
        );
    }

    #[test]
    fn a_change_keeps_the_other_lines_and_the_file_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.access");
        for name in ["ada", "bob"] {
            change(&path, |_, lines| {
                lines.push("# one more".to_owned());
                lines.push(line("operator", name, name));
                Ok(())
            })
            .unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("# one more\noperator ").count(), 2);
        assert_eq!(look(&path).unwrap().len(), 2);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = change(&path, |_, lines| -> anyhow::Result<()> {
            lines.clear();
            bail!("no")
        });
        assert!(refused.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "as it was");
    }
}
