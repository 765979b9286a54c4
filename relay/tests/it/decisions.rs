//! What a person decides when two lines of events exist: each decision is carried out whole, wherever it is killed, and
//! nothing that was acknowledged is dropped before it is saved.

use std::path::PathBuf;

use futures::future::BoxFuture;
use relay::database::Gate;
use relay::log::{AppendLog, Connect, Log, Record};
use relay::operate::{
    DecisionError, adopt_stream, backup, new_epoch, plan_adoption, plan_new_epoch, restore,
};
use relay::outbox::FoundIn;
use relay::publish::{Case, RelayState, Retention, Step};
use relay::rusqlite::{self, types::Value};
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, Fold, Relay, Stop};
use serde_json::Value as Json;

use crate::support::{
    Front, Image, Mortal, Scratch, Weighed, assert_one_log, audited, clone_of, close_stream, count,
    follow, found_in, kill, meet, options, origin, outbox_rows, set_aside, settle, totals,
    unmarked, weigh_again, weigh_many,
};

/// Two lives of one file, both gone on from event 2: the stream holds the rival's line.
struct Fork {
    scratch: Scratch,
    broker: MemoryBroker,
    common: Vec<Record>,
    /// What only this file holds.
    ours: Vec<Record>,
    db: Database,
    /// What only the rival and the stream hold.
    theirs: Vec<Record>,
    rival: Database,
}

impl Fork {
    async fn with(ours: u64, theirs: u64) -> Self {
        let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
        let db = scratch.producer().await;
        let common = weigh_many(&db, 2).await;
        meet(&db, &broker).await;
        let rival = clone_of(&db, &scratch.path("rival.db")).await;
        let theirs = weigh_many(&rival, theirs).await;
        meet(&rival, &broker).await;
        let ours = weigh_many(&db, ours).await;
        assert_eq!(meet(&db, &broker).await, [Case::Forked]);
        db.close().await;
        let db = scratch.producer().await;
        Self {
            scratch,
            broker,
            common,
            ours,
            db,
            theirs,
            rival,
        }
    }

    fn path(&self) -> PathBuf {
        self.db.path().to_owned()
    }

    fn our_line(&self) -> Vec<Record> {
        [&self.common[..], &self.ours].concat()
    }

    fn their_line(&self) -> Vec<Record> {
        [&self.common[..], &self.theirs].concat()
    }
}

