//! The owner of a stream, simulated on the wire: creates the stream as the relay does and publishes into it.

use freehold_tests::Broker;
use freehold_tests::observer::StreamInfo;
use freehold_tests::wire::{Login, Message, Outgoing, Wire};
use serde_json::{Value, json};

/// The users of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    Users,
    Orders,
    Observer,
}

impl User {
    pub(crate) fn login(self, broker: &Broker) -> Login {
        let owner = |stream| broker.login(stream).expect("it has an owner");
        match self {
            User::Users => owner("USERS"),
            User::Orders => owner("ORDERS"),
            User::Observer => broker.observer().login().clone(),
        }
    }
}

/// A connection as the owner, and the token of its stream.
pub(crate) struct Owner {
    pub(crate) wire: Wire,
    stream: &'static str,
    /// `users`, the first word of every subject of the stream.
    word: &'static str,
}

/// Any token will do; the attackers know it, like every reader of STREAM.INFO.
pub(crate) const TOKEN: &str = "k7f3";

impl Owner {
    pub(crate) async fn of_users(broker: &Broker) -> Owner {
        Owner {
            wire: connect(broker, User::Users).await,
            stream: "USERS",
            word: "users",
        }
    }

    pub(crate) async fn of_orders(broker: &Broker) -> Owner {
        Owner {
            wire: connect(broker, User::Orders).await,
            stream: "ORDERS",
            word: "orders",
        }
    }

    /// The subject that stores `users.NAME`.
    pub(crate) fn door(&self, name: &str) -> String {
        format!("{}.{TOKEN}.{name}", self.word)
    }

    /// As the relay creates it. Creating the same stream twice is no error.
    pub(crate) async fn create_stream(&mut self) {
        let subject = format!("$JS.API.STREAM.CREATE.{}", self.stream);
        self.wire
            .request_json(&subject, &self.stream_config())
            .await
            .expect("the owner may create its stream");
    }

    /// Publishes one event and returns its sequence.
    pub(crate) async fn publish(&mut self, name: &str) -> u64 {
        let answer = self
            .wire
            .request(&self.door(name), b"{}")
            .await
            .expect("the owner may publish");
        sequence(&answer).unwrap_or_else(|| panic!("no acknowledgement: {}", answer.text()))
    }

    /// Publishes a batch as one unit; returns the sequence of its last event.
    pub(crate) async fn publish_batch(&mut self, count: u64) -> u64 {
        for place in 1..count {
            let out = self.in_batch(place);
            self.wire.publish(&out).await.expect("sent");
        }
        let reply = self.wire.new_reply();
        let last = self
            .in_batch(count)
            .header("Nats-Batch-Commit", "1")
            .reply(&reply);
        self.wire.publish(&last).await.expect("sent");
        let answer = loop {
            self.wire.flush().await.expect("the broker answers");
            if let Some(answer) = self.wire.messages.pop_front() {
                break answer;
            }
        };
        sequence(&answer).unwrap_or_else(|| panic!("no acknowledgement: {}", answer.text()))
    }

    pub(crate) async fn info(&mut self) -> StreamInfo {
        let subject = format!("$JS.API.STREAM.INFO.{}", self.stream);
        let answer = self
            .wire
            .request_json(&subject, &Value::Null)
            .await
            .expect("the owner may ask for its stream");
        StreamInfo::read(answer).expect("it has numbers")
    }

    fn in_batch(&self, place: u64) -> Outgoing {
        let out = Outgoing::to(&self.door("batched")).payload("{}");
        out.header("Nats-Batch-Id", "batch-1")
            .header("Nats-Batch-Sequence", &place.to_string())
    }

    fn stream_config(&self) -> Value {
        let door = self.door(">");
        json!({
            "name": self.stream,
            "subjects": [door],
            "subject_transform": {"src": door, "dest": format!("{}.>", self.word)},
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_bytes": 1_073_741_824_u64,
            "first_seq": 1,
            "deny_delete": true,
            "allow_atomic": true,
            "allow_direct": true,
            "republish": {"src": format!("{}.>", self.word), "dest": format!("live.{}.>", self.word)},
            "metadata": {"freehold.database": "6f1e", "freehold.epoch": "1"},
        })
    }
}

pub(crate) async fn connect(broker: &Broker, user: User) -> Wire {
    Wire::connect(broker.address(), &user.login(broker))
        .await
        .expect("the user may log in")
}

/// The sequence in a publish acknowledgement.
fn sequence(answer: &Message) -> Option<u64> {
    serde_json::from_slice::<Value>(&answer.payload).ok()?["seq"].as_u64()
}
