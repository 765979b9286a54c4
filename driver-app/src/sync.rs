//! Syncs the device with orders-service: one loop uploads intents, the other follows the feed. Each is "until stopped,
//! take a step". What a step has done is on disk when it ends, so a loop can be cut off anywhere.

pub mod feed;
pub mod upload;

use std::sync::Arc;
use std::time::Duration;

use relay::error::Fatal;
use relay::rusqlite;
use relay::{Database, Stop, Tx};

use crate::device::Device;
use crate::owner_api::{OwnerApi, OwnerError};
use crate::status::{Part, Status, Wake};
use crate::store::{self, StoreError};
use feed::Follower;
use upload::Uploader;

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There may be more to do.
    Progress,
    /// Nothing to do until the loop is woken.
    Idle,
    /// Nothing to do until the loop is woken or this time is over.
    Wait(Duration),
}

/// How long the owner may hold a feed request while there is no news.
pub const LONG_POLL: Duration = Duration::from_secs(8);

/// Uploads and follows until stopped. Neither loop waits for the other.
pub async fn run(device: Device, owner: Arc<OwnerApi>, stop: Stop) -> Result<(), Fatal> {
    let uploader = Uploader::new(&device, owner.clone());
    let follower = Follower::new(&device, owner, LONG_POLL);
    let status = device.status();
    tokio::join!(
        upload(uploader, &status.upload, &stop),
        follow(follower, &status.feed, &stop),
    );
    Ok(())
}

async fn upload(mut uploader: Uploader, wake: &Wake, stop: &Stop) {
    while let Some(step) = stop.run_until_cancelled(uploader.step()).await {
        rest(step, wake, stop).await;
    }
}

/// A wake cancels the request that waits for news: what it asked is out of date.
async fn follow(mut follower: Follower, wake: &Wake, stop: &Stop) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => {}
            () = wake.woken() => {}
            step = follower.step() => rest(step, wake, stop).await,
        }
    }
}

async fn rest(step: Step, wake: &Wake, stop: &Stop) {
    let time = match step {
        Step::Progress => return,
        Step::Idle => Duration::MAX,
        Step::Wait(time) => time,
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = wake.woken() => {}
        () = tokio::time::sleep(time) => {}
    }
}

/// What each loop has: its part, its device, its owner, and how long it waits after failures in a row.
struct Link {
    part: Part,
    device: Device,
    owner: Arc<OwnerApi>,
    failures: u32,
}

impl Link {
    fn new(part: Part, device: &Device, owner: Arc<OwnerApi>) -> Self {
        let (device, failures) = (device.clone(), 0);
        Self {
            part,
            device,
            owner,
            failures,
        }
    }

    fn status(&self) -> &Status {
        self.device.status()
    }

    fn db(&self) -> &Database {
        self.device.database()
    }

    /// Did the driver ask to sync now, since the last call?
    fn take_now(&mut self) -> bool {
        let now = match self.part {
            Part::Upload => self.status().upload.take_now(),
            _ => self.status().feed.take_now(),
        };
        if now {
            self.failures = 0;
        }
        now
    }

    /// Stores what a reply brought. A reply also proves that the owner accepts the token; if it did not the last time, the
    /// other loop may still wait.
    async fn store<T: Send + 'static>(
        &mut self,
        token: String,
        date_ms: Option<i64>,
        work: impl FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let write = move |tx: &Tx<'_>| Ok((store::device::accept(tx, &token)?, work(tx)?));
        let (accepted_again, done) = self.db().write(write).await?;
        self.reached(date_ms);
        if accepted_again {
            self.status().changed();
            self.status().sync_now();
        }
        Ok(done)
    }

    fn reached(&mut self, date_ms: Option<i64>) {
        self.failures = 0;
        let now_ms = self.device.now_ms();
        self.status().reached(self.part, now_ms, date_ms);
    }

    /// The request failed for a reason unrelated to its content.
    async fn refused(&mut self, token: &str, error: OwnerError) -> Result<Step, StoreError> {
        let why = error.to_string();
        let step = match error {
            OwnerError::Unauthorized { code, .. } => {
                let revoked = code == "revoked";
                match (self.refuse(token, revoked).await?, revoked) {
                    (false, _) => return Ok(Step::Progress), // the device has a newer token by now
                    (true, true) => Step::Idle,
                    (true, false) => self.back_off(LONGEST_WAIT_UNAUTHORIZED),
                }
            }
            _ => self.back_off(LONGEST_WAIT),
        };
        tracing::info!(part = ?self.part, why, "no contact with orders-service");
        self.status().set_wait(self.part, Some(why));
        Ok(step)
    }

    /// The owner does not accept the token. Only a revoked device deletes its deliveries and stops asking, because any other
    /// refusal may pass. The driver's intents stay either way. False: the device has a newer token by now.
    async fn refuse(&self, token: &str, revoked: bool) -> Result<bool, StoreError> {
        let token = token.to_owned();
        let write = move |tx: &Tx<'_>| {
            let ours = store::device::refuse(tx, &token, revoked)?;
            if ours && revoked {
                store::device::forget_deliveries(tx)?;
            }
            Ok(ours)
        };
        let ours = self.db().write(write).await?;
        self.status().changed();
        Ok(ours)
    }

    /// How long to wait after failures in a row. A monotonic clock measures it, so the device's wall clock does not matter.
    fn back_off(&mut self, longest: Duration) -> Step {
        self.failures = self.failures.saturating_add(1);
        Step::Wait(growing(self.failures, longest))
    }

    /// The step's result. If the device's own file failed, all that helps is to try again.
    fn finish(&mut self, step: Result<Step, StoreError>) -> Step {
        step.unwrap_or_else(|error| {
            if !error.is_closed() {
                let error = relay::error::chain(&error);
                tracing::error!(error, "a step of the sync failed");
                self.status().set_wait(self.part, Some(error));
            }
            self.back_off(LONGEST_WAIT)
        })
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The token may never be accepted again, so the device asks less and less often.
const LONGEST_WAIT_UNAUTHORIZED: Duration = Duration::from_secs(300);

/// From half a second, doubling. Up to a quarter more, so that devices that lost the network together do not all come back
/// at once.
fn growing(failures: u32, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(longest);
    wait.mul_f64(1.0 + rand::random::<f64>() / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_limit() {
        assert!(growing(1, LONGEST_WAIT) < Duration::from_secs(1));
        assert!(growing(2, LONGEST_WAIT) >= FIRST_WAIT * 2);
        for failures in [20, 100, u32::MAX] {
            let longest = growing(failures, LONGEST_WAIT);
            assert!(longest >= LONGEST_WAIT && longest <= LONGEST_WAIT.mul_f64(1.25));
            assert!(growing(failures, LONGEST_WAIT_UNAUTHORIZED) >= LONGEST_WAIT_UNAUTHORIZED);
        }
    }
}
