//! The database: who may open it, and what a write that fails does to its neighbours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use relay::database::Gate;
use relay::error::{OpenError, Refusal};
use relay::log::{Line, Producer};
use relay::publish::Answers;
use relay::testing::memory::MemoryBroker;
use relay::{Database, EmitError, Options, Relay, WriteError};

use crate::support::{
    MIGRATIONS, Scratch, applied, beside, catch_up, count, history, kill, meet, options, origin,
    outbox_rows, owned, publish, settle, share, store_and_emit, tables, unmarked, weigh,
    weigh_many, weighed,
};

#[tokio::test]
async fn a_file_opens_again_after_close_with_what_was_written() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let before = origin(&db).await;
    weigh(&db, "a", 1, 1).await;
    db.close().await;
    assert!(
        !scratch.path("parcels.db-wal").exists(),
        "a clean close leaves no WAL"
    );

    let again = scratch.producer().await;
    assert_eq!(origin(&again).await, before);
    assert_eq!(again.outbox().committed(), 1);
    assert_eq!(count(&again, "parcels").await, 1);
}

#[tokio::test]
async fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let scratch = Scratch::new();
    let first = scratch.producer().await;
    let refused = Database::open(scratch.path("parcels.db"), options()).await;
    let Err(OpenError {
        why: Refusal::InUse { holder, .. },
        ..
    }) = refused
    else {
        panic!("two owners of one file");
    };
    assert_eq!(holder, format!("process {}", std::process::id()));
    first.close().await;
    scratch.producer().await;
}

#[tokio::test]
async fn another_services_file_is_refused_and_not_a_byte_of_it_changes() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    weigh(&db, "a", 1, 1).await;
    db.close().await;
    let before = std::fs::read(scratch.path("parcels.db")).unwrap();

    let options = Options::new("scale-service", "SCALES", MIGRATIONS);
    let refused = Database::open(scratch.path("parcels.db"), options).await;
    assert!(
        matches!(refused, Err(OpenError { why: Refusal::OtherService { owner, .. }, .. }) if owner == "parcel-service")
    );
    assert_eq!(std::fs::read(scratch.path("parcels.db")).unwrap(), before);
    for beside in ["parcels.db-wal", "parcels.db-shm"] {
        assert!(!scratch.path(beside).exists(), "{beside} was left there");
    }
}

