//! Backups: taken while the service works, checked before they are trusted, put back without losing what was there.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use relay::error::{OpenError, Refusal};
use relay::operate::{BackupError, Manifest, backup, check_backup, restore};
use relay::publish::Case;
use relay::rusqlite::{Connection, OpenFlags};
use relay::testing::memory::MemoryBroker;
use relay::{Database, Options};

use crate::support::{
    Image, MIGRATIONS, Scratch, assert_one_log, beside, kill, meet, options, outbox_rows, tables,
    tables_from, unmarked, weigh_again, weigh_many,
};

/// A service with three events, and a backup of it.
async fn with_backup() -> (Scratch, Database, PathBuf, Manifest) {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    weigh_many(&db, 3).await;
    let to = scratch.path("backup.db");
    let manifest = backup(db.path(), &options(), &to).unwrap();
    (scratch, db, to, manifest)
}

fn manifest_of(backup: &Path) -> PathBuf {
    beside(backup, ".manifest.json")
}

/// The last event in a file, read by nothing but SQLite.
fn last_event(path: &Path) -> u64 {
    let rows = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let sql = "select max(seq) from relay_outbox";
    rows.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_backup_of_a_service_at_work_is_of_one_moment() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    weigh_many(&db, 1).await;
    let writing = tokio::spawn({
        let db = db.clone();
        async move {
            loop {
                weigh_many(&db, 1).await;
            }
        }
    });
    let mut last = 0;
    for index in 0..5 {
        let (path, to) = (
            db.path().to_owned(),
            scratch.path(&format!("backup-{index}.db")),
        );
        let taken = to.clone();
        let taking = tokio::task::spawn_blocking(move || backup(&path, &options(), &taken));
        let manifest = taking.await.unwrap().unwrap();
        assert_eq!(check_backup(&to, &options()).unwrap(), manifest);
        let copy = Database::open(&to, unmarked()).await.unwrap();
        let log = outbox_rows(&copy).await;
        assert_eq!(log.len() as u64, manifest.seq);
        assert_eq!(
            log.last().unwrap().event_id().map(|id| id.to_string()),
            manifest.event_id
        );
        assert_eq!(
            tables(&copy).await,
            tables_from(&log).await,
            "state and log are of one moment"
        );
        assert!(manifest.seq > last, "nothing was written meanwhile");
        last = manifest.seq;
        assert!(outbox_rows(&db).await.starts_with(&log));
    }
    writing.abort();
}

#[tokio::test]
async fn a_backup_says_what_it_holds_and_never_takes_anothers_place() {
    let (scratch, db, to, manifest) = with_backup().await;
    let file = std::fs::read(&to).unwrap();
    assert_eq!(
        (manifest.service.as_str(), manifest.stream.as_str()),
        ("parcel-service", "PARCELS")
    );
    assert_eq!((manifest.seq, manifest.epoch), (3, 1));
    assert_eq!(manifest.bytes, file.len() as u64);
    let written: Manifest =
        serde_json::from_slice(&std::fs::read(manifest_of(&to)).unwrap()).unwrap();
    assert_eq!(written, manifest);
    let copies = scratch.path(".").read_dir().unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("backup.db")
    });
    assert_eq!(copies.count(), 2, "the backup and its manifest");

    weigh_many(&db, 1).await;
    let refused = backup(db.path(), &options(), &to);
    assert!(matches!(refused, Err(BackupError::Exists(path)) if path == to));
    assert_eq!(std::fs::read(&to).unwrap(), file);
    let missing = backup(
        &scratch.path("nothing.db"),
        &options(),
        &scratch.path("b.db"),
    );
    assert!(matches!(missing, Err(BackupError::NoDatabase(_))));
    assert!(!scratch.path("b.db").exists());
}

