//! Events per second from emit to applied, everything running at once, compared with the writes alone.

use std::time::Instant;

use anyhow::Result;

use crate::subject::{Bench, Running, write};

pub(crate) const EVENTS: u64 = 100_000;
const CALLERS: u64 = 512;

pub(crate) async fn report(bench: &mut Bench) -> Result<()> {
    let alone = bench.database("user-service", "USERS", 256).await?;
    let began = Instant::now();
    write_all(&alone).await?;
    let limit = EVENTS as f64 / began.elapsed().as_secs_f64();
    alone.close().await;
    println!("  written only, {CALLERS} callers               {limit:>9.0}/s   1.0  (the limit)");

    let running = Box::pin(bench.running()).await?;
    let began = Instant::now();
    let applied = tokio::join!(
        write_all(&running.producer),
        until_applied(&running, EVENTS)
    );
    let rate = EVENTS as f64 / began.elapsed().as_secs_f64();
    applied.0?;
    println!(
        "  emitted, published and applied            {rate:>9.0}/s  {:>4.2}",
        rate / limit
    );
    running.stop().await
}

pub(crate) async fn write_all(db: &relay::Database) -> Result<()> {
    let callers = (0..CALLERS).map(|caller| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut number = caller;
            while number < EVENTS {
                write(&db, number).await?;
                number += CALLERS;
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(())
}

pub(crate) async fn until_applied(running: &Running, seq: u64) {
    let mut status = running.consumer.status();
    let applied = status.wait_for(|status| status.offset >= seq).await;
    applied.expect("the consumer lives as long as the bench");
}
