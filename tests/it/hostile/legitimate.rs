//! Legitimate work: the permissions of nats.conf block no user's own work.

use freehold_tests::seconds;
use freehold_tests::wire::{Message, Outgoing, Wire};
use serde_json::{Value, json};

use super::lab::{Lab, connect_reader};
use crate::owner::{User, connect};

#[tokio::test]
async fn the_owner_creates_twice_publishes_and_batches() {
    let mut lab = Lab::start().await;
    let owner = lab.victim();
    owner.create_stream().await;
    let head = owner.info().await.last_seq;
    assert_eq!(owner.publish("created").await, head + 1);
    assert_eq!(owner.publish_batch(5).await, head + 6);
}

#[tokio::test]
async fn the_owner_itself_cannot_use_the_clean_subject_nor_a_wrong_number() {
    let mut lab = Lab::start().await;
    let (door, head) = (
        lab.victim().door("created"),
        lab.victim().info().await.last_seq,
    );
    let clean = lab
        .victim()
        .wire
        .request("users.created", b"{}")
        .await
        .expect_err("no stream takes it");
    assert!(clean.to_string().contains("no responders"), "{clean:#}");

    let wire = &mut lab.victim().wire;
    let reply = wire.new_reply();
    let late = Outgoing::to(&door)
        .payload("{}")
        .header("Nats-Expected-Last-Sequence", &(head - 1).to_string());
    wire.publish(&late.reply(&reply)).await.expect("sent");
    let refusal = wire
        .next_message(seconds(5))
        .await
        .expect("an answer")
        .text();
    assert!(refusal.contains("10071"), "{refusal}");
    assert_eq!(lab.victim().info().await.last_seq, head);
}

#[tokio::test]
async fn the_owner_trims_closes_and_replaces_its_stream() {
    let mut lab = Lab::start().await;
    let owner = lab.victim();
    ask(
        &mut owner.wire,
        "$JS.API.STREAM.PURGE.USERS",
        json!({"seq": 3}),
    )
    .await;
    let trimmed = owner.info().await;
    assert_eq!((trimmed.first_seq, trimmed.last_seq), (3, 3));

    let mut closed = trimmed.config;
    closed["sealed"] = json!(true);
    ask(&mut owner.wire, "$JS.API.STREAM.UPDATE.USERS", closed).await;

    ask(&mut owner.wire, "$JS.API.STREAM.DELETE.USERS", Value::Null).await;
    owner.create_stream().await;
    assert_eq!(owner.publish("created").await, 1);
}

#[tokio::test]
async fn orders_reads_the_past_and_the_present_of_users() {
    let mut lab = Lab::start().await;
    let mut reader = connect(lab.broker(), User::Orders).await;
    reads_users(&mut lab, &mut reader).await;
}

/// Nothing but its own account was added: no file of an owner names it.
#[tokio::test]
async fn a_reader_unknown_to_the_owner_reads_as_well() {
    let mut lab = Lab::start().await;
    let mut reader = connect_reader(lab.broker()).await;
    reads_users(&mut lab, &mut reader).await;
}

async fn reads_users(lab: &mut Lab, reader: &mut Wire) {
    reader.subscribe("live.users.>").await.expect("sent");
    ask(reader, "from_users.API.STREAM.INFO.USERS", Value::Null).await;
    let is_last = |message: &Message| message.status == Some(204);
    let past = reader
        .request_many(
            "from_users.API.DIRECT.GET.USERS",
            br#"{"seq":2,"batch":1000,"max_bytes":8388608}"#,
            is_last,
        )
        .await
        .expect("past events");
    let numbers: Vec<_> = past
        .iter()
        .map(|event| event.header("Nats-Sequence"))
        .collect();
    assert_eq!(numbers, [Some("2"), Some("3")]);

    let stored = lab.victim().publish("created").await;
    let live = reader.next_message(seconds(5)).await.expect("a live copy");
    assert_eq!(live.subject, "live.users.created");
    assert_eq!(live.header("Nats-Subject"), Some("users.created"));
    assert_eq!(
        live.header("Nats-Sequence"),
        Some(stored.to_string().as_str())
    );
    assert_eq!(reader.errors, Vec::<String>::new());
}

#[tokio::test]
async fn the_observer_reads_everything() {
    let mut lab = Lab::start().await;
    let info = lab.victim().info().await;
    let observer = lab.broker().observer();
    assert_eq!(
        observer.stream_info("USERS").await.expect("USERS").last_seq,
        info.last_seq
    );
    let events = observer.read_all("USERS").await.expect("all events");
    assert_eq!(
        events.iter().map(|event| event.seq).collect::<Vec<_>>(),
        (1..=info.last_seq).collect::<Vec<_>>()
    );
    assert!(
        events
            .iter()
            .all(|event| event.subject == "users.created" && event.bytes == b"{}")
    );
    assert_eq!(
        observer.read_all("ORDERS").await.expect("all events").len(),
        3
    );

    let mut wire = connect(lab.broker(), User::Observer).await;
    reads_users(&mut lab, &mut wire).await;
    for question in ["HEALTHZ", "STATSZ", "JSZ"] {
        ask(
            &mut wire,
            &format!("$SYS.REQ.SERVER.PING.{question}"),
            Value::Null,
        )
        .await;
    }
}

#[tokio::test]
async fn the_observer_reads_more_events_than_fit_in_one_request() {
    let mut lab = Lab::start().await;
    for _ in 0..3 {
        lab.victim().publish_batch(900).await;
    }
    let events = lab
        .broker()
        .observer()
        .read_all("USERS")
        .await
        .expect("all events");
    assert_eq!(events.len(), 3 + 2700);
    assert!(events.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
}

async fn ask(wire: &mut Wire, subject: &str, question: Value) -> Value {
    wire.request_json(subject, &question)
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
}
