//! The mark: what a file can know by itself of being an older copy, what it refuses then, and what it must not mistake
//! for a copy.

use std::path::{Path, PathBuf};

use relay::database::Gate;
use relay::environment::System;
use relay::event::{Envelope, EventId};
use relay::operate::{backup, restore};
use relay::publish::Case;
use relay::rusqlite::{Connection, params};
use relay::testing::memory::MemoryBroker;
use relay::{Database, WriteError};

use crate::support::{
    Image, Scratch, assert_one_log, audited, beside, kill, meet, options, outbox_rows, report,
    tables, unmarked, weigh_again, weigh_many,
};

/// A file in a folder of its own that was opened, written to, and closed.
async fn written(scratch: &Scratch) -> PathBuf {
    let folder = scratch.path("home");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("parcels.db");
    let db = Database::open(&path, options()).await.unwrap();
    weigh_many(&db, 3).await;
    db.close().await;
    path
}

async fn open(path: &Path) -> Database {
    Database::open(path, options()).await.unwrap()
}

/// Marked: reads are served, writes are refused and say why, and both survive a restart.
async fn assert_marked(path: &Path, because: &str) {
    let mut before = None;
    for _ in 0..2 {
        let db = open(path).await;
        let refused = weigh_again(&db, "a", 1).await;
        let Err(WriteError::MustImport(why)) = refused else {
            panic!("{because}: {refused:?}");
        };
        assert!(why.contains(because), "{why}");
        assert_eq!(db.gate(), Gate::MustImport(why.clone()));
        assert_eq!(report(&db).await.must_import, Some(why));
        let audited = audited(&db).await;
        assert!(audited.iter().any(|action| action == "marked"));
        let before = before.get_or_insert_with(|| audited.clone());
        assert_eq!(*before, audited, "and once");
        tables(&db).await;
        db.close().await;
    }
}

async fn assert_unmarked(path: &Path) {
    for _ in 0..2 {
        let db = open(path).await;
        assert_eq!(db.gate(), Gate::Open);
        assert_eq!(report(&db).await.must_import, None);
        weigh_many(&db, 1).await;
        assert!(audited(&db).await.is_empty());
        db.close().await;
    }
}

#[tokio::test]
async fn a_fresh_file_is_not_marked_however_often_it_is_opened() {
    let scratch = Scratch::new();
    assert_unmarked(&scratch.path("parcels.db")).await;
}

#[tokio::test]
async fn a_killed_process_leaves_no_mark() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    for _ in 0..3 {
        let db = open(&path).await;
        weigh_many(&db, 1).await;
        kill(db).await;
    }
    assert_unmarked(&path).await;
}

#[tokio::test]
async fn a_copy_is_marked_with_or_without_its_lock_file() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    let copy = scratch.path("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    assert_marked(&copy, "is a copy of the one opened last").await;

    let whole = scratch.path("whole.db");
    std::fs::copy(&path, &whole).unwrap();
    std::fs::copy(beside(&path, ".lock"), beside(&whole, ".lock")).unwrap();
    assert_marked(&whole, "is a copy of the one opened last").await;

    // Moved away and copied back, in the same place and under the same name.
    std::fs::rename(&path, scratch.path("moved.db")).unwrap();
    std::fs::copy(scratch.path("moved.db"), &path).unwrap();
    assert_marked(&path, "is a copy of the one opened last").await;
}

#[tokio::test]
async fn an_older_copy_written_over_the_very_file_is_marked() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    let older = std::fs::read(&path).unwrap();
    let db = open(&path).await;
    weigh_many(&db, 1).await;
    db.close().await;
    std::fs::write(&path, older).unwrap();
    assert_marked(&path, "is older than the one opened last").await;
}

#[tokio::test]
async fn a_file_without_its_lock_file_is_marked() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    std::fs::remove_file(beside(&path, ".lock")).unwrap();
    assert_marked(&path, "came without its lock file").await;
}