#[tokio::test]
async fn files_that_are_no_freehold_database_are_refused_untouched() {
    let scratch = Scratch::new();
    std::fs::write(
        scratch.path("parcels.db"),
        "a letter to my aunt, long enough to be a file. ".repeat(100),
    )
    .unwrap();
    let refused = Database::open(scratch.path("parcels.db"), options()).await;
    assert!(matches!(
        refused,
        Err(OpenError {
            why: Refusal::NotOurs,
            ..
        })
    ));

    let path = scratch.path("foreign.db");
    relay::rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("create table t (x)")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = Database::open(&path, options()).await;
    assert!(matches!(
        refused,
        Err(OpenError {
            why: Refusal::NotOurs,
            ..
        })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_whose_creation_was_killed_half_way_has_no_key_in_use_and_is_created() {
    let scratch = Scratch::new();
    let path = scratch.path("parcels.db");
    let rows = relay::rusqlite::Connection::open(&path).unwrap();
    rows.execute_batch("pragma user_version = 0; pragma journal_mode = wal")
        .unwrap();
    drop(rows);
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
    assert_eq!(
        relay::database::key_in_use(&path, &options()).unwrap(),
        None
    );
    weigh(&scratch.producer().await, "a", 1, 1).await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let scratch = Scratch::new();
    scratch.producer().await.close().await;
    let older = Options::new("parcel-service", "PARCELS", &[]);
    let refused = Database::open(scratch.path("parcels.db"), older).await;
    assert!(matches!(
        refused,
        Err(OpenError {
            why: Refusal::NewerSchema {
                found: 1,
                known: 0,
                ..
            },
            ..
        })
    ));
}

#[tokio::test]
async fn a_path_that_cannot_be_a_database_is_named_with_the_cure_and_left_alone() {
    let scratch = Scratch::new();
    let folder = scratch.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let refused = Database::open(&folder, options()).await;
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("it must be a file"), "{message}");
    assert!(!scratch.path("folder.lock").exists());

    let refused = Database::open("/no/such/place/parcels.db", options()).await;
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("directory that exists"), "{message}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_after_an_unclean_close() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    for index in 0..200 {
        weigh(&db, &format!("parcel-{index}"), 1, 1).await;
    }
    db.close().await;
    let path = scratch.path("parcels.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let page = bytes.len() / 2 / 4096 * 4096;
    bytes[page..page + 512].fill(0xA5);
    std::fs::write(&path, &bytes).unwrap();
    // What a killed process leaves: a WAL (here one without a valid frame).
    std::fs::write(scratch.path("parcels.db-wal"), [0; 64]).unwrap();

    let refused = Database::open(&path, options()).await;
    assert!(
        matches!(
            refused,
            Err(OpenError {
                why: Refusal::Damaged { .. },
                ..
            })
        ),
        "{:?}",
        refused.err()
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_write_that_fails_or_panics_is_undone_alone() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let insert = |id: &'static str| {
        move |tx: &relay::Tx<'_>| tx.execute("insert into parcels values (?1, 5)", [id])
    };
    let (good, bad, worse, fine) = tokio::join!(
        db.write(insert("a")),
        db.write(move |tx| {
            insert("b")(tx).unwrap();
            Err::<(), _>("no")
        }),
        db.write(move |tx| -> Result<(), ()> {
            insert("c")(tx).unwrap();
            panic!("on purpose")
        }),
        db.write(insert("d")),
    );
    assert_eq!((good.unwrap(), fine.unwrap()), (1, 1));
    assert!(matches!(bad, Err(WriteError::Work("no"))));
    assert!(matches!(worse, Err(WriteError::Panicked(said)) if said == "on purpose"));
    let read = db.read(|rows| {
        let mut ids = rows.prepare("select id from parcels order by id")?;
        ids.query_map([], |row| row.get::<_, String>(0))?
            .collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(read.await.unwrap(), ["a", "d"]);
}

#[tokio::test]
async fn a_panic_inside_a_savepoint_undoes_that_savepoint_and_nothing_else() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    db.write(|tx| {
        let weigh = |parcel: &str| store_and_emit(tx, &weighed(parcel, 1, 1));
        let panics = |parcel: &'static str| {
            let inner = || {
                tx.savepoint(|| -> Result<(), EmitError> {
                    weigh(parcel)?;
                    panic!("on purpose")
                })
            };
            catch_unwind(AssertUnwindSafe(inner)).expect_err("it panics");
        };
        weigh("first")?;
        panics("a");
        // Undone after a panic inside it: with what came before the panic, too.
        let undone = tx.savepoint(|| -> Result<(), EmitError> {
            weigh("b")?;
            panics("c");
            weigh("d")?;
            Err(EmitError::Outbox(relay::rusqlite::Error::InvalidQuery))
        });
        undone.expect_err("it was refused");
        // Kept, with a panic inside it.
        tx.savepoint(|| {
            panics("e");
            weigh("second")
        })
    })
    .await
    .unwrap();
    assert_eq!(tables(&db).await[..2], ["first 1", "second 1"]);
    assert_eq!(outbox_rows(&db).await.len(), 2);

    // A write that lets the panic through is undone, and its neighbours are not.
    let worse = db.write(|tx| {
        tx.savepoint(|| -> Result<(), EmitError> {
            store_and_emit(tx, &weighed("worse", 1, 1))?;
            panic!("on purpose")
        })
    });
    let (worse, _) = tokio::join!(worse, weigh(&db, "third", 1, 1));
    assert!(matches!(worse, Err(WriteError::Panicked(_))), "{worse:?}");
    assert_eq!(outbox_rows(&db).await.len(), 3);
}

#[tokio::test]
async fn work_that_ends_the_transaction_itself_fails_and_harms_only_its_group() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let rude = db.write(|tx| tx.execute_batch("commit")).await;
    assert!(matches!(rude, Err(WriteError::Failed(_))), "{rude:?}");
    weigh(&db, "a", 1, 1).await;
    assert_eq!(db.outbox().committed(), 1);
}

#[tokio::test]
async fn a_file_that_another_program_has_locked_is_busy_and_works_again_afterwards() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let other = relay::rusqlite::Connection::open(scratch.path("parcels.db")).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let busy = db.write(|_| Ok::<_, ()>(())).await;
    assert!(matches!(busy, Err(WriteError::Busy(_))), "{busy:?}");
    other.execute_batch("rollback").unwrap();
    weigh(&db, "a", 1, 1).await;
}