/// Every row of every table.
async fn content(db: &Database) -> Vec<String> {
    let read = db.read(|rows| {
        let names: Vec<String> = rows
            .prepare("select name from sqlite_schema where type = 'table' order by name")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut all = Vec::new();
        for name in names {
            let mut every = rows.prepare(&format!("select * from {name}"))?;
            let columns = every.column_count();
            let mut found = every.query([])?;
            while let Some(row) = found.next()? {
                let row: Result<Vec<Value>, _> = (0..columns).map(|at| row.get(at)).collect();
                all.push(format!("{name} {:?}", row?));
            }
        }
        Ok::<_, rusqlite::Error>(all)
    });
    read.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn following_the_streams_line_sets_the_own_events_aside_and_takes_over_the_streams() {
    for (ours, theirs) in [(1, 3), (3, 1), (2, 2)] {
        let fork = Fork::with(ours, theirs).await;
        let (before, store) = (content(&fork.db).await, fork.broker.store());
        let plan = plan_adoption(&fork.db, &fork.broker).await.unwrap();
        assert_eq!(content(&fork.db).await, before, "a plan changes nothing");
        assert_eq!(plan.common, 2);
        assert_eq!(plan.ours, fork.ours[0].event_id());
        assert_eq!(plan.theirs, fork.theirs[0].event_id());
        assert_eq!((plan.outbox_head, plan.stream_head), (2 + ours, 2 + theirs));
        assert_eq!(plan.quarantined, ours);
        assert_eq!(plan.origin, origin(&fork.db).await);

        let done = adopt_stream(&fork.db, &fork.broker).await.unwrap();
        assert_eq!(done, plan);
        assert_eq!(outbox_rows(&fork.db).await, fork.common);
        assert_eq!(
            set_aside(&fork.db).await,
            found_in(FoundIn::Outbox, &fork.ours)
        );
        let refused = weigh_again(&fork.db, "a", 1).await;
        assert!(
            refused.is_err(),
            "a write now would fork again: {refused:?}"
        );

        meet(&fork.db, &fork.broker).await;
        assert_eq!(fork.broker.store(), store, "the stream is only read");
        assert_one_log(&fork.db, &fork.broker, &fork.their_line()).await;
        assert_eq!(
            set_aside(&fork.db).await,
            found_in(FoundIn::Outbox, &fork.ours)
        );
        let said = audited(&fork.db).await;
        assert_eq!(
            said,
            ["marked", "stream adopted", "imported", "mark cleared"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn keeping_the_files_line_sets_the_streams_events_aside_and_makes_the_stream_anew() {
    for (ours, theirs) in [(1, 3), (3, 1), (2, 2)] {
        let fork = Fork::with(ours, theirs).await;
        let (before, store) = (content(&fork.db).await, fork.broker.store());
        let plan = plan_new_epoch(&fork.db, &fork.broker).await.unwrap();
        assert_eq!(content(&fork.db).await, before, "a plan changes nothing");
        assert_eq!(
            (plan.common, plan.quarantined, plan.origin.epoch),
            (2, theirs, 2)
        );

        let done = new_epoch(&fork.db, &fork.broker).await.unwrap();
        assert_eq!(done, plan);
        assert_eq!(fork.broker.store(), store, "the relay carries it out");
        assert_eq!(
            meet(&fork.db, &fork.broker).await,
            [Case::OlderEpoch, Case::Equal]
        );
        assert_eq!(
            set_aside(&fork.db).await,
            found_in(FoundIn::Stream, &fork.theirs)
        );
        let next = weigh_many(&fork.db, 1).await;
        meet(&fork.db, &fork.broker).await;
        let line = [fork.our_line(), next.clone()].concat();
        assert_one_log(&fork.db, &fork.broker, &line).await;
        let json: serde_json::Value = serde_json::from_slice(&next[0].bytes).unwrap();
        assert_eq!(json["epoch"], 2, "what is emitted from now on says so");
        assert_eq!(
            audited(&fork.db).await,
            ["marked", "new epoch", "stream replaced", "mark cleared"]
        );
    }
}

/// More than one read hands out at a time.
#[tokio::test(start_paused = true)]
async fn a_long_line_is_set_aside_whole() {
    let mut fork = Fork::with(1, 1).await;
    fork.db.close().await;
    fork.db = Database::open(fork.path(), unmarked()).await.unwrap();
    let mut ours = fork.ours.clone();
    for _ in 0..20 {
        let parcel = "long ".repeat(90_000);
        ours.push(weigh_again(&fork.db, &parcel, 1).await.unwrap());
    }
    let bytes: usize = ours.iter().map(|record| record.bytes.len()).sum();
    assert!(bytes > 9_000_000);
    adopt_stream(&fork.db, &fork.broker).await.unwrap();
    assert_eq!(set_aside(&fork.db).await, found_in(FoundIn::Outbox, &ours));
}

/// What only the stream holds although it lies before the fork: the outbox has pruned it.
#[tokio::test(start_paused = true)]
async fn the_plan_counts_everything_that_a_new_epoch_will_set_aside() {
    let fork = Fork::with(3, 3).await;
    prune_to(&fork.db, 4).await; // event 1 is in the stream only
    let plan = new_epoch(&fork.db, &fork.broker).await.unwrap();
    meet(&fork.db, &fork.broker).await;
    let theirs = [&fork.common[..1], &fork.theirs].concat();
    assert_eq!(
        set_aside(&fork.db).await,
        found_in(FoundIn::Stream, &theirs)
    );
    assert_eq!((plan.common, plan.quarantined), (2, 4));
}

/// Prunes an outbox down to this many events, with a stream of its own.
async fn prune_to(db: &Database, events: u64) {
    let elsewhere = MemoryBroker::new(2);
    let keep = Retention {
        max_events: Some(events),
        ..Retention::default()
    };
    settle(&mut Relay::new(db, elsewhere).keep(keep)).await;
    assert_eq!(outbox_rows(db).await.len() as u64, events);
}

#[tokio::test(start_paused = true)]
async fn tables_that_cannot_be_taken_back_refuse_the_adoption() {
    let fork = Fork::with(3, 1).await;
    prune_to(&fork.db, 2).await;
    let before = content(&fork.db).await;
    let refused = adopt_stream(&fork.db, &fork.broker).await.unwrap_err();
    let no_joint = matches!(refused, DecisionError::Unjoinable { .. });
    assert!(no_joint, "events 1 to 3 are gone here: {refused}");

    let fork = Fork::with(3, 1).await;
    prune_to(&fork.db, 4).await; // event 2 is kept, what came before is not
    let refused = adopt_stream(&fork.db, &fork.broker).await.unwrap_err();
    let words = refused.to_string();
    assert!(
        matches!(
            refused,
            DecisionError::NoWayBack {
                common: 2,
                first: 2
            }
        ),
        "{words}"
    );
    assert!(
        words.contains("restore a backup from before the fork"),
        "{words}"
    );
    assert_ne!(content(&fork.db).await, before);
    assert_eq!(outbox_rows(&fork.db).await.len(), 4, "nothing was changed");
}

#[tokio::test(start_paused = true)]
async fn lines_that_nothing_joins_are_not_joined() {
    // The stream begins after this file's end.
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 2).await;
    meet(&db, &broker).await;
    let copy = scratch.path("backup.db");
    backup(db.path(), &options(), &copy).unwrap();
    weigh_many(&db, 4).await;
    meet(&db, &broker).await;
    let whole = broker.store();
    db.close().await;
    restore(&copy, &options(), &scratch.path("parcels.db")).unwrap();
    let db = scratch.producer().await;
    for emptied in [false, true] {
        broker.restore(whole.clone());
        broker.trim(if emptied { 6 } else { 3 });
        let before = content(&db).await;
        let refused = adopt_stream(&db, &broker).await.unwrap_err();
        let words = refused.to_string();
        assert!(
            matches!(refused, DecisionError::Unjoinable { .. }),
            "{words}"
        );
        assert!(words.contains("this file keeps events 1 to 2"), "{words}");
        assert_eq!(content(&db).await, before);
    }
    broker.delete();
    let refused = adopt_stream(&db, &broker).await.unwrap_err();
    assert!(matches!(refused, DecisionError::NoStream(_)), "{refused}");
}

/// Whatever a broker lost in the middle cannot be taken over; this file may be the only one that still holds it.
#[tokio::test(start_paused = true)]
async fn a_stream_with_holes_is_not_adopted() {
    let fork = Fork::with(4, 4).await;
    fork.broker.lose(2);
    let before = content(&fork.db).await;
    let refused = adopt_stream(&fork.db, &fork.broker).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(content(&fork.db).await, before);
}

/// The winner closed the stream and died with its file, before it had made its own.
#[tokio::test(start_paused = true)]
async fn a_stream_that_a_lost_epoch_has_closed_is_taken_by_a_new_epoch_only() {
    let fork = Fork::with(1, 3).await;
    close_stream(&fork.broker, 2).await;
    let refused = adopt_stream(&fork.db, &fork.broker).await.unwrap_err();
    assert!(matches!(refused, DecisionError::Closed(2)), "{refused}");
    assert!(
        refused.to_string().contains("decide with new-epoch"),
        "{refused}"
    );
    assert_eq!(outbox_rows(&fork.db).await, fork.our_line());
    new_epoch(&fork.db, &fork.broker).await.unwrap();
    assert_eq!(
        meet(&fork.db, &fork.broker).await,
        [Case::OlderEpoch, Case::Equal]
    );
    assert_eq!(
        origin(&fork.db).await.epoch,
        3,
        "that of the lost one is not used again"
    );
    assert_one_log(&fork.db, &fork.broker, &fork.our_line()).await;
    assert_eq!(
        set_aside(&fork.db).await,
        found_in(FoundIn::Stream, &fork.theirs)
    );
}

/// Rule S5: the process that lost needs no second decision.
#[tokio::test(start_paused = true)]
async fn the_process_that_lost_halts_by_itself_and_changes_nothing() {
    let fork = Fork::with(1, 2).await;
    let relay = Relay::new(&fork.rival, fork.broker.clone());
    let mut status = relay.status();
    let stop = Stop::new();
    let running = tokio::spawn(relay.run(stop.clone()));
    let publishing = status.wait_for(|status| status.state == RelayState::Publishing);
    publishing.await.unwrap();

    new_epoch(&fork.db, &fork.broker).await.unwrap();
    let cases = meet(&fork.db, &fork.broker).await;
    assert_eq!(fork.db.gate(), Gate::Open, "{cases:?}");
    let halted = status.wait_for(|status| matches!(status.state, RelayState::Halted(_)));
    halted.await.unwrap();
    let why = fork.rival.gate().reason().unwrap().to_owned();
    assert!(
        why.contains("it is in epoch 2, this file in epoch 1"),
        "{why}"
    );
    assert_one_log(&fork.db, &fork.broker, &fork.our_line()).await;
    stop.cancel();
    running.await.unwrap().unwrap();

    // And it can follow: what it alone holds is set aside there.
    fork.rival.close().await;
    let rival = Database::open(fork.scratch.path("rival.db"), options()).await;
    let rival = rival.unwrap();
    assert_eq!(meet(&rival, &fork.broker).await, [Case::LaterEpoch]);
    adopt_stream(&rival, &fork.broker).await.unwrap();
    rival.close().await;
    fork.db.close().await;
    let rival = Database::open(fork.scratch.path("rival.db"), options()).await;
    let rival = rival.unwrap();
    meet(&rival, &fork.broker).await;
    assert_one_log(&rival, &fork.broker, &fork.our_line()).await;
    assert_eq!(
        set_aside(&rival).await,
        found_in(FoundIn::Outbox, &fork.theirs)
    );
    assert_eq!(origin(&rival).await.epoch, 2);
}

/// A consumer of the forked stream: what it counted, and how often it began anew.
async fn totals_of(db: &Database) -> Vec<String> {
    let read = db.read(|rows| {
        let sql = "select parcel || ' ' || times || ' ' || total_g from totals order by parcel";
        let mut totals = rows.prepare(sql)?;
        totals
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()
    });
    read.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn consumers_on_the_lost_line_begin_anew_and_others_do_not_notice() {
    for ours in [2, 3, 4] {
        println!("{ours} against 3"); // shorter, as long, longer
        consumers_after(Fork::with(ours, 3).await).await;
    }
}

async fn consumers_after(fork: Fork) {
    let front = Front::of(&fork.db);
    let (on_lost, on_common) = (Scratch::new(), Scratch::new());
    let (lost, common) = (on_lost.reader().await, on_common.reader().await);
    let (reads_on, waits): (Consumer, Consumer) = (totals(front.clone()), totals(front));
    follow(&reads_on, &lost, &fork.broker).await;
    let whole = fork.broker.store();
    fork.broker.lose_tail(3);
    follow(&waits, &common, &fork.broker).await; // it never saw more than the common past
    fork.broker.restore(whole);

    new_epoch(&fork.db, &fork.broker).await.unwrap();
    meet(&fork.db, &fork.broker).await;
    for (consumer, db) in [(&reads_on, &lost), (&waits, &common)] {
        follow(consumer, db, &fork.broker).await;
        assert_eq!(totals_of(db).await, totals_of(&fork.db).await);
    }
    assert_eq!(
        (
            reads_on.status().borrow().rebuilt,
            waits.status().borrow().rebuilt
        ),
        (1, 0)
    );
    let orphans = lost.quarantined().await.unwrap();
    let orphan = fork.theirs.last().unwrap();
    assert_eq!(orphans.len(), 1);
    assert_eq!(
        (orphans[0].found_in, orphans[0].seq),
        (FoundIn::Consumer, orphan.seq)
    );
    assert_eq!(orphans[0].event_id, orphan.event_id().unwrap().to_string());
    assert!(common.quarantined().await.unwrap().is_empty());
}

/// What each decision comes to, wherever the relay that carries it out is killed: after each single operation of the
/// broker, with the file as it lies at that moment.
#[tokio::test(start_paused = true)]
async fn a_decision_that_is_killed_anywhere_is_carried_out_by_the_next_start() {
    for (decision, ours) in [("new epoch", 2), ("adopt", 2), ("adopt", 0)] {
        let mut operations = 1;
        while carried_out_and_killed_after(operations, decision, ours).await {
            operations += 1;
        }
        assert!(operations > 5, "nothing was killed: {operations}");
    }
}

/// False: it was done before it could be killed.
async fn carried_out_and_killed_after(operations: u64, decision: &str, ours: u64) -> bool {
    println!("{decision}, {ours} own events, killed after {operations} operations");
    let fork = match ours {
        0 => ahead_only(3).await,
        _ => Fork::with(ours, 3).await,
    };
    match decision {
        "adopt" => adopt_stream(&fork.db, &fork.broker).await.unwrap(),
        _ => new_epoch(&fork.db, &fork.broker).await.unwrap(),
    };
    let path = fork.path();
    kill(fork.db.clone()).await; // between the decision and the contact
    let db = Database::open(&path, options()).await.unwrap();
    let mortal = Mortal::after(operations, &fork.broker);
    let mut relay = Relay::new(&db, mortal.clone());
    relay.import_one_by_one();
    let killed = loop {
        match relay.step().await {
            Err(_) if mortal.is_gone() => break true,
            Ok(Step::Checked) => break false,
            other => assert_ne!(other.unwrap(), Step::Halted, "{:?}", db.gate()),
        }
    };
    drop(relay);
    kill(db).await;

    let db = Database::open(&path, options()).await.unwrap();
    meet(&db, &fork.broker).await;
    let (line, place, lost) = match decision {
        "adopt" => (fork.their_line(), FoundIn::Outbox, &fork.ours),
        _ => (fork.our_line(), FoundIn::Stream, &fork.theirs),
    };
    assert_one_log(&db, &fork.broker, &line).await;
    assert_eq!(set_aside(&db).await, found_in(place, lost));
    killed
}

/// No fork, but a file that lies behind: what a restore leaves.
async fn ahead_only(theirs: u64) -> Fork {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    let common = weigh_many(&db, 2).await;
    meet(&db, &broker).await;
    let image = Image::take(db.path());
    let theirs = weigh_many(&db, theirs).await;
    meet(&db, &broker).await;
    db.close().await;
    image.copy_to(&scratch.path("parcels.db"));
    let db = scratch.producer().await;
    let (rival, ours) = (db.clone(), Vec::new());
    Fork {
        scratch,
        broker,
        common,
        ours,
        db,
        theirs,
        rival,
    }
}

/// Two people, or one in a hurry.
#[tokio::test(start_paused = true)]
async fn contradicting_decisions_on_both_files_lose_nothing_and_ask_again() {
    let fork = Fork::with(1, 2).await;
    let rival_path = fork.rival.path().to_owned();
    fork.rival.close().await;
    new_epoch(&fork.db, &fork.broker).await.unwrap();
    meet(&fork.db, &fork.broker).await;
    let rival = Database::open(&rival_path, options()).await.unwrap();
    new_epoch(&rival, &fork.broker).await.unwrap();
    meet(&rival, &fork.broker).await;
    assert_one_log(&rival, &fork.broker, &fork.their_line()).await;
    assert_eq!(
        set_aside(&rival).await,
        found_in(FoundIn::Stream, &fork.ours)
    );
    assert_eq!(origin(&rival).await.epoch, 3);

    let path = fork.path();
    fork.db.close().await;
    let db = Database::open(&path, options()).await.unwrap();
    assert_eq!(meet(&db, &fork.broker).await, [Case::LaterEpoch]);
    let refused = db.write(|_| Ok::<_, ()>(())).await;
    assert!(refused.is_err(), "of two that wrote one is halted");
    db.close().await;
    let db = Database::open(&path, options()).await.unwrap();
    adopt_stream(&db, &fork.broker).await.unwrap();
    meet(&db, &fork.broker).await;
    assert_one_log(&db, &fork.broker, &fork.their_line()).await;
    let aside = set_aside(&db).await;
    let everything = [
        found_in(FoundIn::Stream, &fork.theirs),
        found_in(FoundIn::Outbox, &fork.ours),
    ];
    assert_eq!(
        aside,
        everything.concat(),
        "each decision saved what it dropped"
    );
}

/// A decision that nothing calls for is refused: it would only cost.
#[tokio::test(start_paused = true)]
async fn where_nothing_is_forked_there_is_nothing_to_decide() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    let before = content(&db).await;
    let refused = adopt_stream(&db, &broker).await.unwrap_err();
    let nothing = |refused: &DecisionError| matches!(refused, DecisionError::NothingForked(_));
    assert!(nothing(&refused), "{refused}");
    assert_eq!(content(&db).await, before);

    let behind = ahead_only(2).await;
    let refused = new_epoch(&behind.db, &behind.broker).await.unwrap_err();
    assert!(nothing(&refused), "{refused}");
}

/// What lies in the stream after the last event: nothing that this log can take.
type Spoil = fn(&Record) -> Record;

/// With the owner's own rights and the right sequence anything can be stored.
const SPOILS: [(&str, Spoil); 11] = [
    ("no JSON", |next| with_bytes(next, b"hello".to_vec())),
    ("nothing at all", |next| with_bytes(next, Vec::new())),
    ("no bytes of a text", |next| {
        with_bytes(next, vec![0xff, 0, 0xfe])
    }),
    ("JSON of another kind", |next| {
        with_bytes(next, b"[1]".to_vec())
    }),
    ("an event without data", |next| {
        edited(next, |event| drop(event.remove("data")))
    }),
    ("data of another shape", |next| {
        edited(next, |event| set(event, "data", "what".into()))
    }),
    ("another sequence", |next| {
        edited(next, |event| set(event, "sequence", "9".repeat(20).into()))
    }),
    ("another event before it", |next| {
        edited(next, |event| set(event, "prev", event["id"].clone()))
    }),
    ("a type of another service", |next| Record {
        subject: "parcels.burnt".to_owned(),
        ..edited(next, |event| set(event, "type", "parcels.burnt.v1".into()))
    }),
    ("another subject", |next| Record {
        subject: "parcels.burnt".to_owned(),
        ..next.clone()
    }),
    ("more than a message may hold", |next| {
        edited(next, |event| {
            set(event, "source", "x".repeat(1_000_001).into())
        })
    }),
];

fn with_bytes(record: &Record, bytes: Vec<u8>) -> Record {
    Record {
        bytes: bytes.into(),
        ..record.clone()
    }
}

fn edited(record: &Record, edit: impl FnOnce(&mut serde_json::Map<String, Json>)) -> Record {
    let mut event: Json = serde_json::from_slice(&record.bytes).unwrap();
    edit(event.as_object_mut().unwrap());
    with_bytes(record, serde_json::to_vec(&event).unwrap())
}

fn set(event: &mut serde_json::Map<String, Json>, key: &str, value: Json) {
    event.insert(key.to_owned(), value);
}

/// Three events in file and stream, and in the stream one more.
async fn spoilt(spoil: Spoil) -> (Scratch, MemoryBroker, Database, Record) {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    let rival = clone_of(&db, &scratch.path("rival.db")).await;
    let next = spoil(&weigh_many(&rival, 1).await[0]);
    rival.close().await;
    let mut session = broker.connect().await.unwrap();
    let head = session.head().await.unwrap().unwrap();
    session
        .append_after(&head, std::slice::from_ref(&next))
        .await
        .unwrap();
    (scratch, broker, db, next)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_no_event_of_this_log_halts_and_a_new_epoch_keeps_its_bytes() {
    for (what, spoil) in SPOILS {
        println!("{what}");
        let (scratch, broker, db, foreign) = spoilt(spoil).await;
        let log = outbox_rows(&db).await;
        db.close().await;
        let db = scratch.producer().await;
        assert_eq!(meet(&db, &broker).await, [Case::AheadAtFirstContact]);
        let why = db.gate().reason().unwrap().to_owned();
        assert!(
            why.contains("event 4") && why.contains("new-epoch"),
            "{why}"
        );
        assert_eq!(outbox_rows(&db).await, log, "nothing of it is here");
        db.close().await;

        let db = scratch.producer().await;
        if foreign.event_id().is_none() {
            let refused = plan_adoption(&db, &broker).await.unwrap_err();
            assert!(matches!(refused, DecisionError::NoEvent(4)), "{refused}");
        }
        let plan = new_epoch(&db, &broker).await.unwrap();
        assert_eq!((plan.common, plan.quarantined), (3, 1));
        assert_eq!(meet(&db, &broker).await, [Case::OlderEpoch, Case::Equal]);
        assert_one_log(&db, &broker, &log).await;
        assert_eq!(set_aside(&db).await, found_in(FoundIn::Stream, &[foreign]));
    }
}

/// The program itself cannot take the event: its fold refuses it, or panics. A restart with a better one is a way out, and a
/// new epoch is another.
#[tokio::test(start_paused = true)]
async fn a_fold_that_fails_for_good_halts_and_is_not_tried_again() {
    let refuses = || {
        Fold::new(&["parcels", "totals"], |_, _: &relay::Received<Weighed>| {
            Err(ApplyError::Rejected("too heavy".to_owned()))
        })
    };
    let panics = || {
        Fold::new(&["parcels", "totals"], |_, _: &relay::Received<Weighed>| {
            panic!("too heavy")
        })
    };
    for fold in [refuses(), panics()] {
        let behind = ahead_only(2).await;
        behind.db.close().await;
        let failing = options().fold(fold);
        let db = Database::open(behind.path(), failing).await.unwrap();
        assert_eq!(meet(&db, &behind.broker).await, [Case::AheadAtFirstContact]);
        let why = db.gate().reason().unwrap().to_owned();
        assert!(
            why.contains("event 3") && why.contains("too heavy"),
            "{why}"
        );
        db.close().await;

        let db = behind.scratch.producer().await; // another program
        plan_new_epoch(&db, &behind.broker).await.unwrap();
        meet(&db, &behind.broker).await;
        assert_one_log(&db, &behind.broker, &behind.their_line()).await;
        let unfit = "relay_identity where unfit is not null";
        assert_eq!(count(&db, unfit).await, 0, "that was mended");
    }
}

/// Makes a world that halts at its next contact, or has halted.
type Halts = fn() -> BoxFuture<'static, (Scratch, MemoryBroker, Database)>;

/// One for each way to halt.
fn halts() -> Vec<(&'static str, Halts)> {
    async fn forked() -> (Scratch, MemoryBroker, Database) {
        let fork = Fork::with(2, 3).await;
        (fork.scratch, fork.broker, fork.db)
    }
    async fn foreign(events: u64) -> (Scratch, MemoryBroker, Database) {
        let (scratch, elsewhere, broker) = (Scratch::new(), Scratch::quick(), MemoryBroker::new(1));
        let (db, other) = (scratch.producer().await, elsewhere.producer().await);
        weigh_many(&other, 3).await;
        meet(&other, &broker).await;
        weigh_many(&db, events).await;
        (scratch, broker, db)
    }
    async fn superseded(closed: bool) -> (Scratch, MemoryBroker, Database) {
        let (scratch, broker, db) = forked().await;
        match closed {
            true => close_stream(&broker, 2).await,
            false => {
                let winner = clone_of(&db, &scratch.path("winner.db")).await;
                new_epoch(&winner, &broker).await.unwrap();
                meet(&winner, &broker).await;
            }
        }
        (scratch, broker, db)
    }
    async fn rival(spoil: Spoil) -> (Scratch, MemoryBroker, Database) {
        let (scratch, broker, db, next) = spoilt(spoil).await;
        let whole = broker.store();
        broker.lose_tail(1);
        let mut relay = Relay::new(&db, broker.clone());
        settle(&mut relay).await;
        broker.restore(whole);
        assert_eq!(
            settle(&mut relay).await.last(),
            Some(&Case::AheadLater),
            "{next:?}"
        );
        (scratch, broker, db)
    }
    async fn message(ours: u64) -> (Scratch, MemoryBroker, Database) {
        let (scratch, broker, db, _) = spoilt(SPOILS[0].1).await;
        weigh_many(&db, ours).await;
        (scratch, broker, db)
    }
    async fn unjoinable() -> (Scratch, MemoryBroker, Database) {
        let behind = ahead_only(4).await;
        behind.broker.trim(4);
        (behind.scratch, behind.broker, behind.db)
    }
    async fn holed() -> (Scratch, MemoryBroker, Database) {
        let behind = ahead_only(4).await;
        behind.broker.lose(4);
        (behind.scratch, behind.broker, behind.db)
    }
    vec![
        ("forked", || Box::pin(forked())),
        ("foreign to an empty file", || Box::pin(foreign(0))),
        ("foreign", || Box::pin(foreign(2))),
        ("superseded", || Box::pin(superseded(false))),
        ("closed by a later epoch", || Box::pin(superseded(true))),
        ("a rival's event", || Box::pin(rival(Record::clone))),
        ("a foreign message later", || Box::pin(rival(SPOILS[0].1))),
        ("a foreign message", || Box::pin(message(0))),
        ("a foreign message where this file wrote", || {
            Box::pin(message(1))
        }),
        ("a foreign message where this file wrote more", || {
            Box::pin(message(2))
        }),
        ("no longer joined", || Box::pin(unjoinable())),
        ("holed", || Box::pin(holed())),
    ]
}

/// The commands are followed as a person would: what the halt, or the refusal, names is done, and then the service starts.
#[tokio::test(start_paused = true)]
async fn every_halt_names_commands_and_each_of_them_ends_it() {
    for (situation, build) in halts() {
        let named = {
            let (_scratch, broker, db) = build().await;
            meet(&db, &broker).await;
            commands_in(db.gate().reason().expect(situation))
        };
        assert!(!named.is_empty(), "{situation}: no command is named");
        for command in named {
            println!("{situation}: {command}");
            let (scratch, broker, mut db) = build().await;
            meet(&db, &broker).await;
            let mut next = vec![command];
            while let Some(command) = next.pop() {
                db.close().await;
                db = scratch.producer().await;
                let decided = match command {
                    "adopt-stream" => adopt_stream(&db, &broker).await.map(drop),
                    "new-epoch" => new_epoch(&db, &broker).await.map(drop),
                    _ => Ok(()),
                };
                let answer = match decided {
                    Err(refused) => refused.to_string(),
                    Ok(()) => {
                        meet(&db, &broker).await;
                        db.gate().reason().unwrap_or_default().to_owned()
                    }
                };
                println!("  {command}: {answer}");
                let before = command;
                next = commands_in(&answer);
                next.retain(|command| *command != before);
            }
            assert_eq!(db.gate(), Gate::Open, "{situation}: {command}");
            assert_one_log(&db, &broker, &outbox_rows(&db).await).await;
        }
    }
}

/// What a person reads in it, the gentlest last.
fn commands_in(text: &str) -> Vec<&'static str> {
    let known = [
        "new-epoch",
        "adopt-stream",
        "restart this one",
        "start the service,",
    ];
    known
        .into_iter()
        .filter(|command| text.contains(command))
        .collect()
}
