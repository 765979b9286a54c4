//! The broker's passwords and the services' tokens: two for each stream, generated once, kept in a file that only its owner can
//! read, and checked before each start.
//!
//! The check is needed: nats-server takes an empty variable as an empty password that admits every client, and stops with an
//! obscure error at a password that looks like a number. So check here before you start the broker.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};

use crate::chance;
use crate::declared::variable;

/// For each stream the password of its owner's user of nats.conf and the token that its owner requires of readers; the
/// observer's password and the operator's token. `Debug` shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// By the environment variable of each.
    known: BTreeMap<String, Password>,
}

/// A password that nats.conf can hold: a letter, then at least 15 letters or digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// Why a text is no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// It is empty.
    #[error(
        "the password is empty: the broker would admit every client. Unset the variable to have a password generated, or set one"
    )]
    Empty,
    /// nats-server would read it as a number or a variable.
    #[error(
        "the password must begin with a letter: the broker's configuration takes digits, `true` or `5k` for values"
    )]
    NoLetterFirst,
    /// It has a sign that would need quotes in nats.conf.
    #[error(
        "the password may hold only letters and digits: other characters have a meaning in the broker's configuration"
    )]
    OddSign,
    /// It has this many characters.
    #[error("the password has {0} characters, 16 is the least")]
    Short(usize),
}

const LEAST_LENGTH: usize = 16;
const DRAWN_LENGTH: usize = 32;

const OBSERVER: &str = "FREEHOLD_OBSERVER_PASSWORD";
const OPERATOR: &str = "FREEHOLD_OPERATOR_TOKEN";

impl Credentials {
    /// New ones for these streams.
    pub fn generate(streams: &[&str]) -> Credentials {
        let mut made = Credentials {
            known: BTreeMap::new(),
        };
        made.complete(streams);
        made
    }

    /// Those of the file. What it lacks for these streams is generated and added to it; its other lines stay. The caller ensures
    /// that only one process does this.
    pub fn load_or_create(file: &Path, streams: &[&str]) -> Result<Credentials> {
        let mut text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {}", file.display()))?,
        };
        let mut kept = Credentials::read(&text).with_context(|| {
            format!(
                "{} is damaged: correct it, or delete it to have new passwords generated",
                file.display()
            )
        })?;
        let added = kept.complete(streams);
        if !added.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            write(file, &(text + &added))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(kept)
    }

    /// The environment wins, and is checked: an empty variable is a mistake, not a request for no password.
    pub fn or_from(mut self, environment: impl Fn(&str) -> Option<String>) -> Result<Credentials> {
        for (name, password) in &mut self.known {
            if let Some(text) = environment(name) {
                let set = || format!("{name} is set, but");
                *password = text.parse().with_context(set)?;
            }
        }
        Ok(self)
    }

    /// The broker's password of this stream's owner.
    ///
    /// Panics if none was made for this stream.
    #[track_caller]
    pub fn password(&self, stream: &str) -> &Password {
        self.known(&variable(stream, "PASSWORD"))
    }

    /// What the owner of this stream requires of services that read its state.
    ///
    /// Panics if none was made for this stream.
    #[track_caller]
    pub fn read_token(&self, stream: &str) -> &Password {
        self.known(&variable(stream, "READ_TOKEN"))
    }

    /// The password of the user who reads every stream.
    pub fn observer(&self) -> &Password {
        self.known(OBSERVER)
    }

    /// The token of the operator in the access file of every service.
    pub fn operator(&self) -> &Password {
        self.known(OPERATOR)
    }

    /// The variables that nats.conf reads, with their values.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.known.iter();
        let read = all.filter(|(name, _)| name.ends_with("_PASSWORD"));
        read.map(|(name, password)| (&**name, password.reveal()))
    }

    #[track_caller]
    fn known(&self, name: &str) -> &Password {
        let known = self.known.get(name);
        known.unwrap_or_else(|| panic!("no {name} was made: these are {:?}", self.known.keys()))
    }

    /// Generates what is missing. Returns the new lines of the file, which a shell can read, too:
    /// `set -a; . .freehold/credentials.env`.
    fn complete(&mut self, streams: &[&str]) -> String {
        let of_stream = |stream| ["PASSWORD", "READ_TOKEN"].map(|what| variable(stream, what));
        let names = streams.iter().copied().flat_map(of_stream);
        let mut added = String::new();
        for name in names.chain([OBSERVER, OPERATOR].map(str::to_owned)) {
            self.known.entry(name).or_insert_with_key(|name| {
                let password = Password::generate();
                added += &format!("{name}={}\n", password.reveal());
                password
            });
        }
        added
    }

    /// Lines that are no password and no token of ours are the user's own.
    fn read(text: &str) -> Result<Credentials> {
        let mut known = BTreeMap::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let ours = name.ends_with("_PASSWORD") || name.ends_with("_TOKEN");
            if ours && name.starts_with("FREEHOLD_") {
                let value = value
                    .parse()
                    .with_context(|| format!("{name} is invalid"))?;
                known.insert(name.to_owned(), value);
            }
        }
        Ok(Credentials { known })
    }
}

/// Written to another file and renamed: a crash in between must not leave half a password.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let aside = file.with_extension("new");
    let mut out = open_private(&aside)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(aside, file)
}

impl Password {
    /// The leading letter keeps the broker from reading a number; 32 drawn characters are 190 bits.
    pub fn generate() -> Password {
        Password(format!("p{}", chance::letters_and_digits(DRAWN_LENGTH)))
    }

