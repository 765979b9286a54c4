//! The account file of a service: what nats.conf includes for it, generated from the program's declaration.

use std::collections::BTreeSet;

use relay::nats::Import;
use serde_json::json;

use crate::admin::command::answer::Answer;
use crate::admin::setup::Setup;
use crate::settings::about::About;

const ACCOUNT_FILE: &str = include_str!("broker_config.conf");

/// Needs neither the broker nor a password.
pub(super) fn print(setup: &Setup) -> Answer {
    let follows = setup.consumers.iter().map(|consumer| consumer.stream());
    let room = room(setup.common.max_stream_bytes);
    let text = account_file(&setup.about, &room, &follows.collect());
    let json = json!({"account": setup.about.stream, "file": text});
    Answer::plain(json, text.trim_end())
}

/// As nats-server reads it: `4GB` are 4 × 2^30 bytes.
fn room(bytes: u64) -> String {
    const GB: u64 = 1 << 30;
    match bytes % GB {
        0 => format!("{}GB", bytes / GB),
        _ => bytes.to_string(),
    }
}

fn account_file(about: &About, room: &str, follows: &BTreeSet<&str>) -> String {
    let each = |text: fn(&str) -> String| follows.iter().map(|stream| text(stream)).collect();
    let inboxes = std::iter::once(format!("{}.>", about.inbox()));
    let inboxes = inboxes.chain(follows.iter().map(|stream| Import::Live.subject(stream)));
    let inboxes: Vec<_> = inboxes.map(|subject| format!("{subject:?}")).collect();
    let imports: String = each(imports);
    let imports = match imports.is_empty() {
        true => imports,
        false => format!("  imports: [\n{imports}  ]\n"),
    };
    ACCOUNT_FILE
        .replace("<permissions>\n", &each(permissions))
        .replace("<imports>\n", &imports)
        .replace("<inboxes>", &inboxes.join(", "))
        .replace("<name>", about.name)
        .replace("<password>", &about.password_variable())
        .replace("<max_file>", room)
        .replace("<STREAM>", &about.stream)
        .replace("<root>", &about.stream.to_lowercase())
}

/// The requests that a reader of this stream may send.
fn permissions(stream: &str) -> String {
    let (info, get) = (
        Import::Info.subject(stream),
        Import::DirectGet.subject(stream),
    );
    format!(
        "        # {stream}, which it follows, under the names of the imports below.\n        {info:?}, {get:?}\n"
    )
}

fn imports(stream: &str) -> String {
    let lines = Import::ALL.map(|import| import.line(stream));
    lines.map(|line| format!("    {line}\n")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About::new("visits-service", 7103)
    }

    #[test]
    fn a_stream_followed_by_several_consumers_stands_there_once() {
        let alone = account_file(&about(), &room(4 << 30), &BTreeSet::new());
        assert!(!alone.contains("from_") && !alone.contains('<'), "{alone}");
        assert!(alone.contains("max_file: 4GB,"), "{alone}");
        let follows = ["USERS", "ORDERS", "USERS"].into_iter().collect();
        let text = account_file(&about(), &room(1_500_000_000), &follows);
        for (line, times) in [
            ("account: USERS", 3),
            ("account: ORDERS", 3),
            (r#"["_INBOX_visits.>", "live.orders.>", "live.users.>"]"#, 1),
            (
                r#""from_users.API.STREAM.INFO.USERS", "from_users.API.DIRECT.GET.USERS""#,
                1,
            ),
            ("password: $FREEHOLD_VISITS_PASSWORD", 1),
            ("max_file: 1500000000,", 1),
        ] {
            assert_eq!(text.matches(line).count(), times, "{line}\n{text}");
        }
        assert!(text.lines().count() <= 45, "{text}");
    }
}
