//! The account of a stream's owner at the broker: the text that nats.conf includes for it.

use std::collections::BTreeSet;

use super::Import;

const FILE: &str = include_str!("account.conf");

/// The account file of the service `name`, which owns `stream`, follows these streams, and whose stream may take `max_bytes` on the
/// broker's disk. `service-program` prints it as `<service> broker-config`.
///
/// The service logs in as the user `name` with the password in `FREEHOLD_<STREAM>_PASSWORD`, and its inbox is
/// `_INBOX_<stream>`.
pub fn account_file(name: &str, stream: &str, follows: &BTreeSet<&str>, max_bytes: u64) -> String {
    let each = |text: fn(&str) -> String| follows.iter().map(|stream| text(stream)).collect();
    let root = stream.to_lowercase();
    let inboxes = std::iter::once(format!("_INBOX_{root}.>"));
    let inboxes = inboxes.chain(follows.iter().map(|stream| Import::Live.subject(stream)));
    let inboxes: Vec<_> = inboxes.map(|subject| format!("{subject:?}")).collect();
    let imports: String = each(imports);
    let imports = match imports.is_empty() {
        true => imports,
        false => format!("  imports: [\n{imports}  ]\n"),
    };
    FILE.replace("<permissions>\n", &each(permissions))
        .replace("<imports>\n", &imports)
        .replace("<inboxes>", &inboxes.join(", "))
        .replace("<name>", name)
        .replace("<password>", &format!("FREEHOLD_{stream}_PASSWORD"))
        .replace("<max_file>", &room(max_bytes))
        .replace("<STREAM>", stream)
        .replace("<root>", &root)
}

/// As nats-server reads it: `4GB` are 4 × 2^30 bytes.
fn room(bytes: u64) -> String {
    const GB: u64 = 1 << 30;
    match bytes % GB {
        0 => format!("{}GB", bytes / GB),
        _ => bytes.to_string(),
    }
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

    #[test]
    fn a_stream_followed_by_several_consumers_stands_there_once() {
        let visits = |follows, bytes| account_file("visits-service", "VISITS", &follows, bytes);
        let alone = visits(BTreeSet::new(), 4 << 30);
        assert!(!alone.contains("from_") && !alone.contains('<'), "{alone}");
        assert!(alone.contains("max_file: 4GB,"), "{alone}");
        let follows = ["USERS", "ORDERS", "USERS"].into_iter().collect();
        let text = visits(follows, 1_500_000_000);
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
