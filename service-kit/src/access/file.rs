//! The access file: who may come in with which token, one line each. Tokens are in it as hashes only.
//!
//! ```text
//! # whoever looks after the shop
//! operator ada sha256:9f86… expires 2027-01-01T00:00:00Z
//! service orders-service sha256:2c26…
//! ```

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use jiff::Timestamp;

use super::{Caller, TokenHash};

/// The file of a running service: what it says now.
pub(crate) struct Watched {
    path: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    looked: Instant,
    /// `None`: there was no file.
    stamp: Option<Stamp>,
    entries: Arc<Entries>,
}

/// Tells one content of the file from another without reading it. Who replaces a file makes a new inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    bytes: u64,
    inode: u64,
    mode: u32,
}

/// The lines that let somebody in.
#[derive(Debug, Default)]
pub(crate) struct Entries(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) name: Name,
    pub(crate) hash: TokenHash,
    pub(crate) expires: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A person, or a person's program: may do everything
    Operator,
    /// Another service: may read what services share
    Service,
}

/// Whose token it is: up to 64 letters, digits, dots, dashes and underscores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

/// A change of the file is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// More than a list of people and services ever needs; what is longer is another file.
const MAX_BYTES: u64 = 1 << 20;

impl Watched {
    /// A damaged file is refused; a missing one is an empty one, until there is one.
    pub(super) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let stamp = stamp(&path)?;
        let entries = Arc::new(read(&path, stamp)?);
        if stamp.is_none() {
            warn_of_no_file(&path);
        }
        let looked = Instant::now();
        let seen = Mutex::new(Seen {
            looked,
            stamp,
            entries,
        });
        Ok(Self { path, seen })
    }

    pub(super) fn entries(&self) -> Arc<Entries> {
        self.entries_at(Instant::now())
    }

    fn entries_at(&self, now: Instant) -> Arc<Entries> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(seen.looked) >= LOOK_EVERY {
            seen.looked = now;
            if let Err(error) = seen.look(&self.path) {
                tracing::error!(
                    error = %relay::chain(error.as_ref()),
                    "the access file is damaged: who was known before is still let in, and nobody else"
                );
            }
        }
        Arc::clone(&seen.entries)
    }
}

impl Seen {
    /// The stamp is taken first: a change in between shows in the next one. What is damaged is told once, not every second;
    /// what could not be read is read again.
    fn look(&mut self, path: &Path) -> anyhow::Result<()> {
        let now = stamp(path)?;
        if now == self.stamp {
            return Ok(());
        }
        let entries = read(path, now);
        let is_io = |error: &anyhow::Error| error.chain().any(|cause| cause.is::<io::Error>());
        if !entries.as_ref().is_err_and(is_io) {
            self.stamp = now;
        }
        self.entries = Arc::new(entries?);
        match now {
            Some(_) => tracing::info!(tokens = self.entries.0.len(), "the access file was read"),
            None => warn_of_no_file(path),
        }
        Ok(())
    }
}

fn warn_of_no_file(path: &Path) {
    tracing::warn!(
        path = %path.display(),
        "there is no access file, so nobody gets in: make a token with the command `token new operator NAME`"
    );
}

fn stamp(path: &Path) -> anyhow::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(Stamp::of(&found))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| cannot_read(path)),
    }
}

fn read(path: &Path, stamp: Option<Stamp>) -> anyhow::Result<Entries> {
    match stamp {
        None => Ok(Entries::default()),
        Some(stamp) if stamp.bytes > MAX_BYTES => {
            bail!("{} is no access file: it is too long", path.display())
        }
        Some(stamp) if stamp.mode & 0o022 != 0 => {
            bail!("others may write {0}: chmod 600 {0}", path.display())
        }
        Some(_) => {
            let text = fs::read_to_string(path).with_context(|| cannot_read(path))?;
            Entries::parse(&text).with_context(|| format!("{} is damaged", path.display()))
        }
    }
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read the access file {}", path.display())
}

/// What the file says now, to a command.
pub(crate) fn look(path: &Path) -> anyhow::Result<Vec<Entry>> {
    Ok(read(path, stamp(path)?)?.0)
}

/// Changes the file: aside first and renamed, so that a service never reads half of it. Lines that are not changed stay as
/// they are, comments too. Two commands at the same time wait for one another.
pub(crate) fn change<T>(
    path: &Path,
    change: impl FnOnce(&[Entry], &mut Vec<String>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let path = relay::real_path(path).unwrap_or_else(|_| path.to_owned());
    let failed = || format!("cannot write {}", path.display());
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder).with_context(failed)?;
    folder.lock().with_context(failed)?;
    let entries = look(&path)?;
    let mut lines = lines_of(&path)?;
    let changed = change(&entries, &mut lines)?;
    replace(&path, &lines)
        .and_then(|()| folder.sync_all())
        .with_context(failed)?;
    Ok(changed)
}

fn lines_of(path: &Path) -> anyhow::Result<Vec<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| cannot_read(path)),
    }
}

fn replace(path: &Path, lines: &[String]) -> io::Result<()> {
    let aside = path.with_added_extension("new");
    let _left_by_a_kill = fs::remove_file(&aside);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    lines
        .iter()
        .try_for_each(|line| writeln!(file, "{line}"))
        .and_then(|()| file.sync_all())?;
    fs::rename(aside, path)
}

