//! The database: who may open it, and what a write that fails does to its neighbours.

use std::time::Duration;

use relay::{Database, OpenError, Options, WriteError};

use crate::support::{MIGRATIONS, Scratch, count, options, origin, weigh};

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
    let Err(OpenError::InUse { holder, .. }) = refused else {
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
        matches!(refused, Err(OpenError::OtherService { owner, .. }) if owner == "parcel-service")
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
    assert!(matches!(refused, Err(OpenError::NotOurs { .. })));

    let path = scratch.path("foreign.db");
    relay::rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("create table t (x)")
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    let refused = Database::open(&path, options()).await;
    assert!(matches!(refused, Err(OpenError::NotOurs { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let scratch = Scratch::new();
    scratch.producer().await.close().await;
    let older = Options::new("parcel-service", "PARCELS", &[]);
    let refused = Database::open(scratch.path("parcels.db"), older).await;
    assert!(matches!(
        refused,
        Err(OpenError::NewerSchema {
            found: 1,
            known: 0,
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
        matches!(refused, Err(OpenError::Damaged { .. })),
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
    assert!(matches!(busy, Err(WriteError::Busy)), "{busy:?}");
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
        assert!(matches!(read, Err(relay::ReadError::Panicked(_))));
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
    assert!(matches!(third, Err(WriteError::Busy)), "{third:?}");
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
        matches!(refused, Err(OpenError::InUse { .. })),
        "{:?}",
        refused.err()
    );
    assert!(!scratch.path("link.db.lock").exists());
    owner.close().await;
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
