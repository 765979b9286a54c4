//! The three passwords of the broker and the three tokens of the services: generated once, kept in a file that only its owner
//! can read, and checked before each start.
//!
//! The check is needed: nats-server takes an empty variable as an empty password that admits every client, and stops with an
//! obscure error at a password that looks like a number. So check here before you start the broker.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::chance;

/// The password of each user of nats.conf, the tokens that services require of each other, and the operator's token. `Debug`
/// shows no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub users: Password,
    pub orders: Password,
    pub observer: Password,
    pub users_read: Password,
    pub orders_read: Password,
    pub operator: Password,
}

/// A password that nats.conf can hold: a letter, then at least 15 letters or digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    #[error(
        "the password is empty: the broker would admit every client. Unset the variable to have a password generated, or set one"
    )]
    Empty,
    #[error(
        "the password must begin with a letter: the broker's configuration takes digits, `true` or `5k` for values"
    )]
    NoLetterFirst,
    #[error(
        "the password may hold only letters and digits: other characters have a meaning in the broker's configuration"
    )]
    OddSign,
    #[error("the password has {0} characters, 16 is the least")]
    Short(usize),
}

const LEAST_LENGTH: usize = 16;
const DRAWN_LENGTH: usize = 32;

impl Credentials {
    pub fn generate() -> Credentials {
        Credentials {
            users: Password::generate(),
            orders: Password::generate(),
            observer: Password::generate(),
            users_read: Password::generate(),
            orders_read: Password::generate(),
            operator: Password::generate(),
        }
    }

    /// The variable of each: what nats.conf reads, then the tokens.
    fn named(&mut self) -> [(&'static str, &mut Password); 6] {
        [
            ("FREEHOLD_USERS_PASSWORD", &mut self.users),
            ("FREEHOLD_ORDERS_PASSWORD", &mut self.orders),
            ("FREEHOLD_OBSERVER_PASSWORD", &mut self.observer),
            ("FREEHOLD_USERS_READ_TOKEN", &mut self.users_read),
            ("FREEHOLD_ORDERS_READ_TOKEN", &mut self.orders_read),
            ("FREEHOLD_OPERATOR_TOKEN", &mut self.operator),
        ]
    }

    /// Reads the file, or creates it with new passwords. The caller ensures that only one process does this.
    pub fn load_or_create(file: &Path) -> Result<Credentials> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.with_context(|| format!("cannot read {}", file.display()))?),
        };
        let kept = text.as_deref().map(Credentials::read).transpose();
        let kept = kept.with_context(|| {
            format!(
                "{} is damaged: correct it, or delete it to have new passwords generated",
                file.display()
            )
        })?;
        let kept = kept.unwrap_or_else(Credentials::generate);
        // Also when a file of a version without tokens gets them.
        if text.is_none_or(|text| text != kept.text()) {
            kept.write(file)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(kept)
    }

    /// The environment wins, and is checked: an empty variable is a mistake, not a request for no password.
    pub fn or_from(mut self, environment: impl Fn(&str) -> Option<String>) -> Result<Credentials> {
        for (name, password) in self.named() {
            if let Some(text) = environment(name) {
                let set = || format!("{name} is set, but");
                *password = text.parse().with_context(set)?;
            }
        }
        Ok(self)
    }

    /// The variables that nats.conf reads.
    pub fn environment(&self) -> [(&'static str, &str); 3] {
        [
            ("FREEHOLD_USERS_PASSWORD", self.users.reveal()),
            ("FREEHOLD_ORDERS_PASSWORD", self.orders.reveal()),
            ("FREEHOLD_OBSERVER_PASSWORD", self.observer.reveal()),
        ]
    }

    /// Written to another file and renamed: a crash in between must not leave half a password.
    fn write(&self, file: &Path) -> io::Result<()> {
        let aside = file.with_extension("new");
        let mut out = open_private(&aside)?;
        out.write_all(self.text().as_bytes())?;
        out.sync_all()?;
        fs::rename(aside, file)
    }

    /// Lines that a shell can read, too: `set -a; . .freehold/credentials.env`.
    fn text(&self) -> String {
        let mut copy = self.clone();
        let lines = copy.named();
        let lines = lines
            .iter()
            .map(|(name, password)| format!("{name}={}\n", password.reveal()));
        lines.collect()
    }

    /// A file of a version without tokens gets generated ones.
    fn read(text: &str) -> Result<Credentials> {
        let mut read = Credentials::generate();
        for (name, password) in read.named() {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::parse);
            match text.lines().find_map(value) {
                Some(value) => *password = value.with_context(|| format!("{name} is invalid"))?,
                None if name.ends_with("_TOKEN") => {}
                None => bail!("{name} is missing"),
            }
        }
        Ok(read)
    }
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

    #[test]
    fn credentials_are_generated_once_and_only_the_owner_may_read_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials.env");
        let made = Credentials::load_or_create(&file).expect("made");
        assert_eq!(Credentials::load_or_create(&file).expect("read"), made);
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_of_a_version_without_tokens_gets_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("credentials.env");
        let made = Credentials::generate();
        let old: String = made
            .environment()
            .map(|(name, value)| format!("{name}={value}\n"))
            .concat();
        fs::write(&file, old).expect("written");
        let grown = Credentials::load_or_create(&file).expect("read");
        assert_eq!(grown.users, made.users);
        assert_eq!(Credentials::load_or_create(&file).expect("read"), grown);
    }

    #[test]
    fn the_environment_wins_and_an_empty_variable_is_refused() {
        let set = |value: &'static str| {
            move |name: &str| (name == "FREEHOLD_ORDERS_PASSWORD").then(|| value.to_owned())
        };
        let made = Credentials::generate();
        let kept = made
            .clone()
            .or_from(set("pABCDEFGHIJKLMNO"))
            .expect("a valid one");
        assert_eq!(
            (kept.orders.reveal(), &kept.users),
            ("pABCDEFGHIJKLMNO", &made.users)
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
        let refusal = format!(
            "{:#}",
            Credentials::load_or_create(&file).expect_err("damaged")
        );
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
