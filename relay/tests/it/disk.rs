//! What the disk does to an open database: a WAL that a long read holds, a disk that fails under a commit, and no folder for
//! temporary files.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use relay::database::{Gate, OnDiskFailure};
use relay::error::{OpenError, Refusal};
use relay::operate::ReadOnly;
use relay::{Database, Options, WriteError};

use crate::support::{Scratch, beside, count, options};

/// Waits for the fact, in real time.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let came = tokio::time::timeout(Duration::from_secs(60), waited).await;
    came.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_wal_that_a_long_read_holds_is_told_and_cut_when_the_read_has_gone() {
    let scratch = Scratch::quick();
    let db = scratch.producer().await;
    let (release, held) = mpsc::channel::<()>();
    let (begun, started) = tokio::sync::oneshot::channel();
    let long = tokio::spawn({
        let db = db.clone();
        async move {
            let read = db.read(move |rows| {
                let sql = "select count(*) from parcels";
                let seen: i64 = rows.query_row(sql, [], |row| row.get(0)).map_err(drop)?;
                begun.send(()).map_err(drop)?;
                held.recv().map_err(drop)?;
                Ok::<_, ()>(seen)
            });
            read.await
        }
    });
    started.await.unwrap();
    for _ in 0..70 {
        let sql = "insert into parcels (id, weight_g) values (hex(randomblob(512 * 1024)), 1)";
        let write = db.write(move |tx| tx.execute(sql, []).map(drop));
        write.await.unwrap();
    }
    until("the large WAL is told", || db.disk().trouble().is_some()).await;
    let disk = db.disk();
    assert!(disk.wal_bytes > 64 << 20, "{disk:?}");
    assert!(disk.trouble().unwrap().contains("a read is open"));
    assert_eq!(disk.checkpoint_failures, 0);

    release.send(()).unwrap();
    assert_eq!(long.await.unwrap().unwrap(), 0);
    until("the WAL is small", || db.disk().trouble().is_none()).await;
    let wal = std::fs::metadata(beside(db.path(), "-wal")).unwrap().len();
    assert!(wal < 1 << 20, "it takes {wal} bytes");
    assert_eq!(count(&db, "parcels").await, 70);
}

/// As `quarantine | less` does, whose reader looks at it for as long as they like.
#[tokio::test]
async fn a_list_of_quarantined_events_holds_no_read_while_it_is_printed() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let fill = db.write(|tx| {
        let sql =
            "insert into relay_set_aside (at_ms, found_in, log, seq, event_id, reason, digest)
                   values (1, 'stream', 'PARCELS', ?1, 'none', 'a test', '')";
        (1..=450).try_for_each(|seq| tx.execute(sql, [seq]).map(drop))
    });
    fill.await.unwrap();
    let other = relay::rusqlite::Connection::open(db.path()).unwrap();
    let guest = ReadOnly::open(db.path(), &options()).await.unwrap();
    let listed = Arc::new(Mutex::new(Vec::new()));
    let list = listed.clone();
    let print = move |event: relay::operate::Quarantined| {
        list.lock().unwrap().push(event.seq);
        let checkpoint = "pragma wal_checkpoint(truncate)";
        let busy: i64 = other.query_row(checkpoint, [], |row| row.get(0)).unwrap();
        assert_eq!(busy, 0, "a read is open");
        true
    };
    assert_eq!(guest.each_quarantined(print).await.unwrap(), 450);
    assert_eq!(*listed.lock().unwrap(), (1..=450).collect::<Vec<u64>>());
    assert_eq!(db.quarantined().await.unwrap().len(), 450);
}

#[tokio::test]
async fn no_connection_writes_temporary_files() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let in_memory = |rows: &relay::rusqlite::Connection| {
        rows.pragma_query_value(None, "temp_store", |row| row.get::<_, i64>(0))
    };
    assert_eq!(db.write(move |tx| in_memory(tx)).await.unwrap(), 2);
    assert_eq!(db.read(in_memory).await.unwrap(), 2);
    assert_eq!(db.with_own_reader().read(in_memory).await.unwrap(), 2);
    let guest = ReadOnly::open(db.path(), &options()).await.unwrap();
    assert_eq!(guest.read(in_memory).await.unwrap(), 2);
}

const CHILD: &str = "FREEHOLD_DATABASE_OF_THE_CHILD";

