//! The broker's configuration: nats.conf, which is the same everywhere, and the accounts of the services that a broker is for.

use std::path::Path;

use relay::nats::Import;

use crate::declared::Account;
use crate::manifest::Entry;

const STATIC: &str = include_str!("../../nats.conf");
/// The line of nats.conf that takes the accounts in.
const ACCOUNTS: &str =
    "  include \"accounts.conf\"           # those of the services, and the observer's\n";
const OBSERVER: &str = include_str!("observer.conf");
const HEAD: &str = "\
# What nats.conf includes: the account of every service in freehold.toml, and the observer's. `cargo xtask accounts` writes this
# file, and a test compares the two.
";

/// nats.conf with these accounts and an observer of their streams, in one text.
pub fn whole_config(accounts: &[Account]) -> String {
    let mut texts: String = accounts.iter().map(|it| format!("{}\n", it.text)).collect();
    texts += &observer(accounts.iter().map(|it| &*it.stream));
    STATIC.replace(ACCOUNTS, &texts)
}

/// accounts.conf of these services. It includes the account file in the folder of each; one whose program is elsewhere has no
/// folder here, so its account is written out.
pub fn accounts_file(services: &[Entry]) -> String {
    let account = |entry: &Entry| match entry.program {
        None => format!("include {:?}\n", own_file(&entry.declared.name)),
        Some(_) => entry.declared.account().text,
    };
    let accounts: String = services.iter().map(account).collect();
    let observer = observer(services.iter().map(|entry| &*entry.declared.stream));
    format!("{HEAD}\n{accounts}\n{observer}")
}

fn own_file(service: &str) -> String {
    let file = Path::new(service).join("nats-account.conf");
    file.to_string_lossy().into_owned()
}

/// The account that may read these streams.
fn observer<'a>(streams: impl Iterator<Item = &'a str>) -> String {
    let (mut requests, mut imports) = (String::new(), String::new());
    let mut inboxes = vec![format!("{:?}", "_INBOX_observer.>")];
    for stream in streams {
        requests += &format!("        \"from_{}.API.>\"\n", stream.to_lowercase());
        inboxes.push(format!("{:?}", Import::Live.subject(stream)));
        let lines = Import::ALL.map(|import| format!("    {}\n", import.line(stream)));
        imports += &lines.concat();
    }
    OBSERVER
        .replace("<requests>\n", &requests)
        .replace("<imports>\n", &imports)
        .replace("<inboxes>", &inboxes.join(", "))
}

/// The text of a broker's configuration, for changes before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings(String);

impl Settings {
    /// Settings from a whole text in the syntax of nats-server.
    pub fn of(text: String) -> Settings {
        Settings(text)
    }

    /// The text that nats-server reads.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The first occurrence. Panics if there is none: a change that does not happen proves nothing.
    #[track_caller]
    pub fn replace(&mut self, text: &str, instead: &str) {
        assert!(self.0.contains(text), "the configuration has no {text:?}");
        self.0 = self.0.replacen(text, instead, 1);
    }

    /// The broker flushes only at this interval (`"2m"`), as nats-server does by default, instead of before each
    /// acknowledgement.
    pub fn sync_interval(&mut self, interval: &str) {
        self.replace(
            "sync_interval: always",
            &format!("sync_interval: {interval:?}"),
        );
    }

    /// Adds an account: the text of an account file.
    pub fn account(&mut self, text: &str) {
        self.replace("\naccounts {\n", &format!("\naccounts {{\n{text}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::Declared;

    fn declared(stream: &str, follows: &[&str]) -> Declared {
        Declared {
            name: format!("{}-service", stream.to_lowercase()),
            port: 1,
            stream: stream.to_owned(),
            follows: follows.iter().map(|&stream| stream.to_owned()).collect(),
        }
    }

    #[test]
    fn the_whole_text_has_every_account_once_and_no_include() {
        let services = [declared("PAYMENTS", &["ORDERS"]), declared("ORDERS", &[])];
        let whole = whole_config(&services.map(|it| it.account()));
        for account in ["SYS {", "PAYMENTS {", "ORDERS {", "OBSERVER {"] {
            let lines = whole.lines().filter(|line| line.trim() == account);
            assert_eq!(lines.count(), 1, "{account}");
        }
        assert!(
            !whole.contains("include \"") && !whole.contains("<"),
            "{whole}"
        );
        assert!(whole.contains(r#"["_INBOX_observer.>", "live.payments.>", "live.orders.>"]"#));
    }

    #[test]
    fn a_setting_is_changed_or_its_absence_noticed() {
        let mut settings = Settings::of(whole_config(&[]));
        settings.sync_interval("2m");
        settings.account("MINE {}");
        assert!(settings.text().contains("sync_interval: \"2m\""));
        assert!(settings.text().contains("accounts {\nMINE {}\n"));
        let twice = std::panic::catch_unwind(move || settings.sync_interval("3m"));
        assert!(twice.is_err());
    }

    #[test]
    fn an_account_of_a_program_that_is_elsewhere_is_written_out() {
        let [near, far] = [declared("NEAR", &[]), declared("FAR", &["NEAR"])];
        let entries = [(near, None), (far, Some("../far".into()))];
        let entries = entries.map(|(declared, program)| Entry { declared, program });
        let text = accounts_file(&entries);
        assert!(
            text.contains("include \"near-service/nats-account.conf\"\n"),
            "{text}"
        );
        assert!(text.contains("\nFAR {\n"), "{text}");
    }

    #[test]
    fn the_static_part_stays_short() {
        assert!(STATIC.contains(ACCOUNTS) && STATIC.lines().count() < 80);
    }
}
