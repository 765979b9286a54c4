//! The way between the device and orders-service: one loop that sends, one that follows the feed. Each is "until
//! stopped, take a step", and whatever a step has done is on disk when it ends, so it can be cut off anywhere.

pub mod feed;
pub mod status;
pub mod upload;

use std::sync::Arc;
use std::time::Duration;

use relay::{Fatal, Stop, Tx};
use tokio::sync::Notify;

use crate::device::Device;
use crate::owner_api::{Owner, Refusal};
use crate::store::{self, StoreError};
use feed::Follower;
use status::Way;
use upload::Uploader;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There may be more to do.
    Progress,
    /// Nothing to do until a bell rings.
    Idle,
    /// The same, or after this time.
    Wait(Duration),
}

/// How long the owner may keep a question for news before it says that there are none.
pub const LONG_POLL: Duration = Duration::from_secs(8);

/// Sends and follows until stopped. The two do not wait for each other.
pub async fn run(device: Device, owner: Arc<dyn Owner>, stop: Stop) -> Result<(), Fatal> {
    let up = Uploader::new(&device, owner.clone());
    let down = Follower::new(&device, owner, LONG_POLL);
    tokio::join!(
        send(up, &device.bells().upload, &stop),
        follow(down, &device.bells().feed, &stop),
    );
    Ok(())
}

async fn send(mut uploader: Uploader, bell: &Notify, stop: &Stop) {
    while let Some(step) = stop.run_until_cancelled(uploader.step()).await {
        rest(step, bell, stop).await;
    }
}

/// A bell cuts a question for news short: it was asked with what is not so any more.
async fn follow(mut follower: Follower, bell: &Notify, stop: &Stop) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = bell.notified() => {}
            step = follower.step() => rest(step, bell, stop).await,
        }
    }
}

async fn rest(step: Step, bell: &Notify, stop: &Stop) {
    let time = async {
        match step {
            Step::Progress => {}
            Step::Idle => std::future::pending().await,
            Step::Wait(time) => tokio::time::sleep(time).await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = bell.notified(), if step != Step::Progress => {}
        () = time => {}
    }
}

/// How long to wait after failures in a row. It is measured by a clock that only goes forward, whatever the device's
/// other clock is set to.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A token that was not accepted is shown again less and less often: it may be over for good.
const LONGEST_WAIT_UNKNOWN: Duration = Duration::from_secs(300);

impl Backoff {
    fn next(&mut self) -> Duration {
        self.next_up_to(LONGEST_WAIT)
    }

    fn next_up_to(&mut self, longest: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        growing(self.failures, longest)
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// From half a second, doubling. Up to a quarter more, so that devices that lost the network together do not come back
/// together.
fn growing(failures: u32, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(longest);
    wait.mul_f64(1.0 + rand::random::<f64>() / 4.0)
}

/// The owner has not done as asked, for a reason that has nothing to do with what was asked.
async fn refused(
    device: &Device,
    way: Way,
    token: &str,
    refusal: Refusal,
    backoff: &mut Backoff,
) -> Result<Step, StoreError> {
    let words = refusal.to_string();
    let wait = match refusal {
        Refusal::Unauthorized { code, .. } => {
            let revoked = code == "revoked";
            match (shut_out(device, token, revoked).await?, revoked) {
                (false, _) => return Ok(Step::Progress), // it has just been replaced
                (true, true) => Step::Idle,
                (true, false) => Step::Wait(backoff.next_up_to(LONGEST_WAIT_UNKNOWN)),
            }
        }
        _ => Step::Wait(backoff.next()),
    };
    tracing::info!(?way, why = words, "no contact");
    device.status.trouble(way, &words);
    Ok(wait)
}

/// The token is not accepted, if it is still the device's. Only a revoked device loses its deliveries and stops asking: any
/// other refusal may come from an owner that is not itself, and passes with it. What the driver did stays either way.
async fn shut_out(device: &Device, token: &str, revoked: bool) -> Result<bool, StoreError> {
    let token = token.to_owned();
    let write = move |tx: &Tx<'_>| {
        let ours = store::device::refuse(tx, &token, revoked)?;
        if ours && revoked {
            store::device::forget_deliveries(tx)?;
        }
        Ok(ours)
    };
    let ours = device.db.write(write).await?;
    device.status.changed();
    Ok(ours)
}

/// The device's own file did not do as asked: there is nothing to do but to try again.
fn broken(device: &Device, way: Way, error: &StoreError, backoff: &mut Backoff) -> Step {
    if !error.is_closed() {
        tracing::error!(error = %relay::chain(error), "a step of the sync failed");
        device.status.trouble(way, &relay::chain(error));
    }
    Step::Wait(backoff.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_have_an_end() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() < Duration::from_secs(1));
        for _ in 0..100 {
            backoff.next();
        }
        let longest = backoff.next();
        assert!(longest >= LONGEST_WAIT && longest <= LONGEST_WAIT.mul_f64(1.25));
        let longest = backoff.next_up_to(LONGEST_WAIT_UNKNOWN);
        assert!(longest >= LONGEST_WAIT_UNKNOWN);
        backoff.reset();
        assert!(backoff.next() < Duration::from_secs(1));
    }
}