#[tokio::test]
async fn a_backup_replaces_no_file_and_follows_no_link() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    weigh_many(&db, 3).await;
    let (to, mine) = (scratch.path("backup.db"), scratch.path("mine"));
    let (manifest, nothing) = (manifest_of(&to), scratch.path("nothing yet"));
    std::fs::write(&mine, "mine").unwrap();
    let refused = |taken: &Path| {
        let took = backup(db.path(), &options(), &to);
        assert!(matches!(took, Err(BackupError::Exists(path)) if path == taken));
        std::fs::remove_file(taken).unwrap();
    };
    let links = [
        (&to, &mine),
        (&to, &nothing),
        (&manifest, &mine),
        (&manifest, &nothing),
    ];
    for (link, target) in links {
        std::os::unix::fs::symlink(target, link).unwrap();
        refused(link);
    }
    for file in [&to, &manifest] {
        std::fs::copy(&mine, file).unwrap();
        refused(file);
    }
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine");
    assert!(!nothing.exists());
    let partial = beside(&to, ".partial");
    std::fs::write(&partial, "mine").unwrap();
    backup(db.path(), &options(), &to).unwrap();
    assert_eq!(std::fs::read_to_string(&partial).unwrap(), "mine");
}

#[tokio::test]
async fn a_database_that_others_could_open_is_closed_to_them() {
    let (scratch, db, to, _) = with_backup().await;
    let path = db.path().to_owned();
    db.close().await;
    let open = || std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    open();
    let db = Database::open(&path, options()).await.unwrap();
    weigh_many(&db, 1).await;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&beside(&path, suffix)), 0o600, "{suffix}");
    }
    db.close().await;
    open();
    let restored = restore(&to, &options(), &path).unwrap();
    assert_eq!(mode(&restored.previous.unwrap()), 0o600);
    drop(scratch);
}

#[tokio::test]
async fn a_backup_with_any_part_changed_is_refused_and_nothing_is_put_back() {
    let (scratch, db, to, _) = with_backup().await;
    db.close().await;
    let (file, target) = (std::fs::read(&to).unwrap(), scratch.path("parcels.db"));
    let before = std::fs::read(&target).unwrap();
    let refused = |what: &str| {
        check_backup(&to, &options()).expect_err(what);
        restore(&to, &options(), &target).expect_err(what);
        assert_eq!(std::fs::read(&target).unwrap(), before, "{what}");
    };
    for at in (0..file.len()).step_by(991) {
        let mut flipped = file.clone();
        flipped[at] ^= 1;
        std::fs::write(&to, flipped).unwrap();
        refused(&format!("bit {at}"));
    }
    std::fs::write(&to, &file[..file.len() - 4096]).unwrap();
    refused("cut off");
    std::fs::write(&to, &file).unwrap();

    let text = std::fs::read_to_string(manifest_of(&to)).unwrap();
    for (from, into) in [
        ("\"seq\": 3", "\"seq\": 2"),
        ("parcel-service", "pallet-service"),
        ("{", ""),
    ] {
        let altered = text.replacen(from, into, 1);
        assert_ne!(altered, text);
        std::fs::write(manifest_of(&to), altered).unwrap();
        refused(into);
    }
    std::fs::remove_file(manifest_of(&to)).unwrap();
    restore(&to, &options(), &target).expect("a whole copy will do without its manifest");
}

