//! Prints what writes, publishing and applying cost on this machine, as ratios against limits of the same run.
//!
//! `cargo xtask bench` runs it. Nothing is asserted: machines differ and are noisy, ratios move less than figures.

#![expect(clippy::print_stdout, reason = "a report is for the terminal")]

mod latency;
mod pipeline;
mod subject;
mod writes;

use anyhow::Result;
use subject::Bench;

#[tokio::main]
async fn main() -> Result<()> {
    let mut bench = Bench::start().await?;
    println!("writes: one state row and one event, durable (synchronous=FULL), for 3 s each");
    writes::report(&bench).await?;
    println!(
        "\npipeline: written, published, read and applied, all durable, broker on the same cores"
    );
    pipeline::report(&mut bench).await?;
    println!("\nlatency: from commit to applied and durable in the other database");
    latency::report(&mut bench).await?;
    bench.stop().await
}
