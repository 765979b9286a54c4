//! Writes per second, with and without group commit, compared with bare SQLite on the same rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::Connection;

use crate::subject::{Bench, write};

const CALLERS: u64 = 64;
const FOR: Duration = Duration::from_secs(3);

pub(crate) async fn report(bench: &Bench) -> Result<()> {
    let bare = tokio::task::spawn_blocking({
        let file = bench.new_file();
        move || bare_sqlite(&file)
    });
    let bare = bare.await??;
    println!("  bare SQLite, one row pair a commit        {bare:>9.0}/s   1.0  (the baseline)");
    for (name, max_group) in [("without", 1), ("with", 256)] {
        let rate = product(bench, max_group).await?;
        let ratio = rate / bare;
        println!("  {CALLERS} callers {name:<7} group commit         {rate:>9.0}/s  {ratio:>4.1}");
    }
    Ok(())
}

/// One connection, one commit for each pair of rows: the disk's limit without groups.
fn bare_sqlite(file: &std::path::Path) -> Result<f64> {
    let rows = Connection::open(file)?;
    rows.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full;
         create table users (id integer primary key, name text not null) strict;
         create table outbox (seq integer primary key, envelope blob not null) strict;",
    )?;
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < FOR {
        rows.execute_batch("begin immediate")?;
        rows.prepare_cached("insert or replace into users values (?1, 'Ada')")?
            .execute([count % 1000])?;
        rows.prepare_cached("insert into outbox (envelope) values (?1)")?
            .execute([[0x20_u8; 400]])?;
        rows.execute_batch("commit")?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

async fn product(bench: &Bench, max_group: usize) -> Result<f64> {
    let db = bench.database("user-service", "USERS", max_group).await?;
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let (db, next) = (db.clone(), next.clone());
        tokio::spawn(async move {
            while began.elapsed() < FOR {
                write(&db, next.fetch_add(1, Ordering::Relaxed)).await?;
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    let rate = db.outbox().committed() as f64 / began.elapsed().as_secs_f64();
    db.close().await;
    Ok(rate)
}