#[tokio::test]
async fn a_file_moved_with_its_folder_or_its_lock_file_is_not_marked() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    std::fs::rename(scratch.path("home"), scratch.path("elsewhere")).unwrap();
    let moved = scratch.path("elsewhere/parcels.db");
    assert_unmarked(&moved).await;
    let renamed = scratch.path("elsewhere/packets.db");
    std::fs::rename(&moved, &renamed).unwrap();
    std::fs::rename(beside(&moved, ".lock"), beside(&renamed, ".lock")).unwrap();
    assert_unmarked(&renamed).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_new_file_where_another_was_is_marked() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    std::fs::remove_file(&path).unwrap();
    assert_marked(&path, "the database that was here is gone").await;
}

#[tokio::test]
async fn a_backup_is_born_marked_and_so_is_every_copy_of_it_and_what_is_restored() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    let copy = scratch.path("backup.db");
    backup(&path, &options(), &copy).unwrap();
    assert_unmarked(&path).await; // the original is not touched
    let again = scratch.path("again.db");
    std::fs::copy(&copy, &again).unwrap();
    restore(&copy, &options(), &path).unwrap();
    assert_marked(&path, "it is a backup").await;
    assert_marked(&again, "it is a backup").await;
    assert_marked(&copy, "it is a backup").await;

    // A plain copy that nothing has marked yet is, once it is restored.
    let db = Database::open(&path, unmarked()).await.unwrap();
    assert_eq!(db.gate(), Gate::Open);
    db.close().await;
    std::fs::copy(&path, scratch.path("plain.db")).unwrap();
    restore(&scratch.path("plain.db"), &options(), &path).unwrap();
    assert_marked(&path, "restored from a backup").await;
}

#[tokio::test(start_paused = true)]
async fn a_contact_clears_the_mark_for_good() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    let (db, broker) = (open(&path).await, MemoryBroker::new(1));
    let log = outbox_rows(&db).await;
    meet(&db, &broker).await;
    db.close().await;
    std::fs::copy(&path, scratch.path("copy.db")).unwrap();
    assert_marked(&scratch.path("copy.db"), "is a copy").await;
    let db = open(&scratch.path("copy.db")).await;
    assert_eq!(meet(&db, &broker).await, [Case::Equal]);
    assert_one_log(&db, &broker, &log).await;
    assert_eq!(audited(&db).await, ["marked", "mark cleared"]);
    db.close().await;
    let db = open(&scratch.path("copy.db")).await;
    assert_eq!(db.gate(), Gate::Open);
    weigh_many(&db, 1).await;
}

#[tokio::test]
async fn a_person_can_open_a_marked_file_without_its_stream_and_that_is_written_down() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    std::fs::copy(&path, scratch.path("copy.db")).unwrap();
    let db = Database::open(scratch.path("copy.db"), unmarked())
        .await
        .unwrap();
    assert_eq!(db.gate(), Gate::Open);
    weigh_many(&db, 1).await;
    assert_eq!(audited(&db).await, ["marked", "mark cleared"]);
    let why = &report(&db).await.audit[0].detail;
    assert!(why.contains("the operator decided"), "{why}");
    db.close().await;
    let db = open(&scratch.path("copy.db")).await;
    assert_eq!(db.gate(), Gate::Open);
    drop(db);

    // Where there is no mark there is nothing to write down.
    let db = Database::open(&path, unmarked()).await.unwrap();
    assert!(audited(&db).await.is_empty());
}

/// The word is drawn anew at each opening: first the lock file knows both, then the file the new one, then the lock
/// file only that. Here it does not come to the second, because another process holds the file.
#[tokio::test]
async fn an_opening_that_fails_while_the_word_changes_is_no_false_alarm() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    let before = std::fs::read(beside(&path, ".lock")).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let refused = Database::open(&path, options()).await;
    assert!(refused.is_err(), "the file is held");
    assert_ne!(
        std::fs::read(beside(&path, ".lock")).unwrap(),
        before,
        "it came as far as the lock"
    );
    other.execute_batch("rollback").unwrap();
    drop(other);
    assert_unmarked(&path).await;
}

