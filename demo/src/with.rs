//! `--with NAME=PROGRAM`: a service whose program is elsewhere. `up` asks the program for the rest (`describe`).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use freehold_tests::declared::Declared;
use freehold_tests::manifest::sound;

/// As it was typed. The path is absolute, because a service may be started from another folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct With {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
}

/// What `up` itself writes in the data folder or to the logs under these names.
const RESERVED: [&str; 7] = [
    "broker",
    "databases",
    "logs",
    "nats-server",
    "driver-1",
    "driver-2",
    "driver-app",
];

impl FromStr for With {
    type Err = String;

    fn from_str(text: &str) -> Result<With, String> {
        let parts = text.split_once('=');
        let parts = parts.filter(|(name, program)| !name.is_empty() && !program.is_empty());
        let (name, program) = parts
            .ok_or("write NAME=PROGRAM, such as payments-service=target/debug/payments-service")?;
        let program = std::path::absolute(program).map_err(|error| error.to_string())?;
        Ok(With {
            name: name.to_owned(),
            program,
        })
    }
}

impl fmt::Display for With {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--with {}={}", self.name, self.program.display())
    }
}

impl With {
    /// What the program says of itself, if it can be one of a system with these services.
    pub(crate) async fn declared(&self, others: &[Declared]) -> Result<Declared> {
        let declared = Declared::by(&self.program).await;
        let declared = declared.with_context(|| self.to_string())?;
        self.fits(&declared, others)
            .with_context(|| self.to_string())?;
        Ok(declared)
    }

    fn fits(&self, declared: &Declared, others: &[Declared]) -> Result<()> {
        sound(declared)?;
        let Declared { name, stream, .. } = declared;
        ensure!(
            *name == self.name,
            "the program calls itself {name}: write --with {name}={}",
            self.program.display()
        );
        check_free(name, others)?;
        if let Some(owner) = others.iter().find(|it| it.stream == *stream) {
            bail!(
                "stream {stream} has an owner, {}: let the service emit another stream",
                owner.name
            );
        }
        Ok(())
    }
}

/// Whether neither these services nor `up` itself use the name.
pub(crate) fn check_free(name: &str, others: &[Declared]) -> Result<()> {
    let taken = RESERVED.contains(&name) || others.iter().any(|it| it.name == name);
    ensure!(
        !taken,
        "the name {name} is taken: give the service another one"
    );
    Ok(())
}

/// Whether each stream that a service follows has an owner among them.
pub(crate) fn check_owners(services: &[Declared]) -> Result<()> {
    for service in services {
        let mut follows = service.follows.iter();
        let unowned = follows.find(|stream| services.iter().all(|it| it.stream != **stream));
        if let Some(stream) = unowned {
            bail!(
                "{} follows {stream}, and no service here owns it: run its owner, too, with --with NAME=PROGRAM",
                service.name
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn declared(name: &str, stream: &str, follows: &[&str]) -> Declared {
        Declared {
            name: name.to_owned(),
            port: 7105,
            stream: stream.to_owned(),
            follows: follows.iter().map(|&stream| stream.to_owned()).collect(),
        }
    }

    /// A program that is called with this name and says that it is this service.
    fn refusal(name: &str, says: &Declared) -> String {
        let with: With = format!("{name}=/bin/payments").parse().unwrap();
        let orders = declared("orders-service", "ORDERS", &[]);
        with.fits(says, &[orders]).expect_err("refused").to_string()
    }

    #[test]
    fn a_service_that_cannot_join_the_others_is_refused_with_the_cure() {
        let payments = declared("payments-service", "PAYMENTS", &["ORDERS"]);
        let refused = refusal("payment", &payments);
        assert_eq!(
            refused,
            "the program calls itself payments-service: write --with payments-service=/bin/payments"
        );
        for name in ["orders-service", "driver-1", "logs"] {
            let refused = refusal(name, &declared(name, "PAYMENTS", &[]));
            assert_eq!(
                refused,
                format!("the name {name} is taken: give the service another one")
            );
        }
        let refused = refusal("mine", &declared("mine", "OBSERVER", &[]));
        assert!(
            refused.starts_with("OBSERVER is an account of the broker"),
            "{refused}"
        );
        let refused = refusal("mine", &declared("mine", "ORDERS", &[]));
        assert!(
            refused.starts_with("stream ORDERS has an owner, orders-service:"),
            "{refused}"
        );
    }

    #[test]
    fn every_followed_stream_needs_an_owner() {
        let payments = declared("payments-service", "PAYMENTS", &["ORDERS"]);
        let orders = declared("orders-service", "ORDERS", &[]);
        check_owners(&[payments.clone(), orders]).unwrap();
        let refused = check_owners(&[payments]).expect_err("no owner").to_string();
        assert!(
            refused
                .starts_with("payments-service follows ORDERS, and no service here owns it: run"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_or_is_no_service_is_refused_in_the_words_of_the_option() {
        let with: With = "payments-service=/nowhere/payments".parse().unwrap();
        let refused = format!("{:#}", with.declared(&[]).await.expect_err("not there"));
        assert!(
            refused.starts_with(
                "--with payments-service=/nowhere/payments: there is no /nowhere/payments"
            ),
            "{refused}"
        );
        let with: With = "payments-service=/bin/false".parse().unwrap();
        let refused = format!("{:#}", with.declared(&[]).await.expect_err("no service"));
        assert!(
            refused.starts_with("--with payments-service=/bin/false: "),
            "{refused}"
        );
    }

    #[test]
    fn an_option_that_names_no_program_is_refused_with_an_example() {
        for text in ["payments", "=payments", "payments="] {
            let refused = text.parse::<With>().unwrap_err();
            assert!(
                refused.starts_with("write NAME=PROGRAM, such as"),
                "{refused}"
            );
        }
        let with: With = "a=target/b".parse().unwrap();
        assert!(with.program.is_absolute() && with.program.ends_with(Path::new("target/b")));
    }
}