#[tokio::test]
async fn a_read_that_panics_leaves_the_pool_whole_and_cannot_write() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    for _ in 0..10 {
        let read = db
            .read(|_| -> Result<(), ()> { panic!("on purpose") })
            .await;
        assert!(matches!(read, Err(relay::error::ReadError::Panicked(_))));
    }
    let write = db
        .read(|rows| rows.execute("delete from parcels", []))
        .await;
    assert!(write.is_err(), "a reader wrote");
    assert_eq!(count(&db, "parcels").await, 0);
}

#[tokio::test]
async fn past_the_bound_of_the_queue_callers_hear_busy() {
    let scratch = Scratch::new();
    let options = Options {
        max_queue: 1,
        max_group: 1,
        max_wait: Duration::from_millis(20),
        ..options()
    };
    let db = Database::open(scratch.path("parcels.db"), options)
        .await
        .unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begun, started) = tokio::sync::oneshot::channel();
    let slow = tokio::spawn({
        let db = db.clone();
        async move {
            db.write(move |_| {
                begun.send(()).unwrap();
                held.recv().map_err(|_| ())
            })
            .await
        }
    });
    started.await.unwrap();
    let waiting = db.write(|_| Ok::<_, ()>(()));
    tokio::pin!(waiting);
    assert!(futures::poll!(&mut waiting).is_pending()); // one write is under way, one waits: the queue is full
    let third = db.write(|_| Ok::<_, ()>(())).await;
    assert!(matches!(third, Err(WriteError::Busy(_))), "{third:?}");
    release.send(()).unwrap();
    slow.await.unwrap().unwrap();
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_undo_its_write() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    {
        let write =
            db.write(|tx| crate::support::store_and_emit(tx, &crate::support::weighed("a", 1, 1)));
        tokio::pin!(write);
        let _ = futures::poll!(&mut write); // it is in the queue; now its caller goes
    }
    let arrived = weigh(&db, "b", 1, 1).await;
    assert_eq!(arrived, 2, "the abandoned write took place 1");
}

#[tokio::test]
async fn halted_writes_say_why_and_reads_go_on() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    db.halt("a rival was seen");
    let refused = db.write(|_| Ok::<_, ()>(())).await;
    assert!(matches!(refused, Err(WriteError::Halted(why)) if why == "a rival was seen"));
    assert_eq!(count(&db, "parcels").await, 0);
}

#[tokio::test]
async fn closing_finishes_what_waits() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let mut writes: Vec<_> = (0..50)
        .map(|index| {
            Box::pin(async move |db: Database| weigh(&db, &format!("parcel-{index}"), 1, 1).await)
        })
        .map(|write| {
            let db = db.clone();
            Box::pin(async move { write(db).await })
        })
        .collect();
    for write in &mut writes {
        assert!(futures::poll!(write).is_pending()); // each is in the queue, none has an answer
    }
    db.close().await;
    for write in writes {
        assert!((1..=50).contains(&write.await));
    }
    assert!(matches!(
        db.write(|_| Ok::<_, ()>(())).await,
        Err(WriteError::Closed)
    ));
    assert_eq!(scratch.producer().await.outbox().committed(), 50);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_does_not_lead_around_the_lock() {
    let scratch = Scratch::new();
    let owner = scratch.producer().await;
    std::os::unix::fs::symlink(scratch.path("parcels.db"), scratch.path("link.db")).unwrap();
    let refused = Database::open(scratch.path("link.db"), options()).await;
    assert!(
        matches!(
            refused,
            Err(OpenError {
                why: Refusal::InUse { .. },
                ..
            })
        ),
        "{:?}",
        refused.err()
    );
    assert!(!scratch.path("link.db.lock").exists());
    owner.close().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_a_file_that_does_not_exist_yet_does_not_lead_around_the_lock() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("volume")).unwrap();
    let link = scratch.path("link.db");
    std::os::unix::fs::symlink("middle.db", &link).unwrap();
    std::os::unix::fs::symlink("volume/parcels.db", scratch.path("middle.db")).unwrap();
    let owner = Database::open(&link, options()).await.unwrap();
    assert_eq!(
        owner.path(),
        scratch.path("volume/parcels.db").canonicalize().unwrap()
    );
    for path in [link, scratch.path("volume/parcels.db")] {
        let refused = Database::open(path, options()).await;
        assert!(matches!(
            refused,
            Err(OpenError {
                why: Refusal::InUse { .. },
                ..
            })
        ));
    }
    owner.close().await;
}