    /// A secret made elsewhere, in any form: a device's token.
    pub fn known(text: &str) -> Password {
        Password(text.to_owned())
    }

    /// The password itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Password {
    type Err = BadPassword;

    fn from_str(text: &str) -> Result<Password, BadPassword> {
        let first = text.chars().next().ok_or(BadPassword::Empty)?;
        if !first.is_ascii_alphabetic() {
            return Err(BadPassword::NoLetterFirst);
        }
        if !text.chars().all(|sign| sign.is_ascii_alphanumeric()) {
            return Err(BadPassword::OddSign);
        }
        if text.len() < LEAST_LENGTH {
            return Err(BadPassword::Short(text.len()));
        }
        Ok(Password(text.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The mode is set twice: `mode` applies only to a new file, and a file left by a crash may be readable by others.
fn open_private(file: &Path) -> io::Result<File> {
    let out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    out.set_permissions(Permissions::from_mode(0o600))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_that_the_broker_would_misread_is_refused_with_the_reason() {
        let refusal = |text: &str| text.parse::<Password>().expect_err(text);
        assert_eq!(refusal(""), BadPassword::Empty);
        assert_eq!(refusal("12345678901234567890"), BadPassword::NoLetterFirst);
        assert_eq!(refusal("5kaaaaaaaaaaaaaaaaaaa"), BadPassword::NoLetterFirst);
        assert_eq!(refusal("-aaaaaaaaaaaaaaaaaaaa"), BadPassword::NoLetterFirst);
        assert_eq!(refusal("äaaaaaaaaaaaaaaaaaaaa"), BadPassword::NoLetterFirst);
        assert_eq!(refusal("true"), BadPassword::Short(4));
        assert_eq!(refusal("aaaaaaaaaaaaaaaaaaa,a"), BadPassword::OddSign);
        assert_eq!(refusal("aaaaaaaaaaaaaaaaaaaa "), BadPassword::OddSign);
        assert_eq!(refusal("aaaaaaaaaaaaaaa"), BadPassword::Short(15));
        assert!("aaaaaaaaaaaaaaaa".parse::<Password>().is_ok());
    }

    #[test]
    fn generated_passwords_pass_their_own_check_and_differ() {
        let drawn: Vec<_> = (0..100).map(|_| Password::generate()).collect();
        assert!(
            drawn
                .iter()
                .all(|password| password.reveal().parse::<Password>().as_ref() == Ok(password))
        );
        assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(format!("{:?}", drawn[0]), "Password(…)");
    }

    const STREAMS: [&str; 2] = ["ORDERS", "USERS"];

    #[test]
    fn credentials_are_generated_once_and_only_the_owner_may_read_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials.env");
        let made = Credentials::load_or_create(&file, &STREAMS).expect("made");
        let again = Credentials::load_or_create(&file, &STREAMS).expect("read");
        assert_eq!(again, made);
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_new_stream_gets_its_own_and_every_other_line_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials.env");
        let made = Credentials::load_or_create(&file, &STREAMS).expect("made");
        let text = fs::read_to_string(&file).expect("there") + "# mine\nPATH=/bin";
        fs::write(&file, &text).expect("written");
        let grown = Credentials::load_or_create(&file, &["PAYMENTS"]).expect("read");
        assert_eq!(grown.password("USERS"), made.password("USERS"));
        let now = fs::read_to_string(&file).expect("there");
        let payments = grown.password("PAYMENTS").reveal();
        let added = format!("\nFREEHOLD_PAYMENTS_PASSWORD={payments}\n");
        assert!(now.starts_with(&text) && now.contains(&added), "{now}");
    }

    #[test]
    fn a_file_of_a_version_without_tokens_gets_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials.env");
        let made = Credentials::generate(&STREAMS);
        let old: String = made
            .environment()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        fs::write(&file, old).expect("written");
        let grown = Credentials::load_or_create(&file, &STREAMS).expect("read");
        assert_eq!(grown.password("USERS"), made.password("USERS"));
        let again = Credentials::load_or_create(&file, &STREAMS).expect("read");
        assert_eq!(again, grown);
    }

    #[test]
    fn the_environment_wins_and_an_empty_variable_is_refused() {
        let set = |value: &'static str| {
            move |name: &str| (name == "FREEHOLD_ORDERS_PASSWORD").then(|| value.to_owned())
        };
        let made = Credentials::generate(&STREAMS);
        let kept = made
            .clone()
            .or_from(set("pABCDEFGHIJKLMNO"))
            .expect("a valid one");
        assert_eq!(
            (kept.password("ORDERS").reveal(), kept.password("USERS")),
            ("pABCDEFGHIJKLMNO", made.password("USERS"))
        );
        let refusal = format!("{:#}", made.or_from(set("")).expect_err("empty"));
        assert!(
            refusal.starts_with("FREEHOLD_ORDERS_PASSWORD is set, but: the password is empty"),
            "{refusal}"
        );
    }

    #[test]
    fn a_damaged_file_is_named_and_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials.env");
        fs::write(&file, "FREEHOLD_USERS_PASSWORD=\n").expect("written");
        let refused = Credentials::load_or_create(&file, &STREAMS);
        let refusal = format!("{:#}", refused.expect_err("damaged"));
        assert!(
            refusal.contains("FREEHOLD_USERS_PASSWORD is invalid: the password is empty"),
            "{refusal}"
        );
        assert_eq!(
            fs::read_to_string(&file).expect("still there"),
            "FREEHOLD_USERS_PASSWORD=\n"
        );
    }
}
