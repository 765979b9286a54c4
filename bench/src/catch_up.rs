//! A reader that begins late: a full stream read from its first event, compared with reading alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use relay::log::{Connect, Log};

use crate::pipeline::{EVENTS, until_applied, write_all};
use crate::subject::Bench;

/// Events per request of a consumer.
const BATCH: usize = 1000;

pub(crate) async fn report(bench: &mut Bench) -> Result<()> {
    let running = Box::pin(bench.running()).await?;
    write_all(&running.producer).await?;
    until_applied(&running, EVENTS).await;
    running.stop().await?;

    let began = Instant::now();
    let mut session = bench.way_of_reader().connect().await?;
    session.head().await?.context("the stream is there")?;
    let mut read = 0;
    while read < EVENTS {
        let records = session
            .read_after(read, BATCH, Duration::from_secs(5))
            .await?;
        read = records.last().context("events come")?.seq;
    }
    let limit = EVENTS as f64 / began.elapsed().as_secs_f64();
    drop(session);
    println!("  read only                                 {limit:>9.0}/s   1.0  (the limit)");

    let began = Instant::now();
    let late = bench.follower().await?;
    until_applied(&late, EVENTS).await;
    let rate = EVENTS as f64 / began.elapsed().as_secs_f64();
    println!(
        "  read and applied                          {rate:>9.0}/s  {:>4.2}",
        rate / limit
    );
    late.stop().await
}
