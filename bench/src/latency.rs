//! Time from the acknowledgement of a write until its event is applied and durable in the other service, at a steady rate.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::pipeline::until_applied;
use crate::subject::{Bench, write};

const PER_SECOND: u32 = 200;
const EVENTS: u64 = 4000;

pub(crate) async fn report(bench: &mut Bench) -> Result<()> {
    let running = Box::pin(bench.running()).await?;
    for number in 1..=200 {
        write(&running.producer, number).await?; // warm: connections, caches, statements
    }
    until_applied(&running, 200).await;
    let flush = median_flush(bench).await?;
    let mut applied = running.consumer.status();
    let mut micros = Histogram::<u64>::new(3)?;
    let began = Instant::now();
    for number in 0..EVENTS {
        // Open loop: the next event is due at its time, however slow the last one was.
        let due = began + Duration::from_secs(1) / PER_SECOND * u32::try_from(number)?;
        tokio::time::sleep_until(due.into()).await;
        let seq = write(&running.producer, number).await?;
        let committed = Instant::now();
        applied.wait_for(|status| status.offset >= seq).await?;
        micros.record(u64::try_from(committed.elapsed().as_micros())?)?;
    }
    let quantile = |q| micros.value_at_quantile(q) as f64 / 1000.0;
    println!("  one bare commit on this disk              {flush:>9.2} ms  1.0  (the baseline)");
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let (value, ratio) = (quantile(q), quantile(q) / flush);
        println!(
            "  {PER_SECOND}/s for 20 s, {name:<5}                    {value:>9.2} ms {ratio:>4.1}"
        );
    }
    running.stop().await
}

/// The cost of one durable write alone, in milliseconds.
async fn median_flush(bench: &Bench) -> Result<f64> {
    let db = bench.database("user-service", "USERS", 1).await?;
    let mut micros = Histogram::<u64>::new(3)?;
    for number in 0..300 {
        let began = Instant::now();
        write(&db, number).await?;
        micros.record(u64::try_from(began.elapsed().as_micros())?)?;
    }
    db.close().await;
    Ok(micros.value_at_quantile(0.5) as f64 / 1000.0)
}
