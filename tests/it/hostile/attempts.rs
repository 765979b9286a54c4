//! The table of attempts: the attacker, the request, and its required result. No attempt may change a sequence; `lab` checks that.

use std::fmt;

use freehold_tests::wire::Outgoing;
use serde_json::{Value, json};

use crate::owner::TOKEN;
use crate::owner::User;

#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) user: User,
    pub(super) out: Outgoing,
    pub(super) expect: Expect,
}

/// The attacker's result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// The broker refuses with a clear permission error.
    Violation,
    /// No responders at that subject in this account.
    NoResponders,
    /// Accepted silently; an answer, if any, goes to the reply subject inside the attacker's own account.
    Accepted,
    /// Answered with a text that contains this.
    Answer(&'static str),
    /// Any result: only the stream counts.
    Anything,
}

use Expect::{Accepted, Answer, NoResponders, Violation};
use User::{Observer, Orders, Users};

/// Subjects that neither reader may subscribe to: those that are not exported, and all wider ones.
pub(super) const FOREIGN_SUBJECTS: [&str; 14] = [
    ">",
    "live.>",
    "live.*.created",
    "live.users",
    "from_users.>",
    "$JS.API.>",
    "users.>",
    "users.k7f3.>",
    "orders.placed",
    "_INBOX.>",
    "_INBOX_users.>",
    "_R_.>",
    "$SYS.>",
    "$JS.EVENT.>",
];

impl Attempt {
    fn new(user: User, out: Outgoing, expect: Expect) -> Attempt {
        Attempt { user, out, expect }
    }

    pub(super) fn api(user: User, subject: &str, payload: &str, expect: Expect) -> Attempt {
        Attempt::new(user, Outgoing::to(subject).payload(payload), expect)
    }

    fn reply(mut self, subject: &str) -> Attempt {
        self.out.reply = Some(subject.to_owned());
        self
    }

    fn header(mut self, name: &str, value: &str) -> Attempt {
        self.out = self.out.header(name, value);
        self
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outgoing {
            subject,
            reply,
            headers,
            payload,
        } = &self.out;
        write!(
            f,
            "{:?} publishes {subject} reply {reply:?} {headers:?} {}",
            self.user,
            String::from_utf8_lossy(payload)
        )
    }
}

/// Subjects that USERS would store if they arrived there: its write subject and the plain name. Readers would accept the last as an
/// event.
fn into_users() -> [String; 3] {
    [
        format!("users.{TOKEN}.created"),
        "users.x".to_owned(),
        "live.users.created".to_owned(),
    ]
}

/// Requests that do harm if they arrive.
const HARMFUL: [&str; 3] = [
    "$JS.API.STREAM.DELETE.USERS",
    "$JS.API.STREAM.PURGE.USERS",
    "$JS.API.ACCOUNT.PURGE.USERS",
];

/// Everything that orders-service is allowed to do.
pub(super) fn of_orders() -> Vec<Attempt> {
    let mut table = Vec::new();
    for target in into_users() {
        table.extend(own_events_with_reply(&target));
        table.extend(allowed_requests_with_reply(&target));
        table.push(push_consumer_on_own_stream("spy", &target, Violation));
    }
    table.extend(HARMFUL.map(|request| read_of_users().reply(request)));
    table.push(Attempt::api(
        Orders,
        "$JS.API.STREAM.CREATE.EVIL",
        r#"{"name":"EVIL","subjects":["users.>"]}"#,
        Violation,
    ));
    table
}

/// It may delete its own stream and recreate it with any configuration: one that copies, captures or republishes. Each row that
/// deletes or creates one waits for its answer, because the broker fails on two of them at once.
pub(super) fn of_orders_with_its_stream() -> Vec<Attempt> {
    let targets = into_users().into_iter();
    let targets = targets
        .chain(HARMFUL.map(str::to_owned))
        .chain(["STREAM.INFO", "DIRECT.GET"].map(|api| format!("from_users.API.{api}.USERS")))
        .chain(["_INBOX_users.x".to_owned()]);
    targets.flat_map(|target| own_streams(&target)).collect()
}