/// In a process of its own, whose files may not grow beyond some 400 kB: past it a write fails with EFBIG, which SQLite
/// reports as an I/O error under the commit.
#[tokio::test]
async fn a_program_of_its_own_is_told_of_a_disk_that_fails_and_may_live_on() {
    if let Some(path) = std::env::var_os(CHILD) {
        return write_until_the_disk_fails(path.into()).await;
    }
    let scratch = Scratch::new();
    let path = scratch.path("parcels.db");
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 800; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("disk::a_program_of_its_own_is_told_of_a_disk_that_fails_and_may_live_on")
        .env(CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    let answered = said.lines().find_map(|line| line.strip_prefix("answered "));
    let answered: i64 = answered.unwrap().parse().unwrap();
    assert!(answered > 10, "it wrote before the disk failed");
    let stored = count(&scratch.producer().await, "parcels").await;
    assert!(
        stored == answered || stored == answered + 1,
        "{stored} of {answered}"
    );
}

async fn write_until_the_disk_fails(path: PathBuf) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let note = told.clone();
    let options = Options {
        max_group: 1,
        on_disk_failure: OnDiskFailure::new(move |why| note.lock().unwrap().push(why.to_owned())),
        ..options()
    };
    let db = Database::open(&path, options).await.unwrap();
    let (release, held) = mpsc::channel::<()>();
    let long = db.clone();
    tokio::spawn(async move { long.read(move |_| held.recv().map_err(drop)).await });
    let mut answered = 0;
    let failed: Vec<WriteError<_>> = loop {
        let sql = "insert into parcels (id, weight_g) values (hex(randomblob(512)), 1)";
        let writes = (0..64).map(|_| db.write(move |tx| tx.execute(sql, [])));
        let answers = tokio::time::timeout(Duration::from_secs(30), join_all(writes)).await;
        let answers = answers.expect("no write waits for the read");
        let (stored, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        answered += stored.len();
        if !failed.is_empty() {
            break failed.into_iter().filter_map(Result::err).collect();
        }
        assert!(answered < 10_000, "the disk never failed");
    };
    assert!(failed.len() > 1, "others waited: {failed:?}");
    assert!(matches!(failed[0], WriteError::Unknown), "{failed:?}");
    for waited in &failed[1..] {
        assert!(matches!(waited, WriteError::Closed), "{failed:?}");
    }
    drop(release);
    assert_eq!(told.lock().unwrap().len(), 1);
    assert!(matches!(db.gate(), Gate::Halted(_)));
    let next = db.write(|_| Ok::<_, ()>(())).await;
    assert!(matches!(next, Err(WriteError::Closed)), "{next:?}");
    db.close().await;
    println!("\nanswered {answered}");
}

const ON_A_VOLUME: &str = "FREEHOLD_DATABASE_ON_A_SMALL_VOLUME";
const TMPFS: &str = "mount -t tmpfs -o size=4m tmpfs \"$0\"";
const FEW_INODES: &str = "mount -t tmpfs -o size=4m,nr_inodes=20 tmpfs \"$0\"";
/// Blocks of 1 KiB, of which SQLite makes every fourth of an index real.
const SMALL_BLOCKS: &str = "truncate -s 12m \"$0.image\" && mkfs.ext4 -q -m 0 -b 1024 \"$0.image\" && mount -o loop \"$0.image\" \"$0\"";

/// This test again, in a process of its own, whose volume the kernel takes down with it: there, the path of its database.
fn on_a_volume(mount: &str, test: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(ON_A_VOLUME) {
        return Some(path.into());
    }
    let scratch = Scratch::new();
    let volume = scratch.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg(format!("{{ {mount}; }} || exit 77; exec \"$@\""))
        .arg(&volume)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(ON_A_VOLUME, volume.join("parcels.db"))
        .output();
    match child {
        Ok(child) if child.status.success() => {}
        Ok(child) if child.status.code() == Some(77) => {
            eprintln!("skipped: nothing can be mounted on this machine");
        }
        Ok(child) => {
            let said = String::from_utf8_lossy(&child.stdout);
            panic!("{}: {said}", child.status);
        }
        Err(why) => eprintln!("skipped: nothing can be mounted on this machine: {why}"),
    }
    None
}

/// Takes all the room that the volume has, but for so much.
fn fill(volume: &Path, but_for: u64) -> PathBuf {
    let ballast = volume.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    for chunk in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![1; chunk]).is_ok() {}
    }
    let taken = file.metadata().unwrap().len();
    file.set_len(taken - but_for).unwrap();
    ballast
}

#[tokio::test]
async fn a_disk_that_is_full_before_the_commit_is_told_to_every_write_of_the_group() {
    let test = "disk::a_disk_that_is_full_before_the_commit_is_told_to_every_write_of_the_group";
    if let Some(path) = on_a_volume(TMPFS, test) {
        write_more_than_the_volume_takes(path).await;
    }
}

#[tokio::test]
async fn a_start_on_a_full_disk_reads_and_writes_once_there_is_room() {
    let test = "disk::a_start_on_a_full_disk_reads_and_writes_once_there_is_room";
    if let Some(path) = on_a_volume(TMPFS, test) {
        start_on_a_full_disk(path, 0).await;
    }
}

#[tokio::test]
async fn small_blocks_on_a_full_disk_do_not_end_the_process() {
    let test = "disk::small_blocks_on_a_full_disk_do_not_end_the_process";
    if let Some(path) = on_a_volume(SMALL_BLOCKS, test) {
        start_on_a_full_disk(path, 10 << 10).await;
    }
}

