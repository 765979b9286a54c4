//! Prints the cost of writing, publishing and applying on this machine, as ratios against limits of the same run.
//!
//! `cargo xtask bench` runs it; `writes`, `pipeline`, `catch-up` and `latency` select parts. Nothing is asserted: machines differ and are noisy, ratios move less than figures.

#![expect(clippy::print_stdout, reason = "a report is for the terminal")]

mod catch_up;
mod latency;
mod pipeline;
mod subject;
mod writes;

use anyhow::Result;
use subject::Bench;

#[tokio::main]
async fn main() -> Result<()> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let mut bench = Bench::start().await?;
    if wanted("writes") {
        println!("writes: one state row and one event, durable (synchronous=FULL), for 3 s each");
        writes::report(&bench).await?;
    }
    if wanted("pipeline") {
        println!(
            "pipeline: written, published, read and applied, all durable, broker on the same cores"
        );
        Box::pin(pipeline::report(&mut bench)).await?;
    }
    if wanted("catch-up") {
        println!("catch-up: a full stream, read from its first event, applied and durable");
        Box::pin(catch_up::report(&mut bench)).await?;
    }
    if wanted("latency") {
        println!("latency: from commit to applied and durable in the other database");
        Box::pin(latency::report(&mut bench)).await?;
    }
    bench.stop().await
}