impl Entries {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut entries: Vec<Entry> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let refuse = |why| anyhow!("line {number}: {why}");
            let Some(entry) = Entry::parse_line(line).map_err(refuse)? else {
                continue;
            };
            if entries
                .iter()
                .any(|known| known.is(entry.kind, &entry.name))
            {
                let who = format!("{} {}", entry.kind, entry.name);
                return Err(refuse(format!(
                    "{who} has a token already; remove one line"
                )));
            }
            entries.push(entry);
        }
        Ok(Self(entries))
    }

    /// Every line is compared, so that the time says nothing about which one it was.
    pub(super) fn find(&self, token: &TokenHash, now: Timestamp) -> Option<Caller> {
        let known = self.0.iter().fold(None, |found, entry| {
            let this = (entry.hash == *token).then_some(entry);
            this.or(found)
        })?;
        known.is_valid(now).then(|| known.caller())
    }

    pub(super) fn knows(&self, kind: Kind) -> bool {
        self.0.iter().any(|entry| entry.kind == kind)
    }
}

impl Entry {
    pub(crate) fn is(&self, kind: Kind, name: &Name) -> bool {
        self.kind == kind && self.name == *name
    }

    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    fn caller(&self) -> Caller {
        let name = self.name.0.clone();
        match self.kind {
            Kind::Operator => Caller::Operator(name),
            Kind::Service => Caller::Service(name),
        }
    }

    /// `None`: it says nothing.
    pub(crate) fn parse_line(line: &str) -> Result<Option<Self>, String> {
        let said = line.split('#').next().unwrap_or_default();
        match said.split_whitespace().collect::<Vec<_>>()[..] {
            [] => Ok(None),
            [kind, name, hash] => Self::parse(kind, name, hash, None).map(Some),
            [kind, name, hash, "expires", at] => {
                Self::parse(kind, name, hash, Some(at)).map(Some)
            }
            _ => Err(
                "expected `operator NAME sha256:HEX` or `service NAME sha256:HEX`, and after it nothing or `expires 2027-01-01T00:00:00Z`"
                    .to_owned(),
            ),
        }
    }

    fn parse(kind: &str, name: &str, hash: &str, expires: Option<&str>) -> Result<Self, String> {
        let kind = match kind {
            "operator" => Kind::Operator,
            "service" => Kind::Service,
            other => return Err(format!("expected `operator` or `service`, found `{other}`")),
        };
        let hash = hash
            .strip_prefix("sha256:")
            .and_then(|hash| hash.parse().ok())
            .ok_or(
                "expected `sha256:` and 64 hexadecimal digits; `token new` makes a whole line",
            )?;
        let moment = |at: &str| {
            let why = |_| "expected a moment behind `expires`, such as 2027-01-01T00:00:00Z";
            at.parse::<Timestamp>().map_err(why)
        };
        Ok(Self {
            kind,
            name: name.parse()?,
            hash,
            expires: expires.map(moment).transpose()?,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} sha256:{}", self.kind, self.name, self.hash)?;
        match self.expires {
            Some(expires) => write!(f, " expires {expires}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Service => "service",
        })
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            modified: (found.mtime(), found.mtime_nsec()),
            bytes: found.size(),
            inode: found.ino(),
            mode: found.mode(),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        match (1..=64).contains(&text.len()) && text.bytes().all(sign) {
            true => Ok(Self(text.to_owned())),
            false => {
                Err("a name has 1 to 64 letters, digits, dots, dashes and underscores".to_owned())
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
        let entries = Entries::parse(&text).unwrap();
        let (before, after) = (at("2026-12-31T23:59:59Z"), at("2027-01-01T00:00:00Z"));
        let find = |token: &str, now| entries.find(&TokenHash::of(token), now);
        assert_eq!(find("a", after), Some(Caller::Operator("ada".to_owned())));
        let orders = Caller::Service("orders-service".to_owned());
        assert_eq!(find("b", before), Some(orders));
        assert_eq!(find("b", after), None, "expired");
        assert_eq!(find("c", before), None);
        for entry in &entries.0 {
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
            let refusal = Entries::parse(&format!("{good}\n{bad}\n")).unwrap_err();
            let said = refusal.to_string();
            assert!(said.starts_with("line 2: ") && said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_running_service_follows_the_file_and_survives_its_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.access");
        let watched = Watched::open(path.clone()).unwrap();
        let mut now = Instant::now();
        let mut knows = |token: &str| {
            now += LATER;
            let entries = watched.entries_at(now);
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
        put("nonsense");
        assert!(knows("b"), "the last good state");
        fs::remove_file(&path).unwrap();
        assert!(!knows("b"), "who removes the file means everybody");
    }

    #[test]
    fn between_two_looks_nothing_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.access");
        let watched = Watched::open(path.clone()).unwrap();
        let opened = watched.seen.lock().unwrap().looked;
        replace(&path, &[line("operator", "ada", "a")]).unwrap();
        let soon = opened + LATER / 2;
        assert!(!watched.entries_at(soon).knows(Kind::Operator));
        assert!(watched.entries_at(opened + LATER).knows(Kind::Operator));
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
