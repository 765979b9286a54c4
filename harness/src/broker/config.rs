//! nats.conf and the account files it includes, as one text, for a copy that a test edits.

use std::fs;
use std::io;

use crate::paths;

/// nats-server resolves an include relative to the including file, so a copy alone would not find it.
pub fn whole_config() -> io::Result<String> {
    let text = fs::read_to_string(paths::nats_conf())?;
    text.lines().map(with_include).collect()
}

fn with_include(line: &str) -> io::Result<String> {
    let included = line.trim_start().strip_prefix("include ");
    match included {
        Some(path) => fs::read_to_string(paths::workspace().join(path.trim_matches('"'))),
        None => Ok(format!("{line}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_contains_every_account_and_no_include() {
        let whole = whole_config().expect("every included file is there");
        for account in ["SYS {", "USERS {", "ORDERS {", "OBSERVER {"] {
            assert!(whole.contains(account), "{account}");
        }
        assert!(!whole.contains("include \""), "{whole}");
    }

    #[test]
    fn the_files_stay_short() {
        let lines = |path: &str| {
            let text = fs::read_to_string(paths::workspace().join(path));
            text.expect("it is there").lines().count()
        };
        assert!(lines("nats.conf") < 110);
        assert!(lines("user-service/nats-account.conf") < 45);
        assert!(lines("orders-service/nats-account.conf") < 45);
    }
}
