//! A broker with our nats.conf, both streams made by their owners, an attacker's connection, and the judge.
//!
//! It adds a reader with an account of its own, which no other file names. Live copies reach it as they reach every reader.

use std::fs;

use freehold_tests::Broker;
use freehold_tests::observer::StreamInfo;
use freehold_tests::services::whole_config;
use freehold_tests::wire::{Login, Message, Wire};
use freehold_tests::{Part, World, seconds};

use super::attempts::{Attempt, Expect};
use crate::owner::{Owner, connect};

pub(super) struct Lab {
    world: World,
    victim: Owner,
    other: Owner,
    /// Follows both streams live.
    reader: Wire,
    /// The last event of the victim that came live.
    live: u64,
}

/// The parts that must not change. Consumers, byte count and time of the state may.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    first_seq: u64,
    last_seq: u64,
    messages: u64,
    config: serde_json::Value,
}

impl Lab {
    pub(super) async fn start() -> Lab {
        Lab::with_config(nats_conf()).await
    }

    pub(super) async fn with_config(text: String) -> Lab {
        let builder = World::builder()
            .without_broker()
            .without_user_service()
            .without_orders_service();
        let mut world = builder.start().await;
        world.broker.config = world.folder().join("lab.conf");
        fs::write(&world.broker.config, text).expect("the lab's copy is written");
        world.broker.start().await.expect("the lab's broker starts");
        Lab::of(world).await
    }

    async fn of(world: World) -> Lab {
        let mut victim = Owner::of_users(&world.broker).await;
        let mut other = Owner::of_orders(&world.broker).await;
        victim.create_stream().await;
        other.create_stream().await;
        for _ in 0..3 {
            victim.publish("created").await;
            other.publish("placed").await;
        }
        let mut reader = connect_reader(&world.broker).await;
        for subject in ["live.users.>", "live.orders.>"] {
            reader.subscribe(subject).await.expect("sent");
        }
        reader.flush().await.expect("the broker answers");
        Lab {
            world,
            victim,
            other,
            reader,
            live: 3,
        }
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.world.broker
    }

    pub(super) fn victim(&mut self) -> &mut Owner {
        &mut self.victim
    }

    /// From now on ORDERS is watched.
    pub(super) fn swap_victim(&mut self) {
        std::mem::swap(&mut self.victim, &mut self.other);
    }

    pub(super) async fn legitimate_traffic(&mut self) {
        self.victim.publish("created").await;
        self.victim.publish_batch(3).await;
        self.victim.info().await;
        self.other.publish("placed").await;
    }

    /// Runs all rows, then lists all faults: a hole rarely comes alone.
    pub(super) async fn run_all(&mut self, table: &[Attempt]) {
        let wrong = self.find_holes(table).await;
        assert!(
            wrong.is_empty(),
            "{} of {} attempts:\n  {}",
            wrong.len(),
            table.len(),
            wrong.join("\n  ")
        );
    }

    pub(super) async fn find_holes(&mut self, table: &[Attempt]) -> Vec<String> {
        let mut wrong = Vec::new();
        for attempt in table {
            wrong.extend(
                self.run(attempt)
                    .await
                    .err()
                    .map(|reason| format!("{attempt}: {reason}")),
            );
        }
        wrong.extend(
            self.nothing_comes_late()
                .await
                .err()
                .map(|reason| format!("after all of them: {reason}")),
        );
        wrong
    }

    async fn run(&mut self, attempt: &Attempt) -> Result<(), String> {
        let before = self.victim_state().await;
        let end = self.try_it(attempt).await;
        self.unmoved_since(&before).await?;
        attempt.expect.judge(&end)
    }

    /// A new connection for each, so that refusals are not confused.
    async fn try_it(&mut self, attempt: &Attempt) -> End {
        let mut wire = connect(self.broker(), attempt.user).await;
        let mut out = attempt.out.clone();
        let reply = out.reply.get_or_insert_with(|| wire.new_reply()).clone();
        wire.publish(&out).await.expect("sent");
        wire.flush().await.expect("the broker answers");
        if attempt.expect.is_an_answer() && wire.messages.is_empty() && wire.errors.is_empty() {
            // When none comes, the row itself says so.
            let _came = wire.until_message(seconds(5)).await;
        }
        End {
            errors: wire.errors,
            answer: wire
                .messages
                .into_iter()
                .find(|message| message.subject == reply),
        }
    }

    /// Consumers made by the attempts send heartbeats; the shortest allowed is well below this.
    async fn nothing_comes_late(&mut self) -> Result<(), String> {
        let before = self.victim_state().await;
        self.victim
            .wire
            .listen(std::time::Duration::from_millis(500))
            .await
            .map_err(|error| format!("{error:#}"))?;
        self.unmoved_since(&before).await
    }

    pub(super) async fn victim_state(&mut self) -> State {
        State::from(self.victim.info().await)
    }