/// Damage that no manifest tells of.
#[tokio::test]
async fn a_copy_whose_log_or_references_are_broken_is_refused() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    weigh_many(&db, 5).await;
    db.close().await;
    let (path, copy) = (scratch.path("parcels.db"), scratch.path("copy.db"));
    for sql in [
        "delete from relay_outbox where seq = 3",
        "create table r (x references parcels); insert into r values ('missing')",
    ] {
        std::fs::copy(&path, &copy).unwrap();
        let rows = Connection::open(&copy).unwrap();
        rows.execute_batch(&format!("pragma foreign_keys = off; {sql}"))
            .unwrap();
        drop(rows);
        let refused = check_backup(&copy, &options());
        assert!(
            matches!(refused, Err(BackupError::Damaged { .. })),
            "{sql}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn another_services_backup_is_refused() {
    let (scratch, db, to, _) = with_backup().await;
    drop(db);
    let other = Options::new("scale-service", "SCALES", MIGRATIONS);
    for refused in [
        restore(&to, &other, &scratch.path("scales.db")).map(drop),
        check_backup(&to, &other).map(drop),
        backup(&to, &other, &scratch.path("b.db")).map(drop),
    ] {
        let (Err(BackupError::Refused(OpenError { why, .. }))
        | Err(BackupError::Unfit(OpenError { why, .. }))) = refused
        else {
            panic!("{refused:?}");
        };
        let Refusal::OtherService { owner, .. } = why else {
            panic!("{why:?}");
        };
        assert_eq!(owner, "parcel-service");
    }
    assert!(!scratch.path("scales.db").exists());
}

#[tokio::test]
async fn a_live_file_is_not_replaced() {
    let (_scratch, db, to, _) = with_backup().await;
    weigh_many(&db, 1).await;
    let refused = restore(&to, &options(), db.path());
    assert!(
        matches!(
            refused,
            Err(BackupError::Refused(OpenError {
                why: Refusal::InUse { .. },
                ..
            }))
        ),
        "{refused:?}"
    );
    assert_eq!(weigh_again(&db, "a", 1).await.unwrap().seq, 5, "it goes on");
}

#[tokio::test]
async fn a_restore_through_a_link_replaces_the_file_behind_it_and_never_a_live_one() {
    let (scratch, db, to, _) = with_backup().await;
    weigh_many(&db, 1).await;
    let (link, backup_link) = (scratch.path("link.db"), scratch.path("backup-link.db"));
    std::os::unix::fs::symlink(db.path(), &link).unwrap();
    std::os::unix::fs::symlink(&to, &backup_link).unwrap();
    let refused = restore(&to, &options(), &link);
    assert!(
        matches!(
            refused,
            Err(BackupError::Refused(OpenError {
                why: Refusal::InUse { .. },
                ..
            }))
        ),
        "{refused:?}"
    );
    let target = db.path().to_owned();
    db.close().await;
    let manifest = check_backup(&backup_link, &options()).unwrap();
    assert!(!manifest.taken_at.is_empty(), "its manifest was found");
    let restored = restore(&backup_link, &options(), &link).unwrap();
    assert_eq!(restored.previous_seq, Some(4));
    assert!(link.is_symlink());
    assert_eq!(last_event(&target), 3);
    assert!(!scratch.path("link.db.lock").exists());
    assert!(!has_incoming(&scratch.path("")));

    // A link that leads nowhere yet is a name for what will be there.
    std::fs::remove_file(&target).unwrap();
    restore(&to, &options(), &link).unwrap();
    assert!(link.is_symlink());
    assert_eq!(last_event(&target), 3);
}

fn has_incoming(folder: &Path) -> bool {
    let mut files = folder.read_dir().unwrap();
    files.any(|file| file.unwrap().path().extension() == Some("incoming".as_ref()))
}

/// The process was killed: its last events lie in the WAL and nowhere else.
#[tokio::test(start_paused = true)]
async fn what_was_there_is_kept_whole_with_what_lay_in_its_wal() {
    let (scratch, db, to, _) = with_backup().await;
    let broker = MemoryBroker::new(1);
    meet(&db, &broker).await;
    let published = outbox_rows(&db).await;
    weigh_many(&db, 2).await;
    let target = db.path().to_owned();
    kill(db).await;
    assert!(beside(&target, "-wal").exists());
    let restored = restore(&to, &options(), &target).unwrap();
    assert_eq!((restored.manifest.seq, restored.previous_seq), (3, Some(5)));
    for stray in ["-wal", "-shm"] {
        assert!(!beside(&target, stray).exists(), "{stray}");
    }
    assert!(!has_incoming(target.parent().unwrap()));
    let previous = restored.previous.unwrap();
    assert_eq!(
        last_event(&previous),
        5,
        "what was never published is there"
    );
    assert_eq!(last_event(&target), 3);
    let db = scratch.producer().await;
    meet(&db, &broker).await;
    assert_one_log(&db, &broker, &published).await;

    // Twice is no problem either: each has a name of its own.
    db.close().await;
    let again = restore(&to, &options(), &target).unwrap();
    assert_ne!(again.previous.unwrap(), previous);
    assert_eq!(last_event(&previous), 5);
}

#[tokio::test]
async fn what_a_file_that_is_gone_left_beside_it_does_not_reach_the_restored_one() {
    let (scratch, db, to, _) = with_backup().await;
    weigh_many(&db, 2).await;
    let target = db.path().to_owned();
    kill(db).await;
    std::fs::remove_file(&target).unwrap(); // and its WAL stays
    assert!(beside(&target, "-wal").exists());
    let restored = restore(&to, &options(), &target).unwrap();
    assert_eq!((restored.previous, restored.previous_seq), (None, None));
    let db = scratch.producer().await;
    assert_eq!(outbox_rows(&db).await.len(), 3);
}

#[tokio::test]
async fn what_a_killed_backup_or_restore_left_is_no_hindrance() {
    let (scratch, db, to, _) = with_backup().await;
    let again = scratch.path("again.db");
    std::fs::write(beside(&again, ".0123456789abcdef.partial"), "half a copy").unwrap();
    let manifest = backup(db.path(), &options(), &again).unwrap();
    assert_eq!(check_backup(&again, &options()).unwrap(), manifest);

    db.close().await;
    let target = scratch.path("parcels.db");
    std::fs::write(beside(&target, ".incoming"), "mine").unwrap();
    restore(&to, &options(), &target).unwrap();
    let mine = std::fs::read_to_string(beside(&target, ".incoming"));
    assert_eq!(mine.unwrap(), "mine");
    assert_eq!(outbox_rows(&scratch.producer().await).await.len(), 3);
}

/// Killed one step earlier: the old file has both names.
#[tokio::test]
async fn a_restore_that_is_killed_with_the_file_under_two_names_is_repeated() {
    let (scratch, db, to, _) = with_backup().await;
    weigh_many(&db, 1).await;
    let target = db.path().to_owned();
    db.close().await;
    let aside = beside(&target, ".before-restore-killed");
    std::fs::hard_link(&target, &aside).unwrap();
    let refused = Database::open(&target, options()).await;
    assert!(matches!(
        refused,
        Err(OpenError {
            why: Refusal::ManyNames { names: 2, .. },
            ..
        })
    ));
    let restored = restore(&to, &options(), &target).unwrap();
    assert_eq!(restored.previous_seq, Some(4));
    assert_eq!(last_event(&aside), 4);
    assert_eq!(outbox_rows(&scratch.producer().await).await.len(), 3);
}

/// Killed between its two last steps: the old file has its new name, the new one is not in place yet.
#[tokio::test(start_paused = true)]
async fn a_restore_that_is_killed_between_its_steps_loses_nothing() {
    let (scratch, db, to, _) = with_backup().await;
    let broker = MemoryBroker::new(1);
    meet(&db, &broker).await;
    let log = outbox_rows(&db).await;
    let target = db.path().to_owned();
    db.close().await;
    let image = Image::take(&target);
    for started in [true, false] {
        std::fs::rename(&target, scratch.path("aside.db")).unwrap();
        if started {
            // The service is started before the restore is run again.
            let db = scratch.producer().await;
            let cases = meet(&db, &broker).await;
            assert_eq!(
                cases,
                [Case::DatabaseLost, Case::AheadAtFirstContact, Case::Equal]
            );
            db.close().await;
        }
        restore(&to, &options(), &target).unwrap();
        let db = scratch.producer().await;
        meet(&db, &broker).await;
        assert_one_log(&db, &broker, &log).await;
        db.close().await;
        image.roll_back(&target);
    }
}