#[cfg(target_os = "linux")] // elsewhere this lock and SQLite's own would be one
#[tokio::test]
async fn a_file_keeps_its_lock_when_its_lock_file_is_deleted_or_its_name_changes() {
    let scratch = Scratch::new();
    let owner = scratch.producer().await;
    let path = owner.path().to_owned();
    std::fs::remove_file(beside(&path, ".lock")).unwrap();
    let refused = Database::open(&path, options()).await;
    assert!(matches!(
        refused,
        Err(OpenError {
            why: Refusal::InUse { .. },
            ..
        })
    ));
    let moved = scratch.path("moved.db");
    std::fs::rename(&path, &moved).unwrap();
    let refused = Database::open(&moved, options()).await;
    assert!(matches!(
        refused,
        Err(OpenError {
            why: Refusal::InUse { .. },
            ..
        })
    ));
    std::fs::rename(&moved, &path).unwrap();
    owner.close().await;
}

#[tokio::test]
async fn a_file_with_a_second_name_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let owner = scratch.producer().await;
    weigh(&owner, "a", 1, 1).await;
    let second = scratch.path("second.db");
    std::fs::hard_link(owner.path(), &second).unwrap();
    let refused = Database::open(&second, options()).await;
    let message = refused.err().expect("it has two names").to_string();
    assert!(message.contains("2 names"), "{message}");
    for stray in [".lock", "-wal", "-shm"] {
        assert!(!beside(&second, stray).exists(), "{stray}");
    }
    weigh(&owner, "b", 1, 1).await;
    owner.close().await;
    std::fs::remove_file(second).unwrap();
    assert_eq!(count(&scratch.producer().await, "parcels").await, 2);
}

#[tokio::test]
async fn a_file_that_is_replaced_or_deleted_while_it_is_open_takes_no_more_writes() {
    let scratch = Scratch::new();
    for replace in [true, false] {
        let db = scratch.producer().await;
        weigh_many(&db, 1).await;
        let (path, other) = (db.path().to_owned(), scratch.path("other.db"));
        match replace {
            true => {
                std::fs::write(&other, "another file").unwrap();
                std::fs::rename(&other, &path).unwrap();
            }
            false => std::fs::remove_file(&path).unwrap(),
        }
        // A consumer's writes would be lost with the file, too.
        let refused = db.write(|_| Ok::<_, ()>(())).await;
        let Err(WriteError::Halted(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(
            why.contains(if replace { "replaced" } else { "gone" }),
            "{why}"
        );
        assert!(matches!(db.gate(), Gate::Halted(_)));
        db.close().await;
        for stray in ["", "-wal", "-shm", ".lock"] {
            let _none = std::fs::remove_file(beside(&path, stray));
        }
    }
}

#[tokio::test]
async fn a_replaced_file_is_noticed_although_nothing_is_written() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    std::fs::write(scratch.path("other.db"), "another file").unwrap();
    std::fs::rename(scratch.path("other.db"), db.path()).unwrap();
    let halted = async {
        while db.gate() == Gate::Open {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let noticed = tokio::time::timeout(Duration::from_secs(30), halted).await;
    noticed.expect("it is noticed");
}

/// A connection by the path's name would find another file there, or none, beside the WAL of the one that is open.
#[tokio::test]
async fn a_file_that_is_moved_or_replaced_while_it_is_open_keeps_its_wal_whoever_reads() {
    for replace in [true, false] {
        let scratch = Scratch::new();
        let db = scratch.producer().await;
        meet(&db, &MemoryBroker::new(1)).await;
        weigh_many(&db, 3).await;
        let (path, moved) = (db.path().to_owned(), scratch.path("moved.db"));
        let other = scratch.path("other.db");
        if replace {
            let copy = Database::open(&other, options()).await.unwrap();
            weigh_many(&copy, 1).await;
            copy.close().await;
        }
        let wal = std::fs::read(beside(&path, "-wal")).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        if replace {
            std::fs::rename(&other, &path).unwrap();
        }
        let before = std::fs::read(&path).ok();

        let mut lines = Answers::new(&db, share).snapshot(None).await.unwrap();
        let first = lines.recv().await.expect("it answers").unwrap();
        assert!(
            matches!(&first, Line::Position { at: Some(at), .. } if at.seq == 3),
            "it is of the open file: {first:?}"
        );
        assert_eq!(count(&db.with_own_reader(), "parcels").await, 3);
        assert_eq!(std::fs::read(beside(&path, "-wal")).unwrap(), wal);
        db.close().await;
        assert_eq!(std::fs::read(&path).ok(), before);
        assert_eq!(std::fs::read(beside(&path, "-wal")).unwrap(), wal);

        std::fs::rename(&moved, &path).unwrap();
        assert_eq!(count(&scratch.producer().await, "parcels").await, 3);
    }
}

#[tokio::test]
async fn closing_interrupts_a_snapshot_that_is_being_read() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    meet(&db, &MemoryBroker::new(1)).await;
    weigh_many(&db, 3).await;
    let endless = |rows: &relay::rusqlite::Connection, _: &mut relay::log::Sink<'_>| {
        let sql = "with recursive n (i) as (values (1) union all select i + 1 from n) select count(*) from n";
        rows.query_row(sql, [], |_| Ok(()))
    };
    let mut lines = Answers::new(&db, endless).snapshot(None).await.unwrap();
    lines.recv().await.expect("it begins").unwrap();
    db.close().await;
    lines.recv().await.expect("it ends").unwrap_err();
    assert!(
        !beside(db.path(), "-wal").exists(),
        "it outlived the database"
    );
}

/// As an operator does who has forgotten what SQLite keeps beside a file.
#[tokio::test]
async fn a_backup_copied_over_a_killed_file_does_not_take_in_the_wal_that_lies_there() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let path = db.path().to_owned();
    weigh_many(&db, 3).await;
    let backup = scratch.path("backup.db");
    relay::operate::backup(&path, &options(), &backup).unwrap();
    let expected = tables(&db).await;
    // The WAL is of the same file and of the same salts, so that SQLite would take it in.
    weigh_many(&db, 40).await;
    kill(db).await;
    let wal = std::fs::read(beside(&path, "-wal")).unwrap();
    assert!(!wal.is_empty());
    std::fs::copy(&backup, &path).unwrap();

    let db = Database::open(&path, unmarked()).await.unwrap();
    assert_eq!(tables(&db).await, expected);
    assert_eq!(outbox_rows(&db).await.len(), 3);
    let kept = scratch.dir.path().read_dir().unwrap().find_map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name()?.to_str()?;
        name.starts_with("parcels.db-wal.stale-").then_some(path)
    });
    assert_eq!(std::fs::read(kept.expect("it is kept")).unwrap(), wal);
    weigh_many(&db, 1).await;
    db.close().await;
    assert_eq!(outbox_rows(&scratch.producer().await).await.len(), 4);
}