#[tokio::test]
async fn a_kill_while_the_word_changes_is_no_false_alarm() {
    let scratch = Scratch::new();
    let path = written(&scratch).await;
    let before = Image::take(&path);
    open(&path).await.close().await;
    let after = Image::take(&path);
    let lock = |image: &Image| {
        let words = std::str::from_utf8(image.lock()).unwrap().to_owned();
        let words: Vec<_> = words
            .lines()
            .filter(|line| line.starts_with("nonce "))
            .collect();
        assert_eq!(words.len(), 1, "{words:?}");
        words[0].to_owned()
    };
    assert_ne!(
        lock(&before),
        lock(&after),
        "each opening has a word of its own"
    );
    let both = format!("process 1\n{}\n{}\n", lock(&before), lock(&after));
    for file in [&before, &after] {
        file.write_over(&path);
        std::fs::write(beside(&path, ".lock"), &both).unwrap();
        let db = open(&path).await;
        assert_eq!(db.gate(), Gate::Open);
        db.close().await;
    }
    // And the words do tell one from the other.
    before.write_over(&path);
    std::fs::write(beside(&path, ".lock"), after.lock()).unwrap();
    assert_marked(&path, "is older than the one opened last").await;
}

/// A file of the library's first version, with events in it.
fn version_1(path: &Path, events: u64) -> Vec<Vec<u8>> {
    let rows = Connection::open(path).unwrap();
    rows.execute_batch(include_str!("../../src/schema/0001_log.sql"))
        .unwrap();
    rows.execute_batch(crate::support::MIGRATIONS[0]).unwrap();
    rows.execute_batch("pragma application_id = 1179797572; pragma user_version = 1")
        .unwrap();
    let id = "00000000-0000-4000-8000-000000000007";
    let sql = "insert into relay_identity values (1, 1, 'parcel-service', 'PARCELS', ?1, 1)";
    rows.execute(sql, [id]).unwrap();
    let (mut log, mut prev) = (Vec::new(), None);
    for seq in 1..=events {
        let id = EventId::draw(&System);
        let data = format!(r#"{{"parcel":"a","weight_g":{seq},"version":{seq}}}"#);
        let bytes = Envelope {
            specversion: "1.0".into(),
            id,
            source: "/parcels".into(),
            event_type: "parcels.weighed.v1".into(),
            subject: "a".into(),
            time: "2026-01-01T00:00:00Z".into(),
            sequence: seq,
            prev,
            epoch: 1,
            datacontenttype: "application/json".into(),
            dataschema: "urn:freehold:schema:parcels.weighed.v1".into(),
            traceparent: None,
            requestid: None,
            cause: None,
            sealedkey: None,
            sealed: None,
            data: serde_json::from_str(&data).unwrap(),
        }
        .to_bytes();
        let sql = "insert into relay_outbox values (?1, ?2, 'parcels.weighed', ?3, 0)";
        rows.execute(sql, params![seq, id, bytes]).unwrap();
        prev = Some(id);
        log.push(bytes);
    }
    let sql = "insert into relay_head values (1, ?1, ?2)";
    rows.execute(sql, params![events, prev]).unwrap();
    rows.execute("insert into parcels values ('a', ?1)", [events])
        .unwrap();
    let sql = "insert into totals values ('a', ?1, ?1, ?2)";
    rows.execute(sql, params![events, events * (events + 1) / 2])
        .unwrap();
    log
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_first_version_is_upgraded_with_all_it_holds_and_is_not_marked() {
    let scratch = Scratch::new();
    let path = scratch.path("parcels.db");
    let log = version_1(&path, 4);
    let (db, broker) = (open(&path).await, MemoryBroker::new(1));
    assert_eq!(db.gate(), Gate::Open);
    assert_eq!(db.outbox().committed(), 4);
    let bytes: Vec<_> = outbox_rows(&db)
        .await
        .into_iter()
        .map(|row| row.bytes.to_vec())
        .collect();
    assert_eq!(bytes, log);
    weigh_many(&db, 1).await;
    let log = outbox_rows(&db).await;
    meet(&db, &broker).await;
    assert_one_log(&db, &broker, &log).await;
    db.close().await;

    // From now on it is known, and a copy of it is a copy.
    std::fs::copy(&path, scratch.path("copy.db")).unwrap();
    assert_marked(&scratch.path("copy.db"), "is a copy").await;
    let db = open(&path).await;
    assert_eq!(db.gate(), Gate::Open);
}