fn own_streams(target: &str) -> Vec<Attempt> {
    let own = |config: Value, expect| {
        let mut config = config;
        config["name"] = "ORDERS".into();
        config["max_bytes"] = 1_000_000.into();
        Attempt::api(
            Orders,
            "$JS.API.STREAM.CREATE.ORDERS",
            &config.to_string(),
            expect,
        )
    };
    let delete = || {
        Attempt::api(
            Orders,
            "$JS.API.STREAM.DELETE.ORDERS",
            "",
            Answer("success"),
        )
    };
    let copy =
        json!({"name": "USERS", "external": {"api": "from_users.API", "deliver": "users.copy"}});
    let event = Attempt::api(Orders, "orders.x", "{}", Accepted);
    vec![
        delete(),
        own(json!({"mirror": copy}), Answer("did_create")),
        delete(),
        own(json!({"sources": [copy]}), Answer("did_create")),
        delete(),
        own(
            json!({"subjects": ["users.>", "from_users.API.>"]}),
            Answer("did_create"),
        ),
        read_of_users().reply(target),
        delete(),
        // It catches the live copies, and passes them on.
        own(
            json!({"subjects": ["live.users.>"], "republish": {"src": "live.users.>", "dest": "users.>"}}),
            Answer("did_create"),
        ),
        delete(),
        own(
            json!({"subjects": ["orders.>"], "republish": {"src": "orders.x", "dest": target}}),
            Answer("did_create"),
        ),
        event.clone(),
        Attempt::api(
            Orders,
            "$JS.API.STREAM.PURGE.ORDERS",
            r#"{"seq":1000}"#,
            Accepted,
        )
        .reply(target),
        delete(),
        own(json!({"subjects": ["orders.>"]}), Answer("did_create")),
        event,
    ]
}

/// The acknowledgement, or the refusal, goes to the reply subject: inside ORDERS, where it means nothing.
fn own_events_with_reply(target: &str) -> Vec<Attempt> {
    let own = || Attempt::api(Orders, &format!("orders.{TOKEN}.x"), "{}", Accepted).reply(target);
    vec![
        own(),
        own().header("Nats-Expected-Last-Sequence", "999999"),
        own()
            .header("Nats-Batch-Id", "evil")
            .header("Nats-Batch-Sequence", "1")
            .header("Nats-Batch-Commit", "1"),
        own()
            .header("Nats-Batch-Id", "evil")
            .header("Nats-Batch-Sequence", "7")
            .header("Nats-Batch-Commit", "1"),
    ]
}