/// Every reader of the application is busy, for as long as the sender lives.
async fn hold_all_readers(db: &Database) -> Vec<mpsc::Sender<()>> {
    let mut held = Vec::new();
    for _ in 0..options().readers {
        let (release, wait) = mpsc::channel::<()>();
        let (begun, started) = tokio::sync::oneshot::channel();
        let db = db.clone();
        tokio::spawn(async move {
            let slow = db.read(move |_| {
                begun.send(()).unwrap();
                wait.recv().map_err(|_| ())
            });
            slow.await
        });
        started.await.unwrap();
        held.push(release);
    }
    held
}

#[tokio::test]
async fn slow_reads_of_the_application_stop_neither_publishing_nor_applying() {
    let scratch = Scratch::new();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    let held = (
        hold_all_readers(&producer).await,
        hold_all_readers(&reader).await,
    );
    weigh(&producer, "a", 1, 1).await;
    let flows = async {
        settle(&mut Relay::new(&producer, broker.clone())).await;
        assert_eq!(broker.records().len(), 1);
        weigh(&producer, "b", 1, 1).await;
        publish(&producer, &broker).await;
        catch_up(&history(), &reader, &broker).await;
    };
    let flowed = tokio::time::timeout(Duration::from_secs(20), flows).await;
    flowed.expect("nothing waits for the application's reads");
    drop(held);
    assert_eq!(applied(&reader).await, [(1, "a"), (2, "b")].map(owned));
    producer.close().await;
    reader.close().await;
    for file in ["parcels.db", "scales.db"] {
        let wal = beside(&scratch.path(file), "-wal");
        assert!(!wal.exists(), "a reader outlived the database");
    }
}

#[tokio::test]
async fn a_read_whose_caller_gave_up_does_not_hold_up_the_next() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let slow = db.read(move |_| held.recv().map_err(|_| ()));
    {
        tokio::pin!(slow);
        assert!(futures::poll!(&mut slow).is_pending());
    }
    // Were the busy connection taken for an idle one, this would wait for ever.
    for _ in 0..8 {
        assert_eq!(count(&db, "parcels").await, 0);
    }
    release.send(()).unwrap();
    db.close().await;
}