    /// The sequences are the same, and the owner's next event gets the next one: it follows anything still in flight.
    pub(super) async fn unmoved_since(&mut self, before: &State) -> Result<(), String> {
        let after = self.victim_state().await;
        if after != *before {
            return Err(format!("THE STREAM CHANGED from {before:?} to {after:?}"));
        }
        let next = self.victim.publish("probe").await;
        if next != before.last_seq + 1 {
            return Err(format!(
                "THE STREAM CHANGED: the next event got {next}, not {}",
                before.last_seq + 1
            ));
        }
        self.live_up_to(next).await
    }

    /// A reader received live exactly the events that the owner stored, each once.
    async fn live_up_to(&mut self, last: u64) -> Result<(), String> {
        let root = self.victim.door("").split('.').next().map(str::to_owned);
        let root = format!("live.{}.", root.expect("a first word"));
        let complaint = |error| format!("{error:#}");
        while self.live < last {
            if self.reader.messages.is_empty() {
                self.reader
                    .until_message(seconds(5))
                    .await
                    .map_err(complaint)?;
            }
            let Some(copy) = self.reader.messages.pop_front() else {
                return Err(format!("no live copy of {}", self.live + 1));
            };
            if !copy.subject.starts_with(&root) {
                continue;
            }
            let seq = copy.header("Nats-Sequence");
            if seq != Some((self.live + 1).to_string().as_str()) {
                return Err(format!("A FORGED LIVE COPY after {}: {copy:?}", self.live));
            }
            self.live += 1;
        }
        Ok(())
    }
}

impl From<StreamInfo> for State {
    fn from(info: StreamInfo) -> State {
        State {
            first_seq: info.first_seq,
            last_seq: info.last_seq,
            messages: info.messages,
            config: info.config,
        }
    }
}

/// The attacker's view.
#[derive(Debug)]
pub(super) struct End {
    errors: Vec<String>,
    answer: Option<Message>,
}

impl Expect {
    fn is_an_answer(self) -> bool {
        matches!(self, Expect::Answer(_) | Expect::NoResponders)
    }

    fn judge(self, end: &End) -> Result<(), String> {
        let violation = end
            .errors
            .iter()
            .any(|error| error.to_lowercase().contains("permissions violation"));
        let answer = end.answer.as_ref();
        let as_expected = match self {
            Expect::Violation => violation,
            Expect::NoResponders => answer.is_some_and(|answer| answer.status == Some(503)),
            Expect::Accepted => {
                end.errors.is_empty() && answer.is_none_or(|answer| answer.status != Some(503))
            }
            Expect::Answer(word) => answer.is_some_and(|answer| answer.text().contains(word)),
            Expect::Anything => true,
        };
        let text = || answer.map(|answer| (answer.status, answer.text()));
        if as_expected {
            Ok(())
        } else {
            Err(format!(
                "expected {self:?}, saw {:?} {:?}",
                end.errors,
                text()
            ))
        }
    }
}

/// It needs nothing from the files of others: their exports are open to every account.
const READER: &str = r#"
  READER {
    users: [{ user: "reader", password: "preaderreaderreader" }]
    imports: [
      { service: { account: USERS, subject: "$JS.API.STREAM.INFO.USERS" }, to: "from_users.API.STREAM.INFO.USERS" }
      { service: { account: USERS, subject: "$JS.API.DIRECT.GET.USERS" }, to: "from_users.API.DIRECT.GET.USERS" }
      { stream: { account: USERS, subject: "live.users.>" } }
      { stream: { account: ORDERS, subject: "live.orders.>" } }
    ]
  }
"#;

pub(super) async fn connect_reader(broker: &Broker) -> Wire {
    let login = Login {
        user: "reader".to_owned(),
        password: "preaderreaderreader".to_owned(),
        inbox: "_INBOX_reader".to_owned(),
    };
    let wire = Wire::connect(broker.address(), &login).await;
    wire.expect("the reader may log in")
}

/// Our nats.conf and the reader's account.
fn nats_conf() -> String {
    let text = whole_config();
    let (accounts, end) = text.rsplit_once('}').expect("the accounts end");
    [accounts, READER, "}", end].concat()
}

/// Our nats.conf with PURGE where readers may read.
pub(super) fn with_purge_for_readers() -> String {
    let text = nats_conf();
    let holed = text.replace("API.DIRECT.GET.USERS\"", "API.STREAM.PURGE.USERS\"");
    assert_ne!(holed, text, "the line to spoil is there");
    holed
}

/// Our nats.conf with the permissions of one user cut out.
pub(super) fn without_permissions_of(user: &str) -> String {
    // Its account may make consumers, too.
    let text = nats_conf().replace("max_consumers: 1,", "max_consumers: 32,");
    let name = text
        .find(&format!("user: \"{user}\""))
        .expect("the user is there");
    let from = name
        + text[name..]
            .find("permissions: {")
            .expect("it has permissions");
    let to = from + end_of_block(&text[from..]);
    [&text[..from], &text[to..]].concat()
}

/// Where the first `{` is closed. Good enough for our file: no brace lies in a comment or a string there.
fn end_of_block(text: &str) -> usize {
    let mut depth = 0;
    for (place, sign) in text.char_indices() {
        depth += i32::from(sign == '{') - i32::from(sign == '}');
        if sign == '}' && depth == 0 {
            return place + 1;
        }
    }
    panic!("a block of nats.conf is not closed")
}