fn allowed_requests_with_reply(target: &str) -> Vec<Attempt> {
    let request = |subject: &str, payload: &str| {
        Attempt::api(Orders, subject, payload, Accepted).reply(target)
    };
    vec![
        request("$JS.API.STREAM.INFO.ORDERS", ""),
        request("$JS.API.DIRECT.GET.ORDERS", r#"{"seq":1,"batch":3}"#),
        request("$JS.API.STREAM.PURGE.ORDERS", r#"{"seq":1}"#),
        request("from_users.API.STREAM.INFO.USERS", ""),
        read_of_users().reply(target),
    ]
}

fn read_of_users() -> Attempt {
    let question = r#"{"seq":1,"batch":3}"#;
    Attempt::api(
        Orders,
        "from_users.API.DIRECT.GET.USERS",
        question,
        Accepted,
    )
}

/// No user may create a consumer. The messages that one pushes would stay in its account.
fn push_consumer_on_own_stream(name: &str, target: &str, expect: Expect) -> Attempt {
    let name = format!("{name}-{}", target.len());
    let question =
        json!({"stream_name": "ORDERS", "config": push_consumer(&name, target)}).to_string();
    Attempt::api(
        Orders,
        &format!("$JS.API.CONSUMER.CREATE.ORDERS.{name}"),
        &question,
        expect,
    )
}

fn push_consumer(name: &str, target: &str) -> Value {
    let second = 1_000_000_000_u64;
    json!({
        "name": name, "deliver_subject": target, "ack_policy": "none", "deliver_policy": "all",
        "idle_heartbeat": second / 5, "flow_control": true,
    })
}

/// Everything that the observer is allowed to do.
pub(super) fn of_observer() -> Vec<Attempt> {
    let request = |subject: &str, payload: &str| Attempt::api(Observer, subject, payload, Accepted);
    let mut table = Vec::new();
    for target in into_users()
        .into_iter()
        .chain([format!("orders.{TOKEN}.placed"), "orders.x".to_owned()])
    {
        table.push(
            request("from_users.API.DIRECT.GET.USERS", r#"{"seq":1,"batch":10}"#).reply(&target),
        );
        table.push(request("from_users.API.STREAM.INFO.USERS", "").reply(&target));
    }
    table.push(request("$SYS.REQ.SERVER.PING.STATSZ", "").reply("$JS.API.ACCOUNT.PURGE.USERS"));
    table.push(request("$SYS.REQ.SERVER.PING.JSZ", "").reply("$JS.API.STREAM.PURGE.USERS"));
    table
}

/// Attempts of both, by every subject that they can name.
pub(super) fn of_both() -> Vec<Attempt> {
    [Orders, Observer]
        .into_iter()
        .flat_map(of_any_reader)
        .collect()
}

fn of_any_reader(user: User) -> Vec<Attempt> {
    let mut table: Vec<_> = into_users()
        .iter()
        .map(|target| Attempt::api(user, target, "{}", Violation))
        .collect();
    for (call, payload) in forbidden_calls() {
        // Under the prefix the observer may publish anything, but there are no responders.
        let imported = if user == Observer {
            NoResponders
        } else {
            Violation
        };
        table.push(Attempt::api(
            user,
            &format!("from_users.API.{call}"),
            &payload,
            imported,
        ));
        table.push(Attempt::api(
            user,
            &format!("$JS.API.{call}"),
            &payload,
            Violation,
        ));
    }
    for subject in [
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SYS.REQ.ACCOUNT.USERS.JSZ",
        "$SYS.REQ.USER.INFO",
    ] {
        table.push(Attempt::api(user, subject, "", Violation));
    }
    let question = "from_users.API.STREAM.INFO.USERS";
    for target in into_users() {
        table.push(Attempt::api(user, question, "", Violation).header("Nats-Trace-Dest", &target));
    }
    // The whole stream with one question, a piece of it that it has no name for, and a request for another stream.
    for (question, expect) in [
        (
            r#"{"seq":1,"batch":1000000000,"max_bytes":1000000000000}"#,
            Accepted,
        ),
        (r#"{"multi_last":["users.>"]}"#, Accepted),
        (r#"{"stream_name":"ORDERS","seq":1}"#, Accepted),
    ] {
        let subject = "from_users.API.DIRECT.GET.USERS";
        table.push(Attempt::api(user, subject, question, expect));
    }
    for account in ["SYS", "USERS"] {
        let forged = json!({"acc": account, "svc": account}).to_string();
        table.push(
            Attempt::api(user, question, "", Answer("last_seq"))
                .header("Nats-Request-Info", &forged),
        );
    }
    table
}

/// Requests that create, change or remove a part of USERS, and those that belong to another reader.
fn forbidden_calls() -> Vec<(String, String)> {
    let push = json!({"stream_name": "USERS", "config": push_consumer("evil", &into_users()[0])})
        .to_string();
    let pull = json!({"stream_name": "USERS", "config": {"name": "evil", "durable_name": "evil"}});
    let pull = pull.to_string();
    let narrowed =
        json!({"name": "USERS", "subjects": ["users.nothing"], "max_msgs": 1}).to_string();
    [
        ("CONSUMER.CREATE.USERS.evil", push.as_str()),
        ("CONSUMER.CREATE.USERS.evil.users.created", &push),
        ("CONSUMER.CREATE.USERS", &push),
        ("CONSUMER.DURABLE.CREATE.USERS.evil", &pull),
        ("CONSUMER.DELETE.USERS.evil", ""),
        ("CONSUMER.NAMES.USERS", ""),
        ("CONSUMER.MSG.NEXT.USERS.evil", r#"{"batch":10}"#),
        ("CONSUMER.RESET.USERS.evil", r#"{"seq":1}"#),
        ("STREAM.NAMES", ""),
        ("STREAM.LIST", ""),
        ("STREAM.MSG.GET.USERS", r#"{"seq":1}"#),
        ("DIRECT.GET.USERS.users.created", ""),
        ("STREAM.DELETE.USERS", ""),
        ("STREAM.PURGE.USERS", ""),
        ("STREAM.UPDATE.USERS", &narrowed),
        ("STREAM.CREATE.USERS", &narrowed),
        ("STREAM.MSG.DELETE.USERS", r#"{"seq":1}"#),
        ("STREAM.SNAPSHOT.USERS", r#"{"deliver_subject":"users.x"}"#),
        ("STREAM.RESTORE.USERS", &narrowed),
        ("STREAM.LEADER.STEPDOWN.USERS", ""),
        ("ACCOUNT.PURGE.USERS", ""),
    ]
    .map(|(call, payload)| (call.to_owned(), payload.to_owned()))
    .to_vec()
}

/// user-service against ORDERS.
pub(super) fn of_users() -> Vec<Attempt> {
    let into_orders = [
        format!("orders.{TOKEN}.placed"),
        "orders.x".to_owned(),
        "live.orders.placed".to_owned(),
        "live.users.created".to_owned(),
    ];
    let mut table = Vec::new();
    for target in &into_orders {
        let own = || Attempt::api(Users, &format!("users.{TOKEN}.x"), "{}", Accepted).reply(target);
        let name = format!("spy-{}", target.len());
        let push =
            json!({"stream_name": "USERS", "config": push_consumer(&name, target)}).to_string();
        table.extend([
            Attempt::api(Users, target, "{}", Violation),
            own(),
            own().header("Nats-Expected-Last-Sequence", "999999"),
            Attempt {
                expect: Violation,
                ..own().header("Nats-Trace-Dest", target)
            },
            Attempt::api(Users, "$JS.API.STREAM.INFO.USERS", "", Accepted).reply(target),
            Attempt::api(
                Users,
                &format!("$JS.API.CONSUMER.CREATE.USERS.{name}"),
                &push,
                Violation,
            ),
        ]);
    }
    for call in [
        "STREAM.CREATE.SECOND",
        "STREAM.MSG.DELETE.USERS",
        "STREAM.INFO.ORDERS",
        "STREAM.DELETE.ORDERS",
        "STREAM.PURGE.ORDERS",
        "STREAM.UPDATE.ORDERS",
        "STREAM.CREATE.ORDERS",
        "STREAM.MSG.DELETE.ORDERS",
    ] {
        table.push(Attempt::api(
            Users,
            &format!("$JS.API.{call}"),
            r#"{"name":"SECOND","subjects":["orders.>"]}"#,
            Violation,
        ));
    }
    table
}

/// The observer against ORDERS: it may publish anything there, too, and there are no responders.
pub(super) fn of_observer_on_orders() -> Vec<Attempt> {
    let calls = [
        "STREAM.DELETE.ORDERS",
        "STREAM.PURGE.ORDERS",
        "STREAM.UPDATE.ORDERS",
        "STREAM.MSG.DELETE.ORDERS",
    ];
    let both_ways = |call| {
        [
            Attempt::api(
                Observer,
                &format!("from_orders.API.{call}"),
                "",
                NoResponders,
            ),
            Attempt::api(Observer, &format!("$JS.API.{call}"), "", Violation),
        ]
    };
    calls.into_iter().flat_map(both_ways).collect()
}

/// What only an orders-service without permissions can even try: consumers on its own stream that push, and streams.
pub(super) fn of_orders_without_permissions() -> Vec<Attempt> {
    let pushed_to = into_users().into_iter().chain(HARMFUL.map(str::to_owned));
    let pushed_to = pushed_to.chain(["from_users.API.DIRECT.GET.USERS".to_owned()]);
    let mut table: Vec<_> = pushed_to
        .enumerate()
        .map(|(number, target)| {
            push_consumer_on_own_stream(&format!("spy{number}"), &target, Answer("created"))
        })
        .collect();
    // Its account has room for one stream: with ORDERS gone the mirrors below fit in.
    table.push(Attempt::api(
        Orders,
        "$JS.API.STREAM.DELETE.ORDERS",
        "",
        Answer("success"),
    ));
    table.extend(streams_without_permissions());
    table
}

fn streams_without_permissions() -> Vec<Attempt> {
    // Any answer will do, but there must be one before the next row asks for another stream.
    let answered = Answer("stream_create_response");
    let stream = |config: Value, expect| {
        let name = config["name"].as_str().expect("it has a name").to_owned();
        Attempt::api(
            Orders,
            &format!("$JS.API.STREAM.CREATE.{name}"),
            &config.to_string(),
            expect,
        )
    };
    let mirror = |api: &str| json!({"name": "MIRROR", "max_bytes": 1_000_000, "mirror": {"name": "USERS", "external": {"api": api}}});
    let remove = |name: &str| {
        Attempt::api(
            Orders,
            &format!("$JS.API.STREAM.DELETE.{name}"),
            "",
            Answer("stream_delete_response"),
        )
    };
    vec![
        // The server's own reply subjects: it keeps even an unlimited user away from them.
        Attempt {
            expect: Violation,
            ..read_of_users().reply("_R_.x")
        },
        Attempt::api(
            Orders,
            "from_users.API.STREAM.INFO.USERS",
            "",
            Expect::Anything,
        )
        .reply("_R_.x"),
        stream(
            json!({"name": "CATCHER", "subjects": ["from_users.API.>"], "no_ack": true, "max_bytes": 1_000_000}),
            answered,
        ),
        read_of_users(),
        remove("CATCHER"),
        stream(mirror("from_users.API"), answered),
        remove("MIRROR"),
        stream(mirror("$JS.API"), answered),
        remove("MIRROR"),
        stream(
            json!({"name": "THIEF", "subjects": ["users.>"], "max_bytes": 1_000_000}),
            Answer("did_create"),
        ),
        Attempt::api(Orders, &into_users()[0], "{}", Answer("THIEF")),
    ]
}