#[tokio::test]
async fn small_blocks_without_room_for_an_index_are_a_full_disk() {
    let test = "disk::small_blocks_without_room_for_an_index_are_a_full_disk";
    let Some(path) = on_a_volume(SMALL_BLOCKS, test) else {
        return;
    };
    let db = Database::open(&path, options()).await.unwrap();
    db.close().await;
    std::fs::remove_file(beside(&path, ".room")).unwrap();
    for but_for in [9 << 10, 16 << 10, 33 << 10] {
        let ballast = fill(path.parent().unwrap(), but_for);
        let opened = Database::open(&path, options()).await;
        assert!(
            matches!(
                opened,
                Err(OpenError {
                    why: Refusal::Full,
                    ..
                })
            ),
            "{but_for}"
        );
        std::fs::remove_file(ballast).unwrap();
    }
    let db = Database::open(&path, options()).await.unwrap();
    db.close().await;
}

#[tokio::test]
async fn a_disk_without_inodes_is_named_and_an_open_file_is_written() {
    let test = "disk::a_disk_without_inodes_is_named_and_an_open_file_is_written";
    let Some(path) = on_a_volume(FEW_INODES, test) else {
        return;
    };
    let take_all = || {
        let files = (0..).map(|n| path.with_extension(n.to_string()));
        files
            .take_while(|file| std::fs::write(file, "").is_ok())
            .collect::<Vec<_>>()
    };
    let db = Database::open(&path, options()).await.unwrap();
    let taken = take_all();
    let insert = "insert into parcels (id, weight_g) values ('one', 1)";
    db.write(|tx| tx.execute(insert, [])).await.unwrap();
    assert!(!db.disk().full, "it writes");
    db.close().await;
    take_all();
    let opened = Database::open(&path, options()).await;
    assert!(
        matches!(
            opened,
            Err(OpenError {
                why: Refusal::Full,
                ..
            })
        ),
        "{:?}",
        opened.err()
    );
    taken
        .iter()
        .for_each(|file| std::fs::remove_file(file).unwrap());
    let db = Database::open(&path, options()).await.unwrap();
    assert_eq!(count(&db, "parcels").await, 1);
    db.close().await;
}

#[tokio::test]
async fn the_room_that_is_kept_is_never_written_through_a_link() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let (room, mine) = (beside(db.path(), ".room"), scratch.path("mine"));
    std::fs::write(&mine, "mine").unwrap();
    std::os::unix::fs::symlink(&mine, &room).unwrap();
    db.close().await;
    assert_eq!(std::fs::metadata(&mine).unwrap().len(), 4);
    assert_eq!(std::fs::symlink_metadata(&room).unwrap().len(), 1 << 20);
}

async fn start_on_a_full_disk(path: PathBuf, but_for: u64) {
    let db = Database::open(&path, options()).await.unwrap();
    let insert = "insert into parcels (id, weight_g) values (hex(randomblob(512)), 1)";
    db.write(|tx| tx.execute(insert, [])).await.unwrap();
    db.close().await;
    let ballast = fill(path.parent().unwrap(), but_for);
    for _twice in 0..2 {
        let db = Database::open(&path, options()).await.unwrap();
        assert!(db.disk().full, "it says so before a write fails");
        assert_eq!(count(&db, "parcels").await, 1);
        let large = db.write(|tx| (0..9_000).try_for_each(|_| tx.execute(insert, []).map(drop)));
        let large = large.await;
        assert!(matches!(large, Err(WriteError::Full)), "{large:?}");
        assert_eq!(count(&db, "parcels").await, 1);
        db.close().await;
    }
    let db = Database::open(&path, options()).await.unwrap();
    std::fs::remove_file(ballast).unwrap();
    until("it has room", || !db.disk().full).await;
    db.write(|tx| tx.execute(insert, [])).await.unwrap();
    assert_eq!(count(&db, "parcels").await, 2);
    db.close().await;
}

#[tokio::test]
async fn the_index_of_an_open_file_takes_all_its_room_at_once() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let index = std::fs::metadata(beside(db.path(), "-shm")).unwrap();
    assert!(index.len() >= 512 << 10, "{}", index.len());
    assert!(index.blocks() * 512 >= index.len(), "it is sparse");
    db.close().await;
    assert!(std::fs::metadata(beside(db.path(), "-shm")).is_err());
}

/// More than SQLite keeps in memory: it writes to the WAL inside the write.
async fn write_more_than_the_volume_takes(path: PathBuf) {
    let db = Database::open(&path, options()).await.unwrap();
    let large = db.write(|tx| {
        let sql = "insert into parcels (id, weight_g) values (hex(randomblob(512)), 1)";
        (0..16_000).try_for_each(|_| tx.execute(sql, []).map(drop))
    });
    let small = db.write(|tx| tx.execute("insert into parcels values ('small', 1)", []));
    let (large, small) = tokio::join!(large, small);
    assert!(matches!(large, Err(WriteError::Full)), "{large:?}");
    assert!(matches!(small, Err(WriteError::Full)), "{small:?}");
    assert!(db.disk().full);
    assert_eq!(count(&db, "parcels").await, 0);
    db.close().await;
}
