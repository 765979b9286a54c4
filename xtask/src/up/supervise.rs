//! A part that dies is started again, after a pause that grows while it keeps dying, and a line says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_tests::Part;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::console::Console;

/// One part under watch.
pub(super) struct Supervised {
    stop: watch::Sender<bool>,
    /// Ends once the part has stopped; false when it had to be killed.
    task: JoinHandle<bool>,
    name: String,
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Who ran this long before it died starts over with the first pause.
const HEALTHY: Duration = Duration::from_secs(30);
/// How soon a death is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// How soon it is noticed that a part runs and needs a restart.
const LOOK_DEEPER: Duration = Duration::from_secs(1);

pub(super) fn supervise<P: Part + 'static>(part: P, console: &Arc<Console>) -> Supervised {
    let (stop, told) = watch::channel(false);
    let name = part.name().to_owned();
    let watcher = Watcher {
        part,
        console: Arc::clone(console),
        pause: FIRST_PAUSE,
        since: Instant::now(),
        looked: Instant::now(),
    };
    Supervised {
        stop,
        task: tokio::spawn(watcher.run(told)),
        name,
    }
}

impl Supervised {
    pub(super) async fn stop(self, console: &Console) -> bool {
        // Gone already means stopped already.
        let _told = self.stop.send(true);
        let clean = console
            .while_waiting(&format!("{} is stopping", self.name), self.task)
            .await
            .unwrap_or(false);
        console.about(
            &self.name,
            if clean {
                "stopped"
            } else {
                "did not stop in time and was killed"
            },
        );
        clean
    }
}

struct Watcher<P> {
    part: P,
    console: Arc<Console>,
    pause: Duration,
    since: Instant,
    /// When it was last asked whether it is of any use.
    looked: Instant,
}

impl<P: Part> Watcher<P> {
    async fn run(mut self, mut told: watch::Receiver<bool>) -> bool {
        tokio::select! {
            _ = told.wait_for(|stop| *stop) => {}
            () = self.keep_alive() => {}
        }
        self.part.stop().await.is_ok()
    }

    /// Until dropped: notice a death, pause, start again.
    async fn keep_alive(&mut self) {
        loop {
            if !self.part.is_running() {
                self.revive().await;
            } else if self.looked.elapsed() < LOOK_DEEPER {
                sleep(LOOK).await;
            } else {
                self.looked = Instant::now();
                self.end_if_useless().await;
            }
        }
    }

    async fn end_if_useless(&mut self) {
        if self.part.needs_restart() {
            self.say(
                "it could not write to its disk, and stores nothing more until it is started again",
            );
            let _killed_otherwise = self.part.stop().await;
        }
    }

    async fn revive(&mut self) {
        if self.since.elapsed() >= HEALTHY {
            self.pause = FIRST_PAUSE;
        }
        let obituary = self.obituary();
        self.say(&format!(
            "{obituary}; starting it again in {:.1} s",
            self.pause.as_secs_f64()
        ));
        sleep(self.pause).await;
        self.pause = longer(self.pause);
        self.since = Instant::now();
        match self.part.start().await {
            Ok(()) => self.say(&format!(
                "runs again (process {})",
                self.part.pid().unwrap_or_default()
            )),
            Err(error) => self.say(&error.to_string()),
        }
    }

    fn obituary(&mut self) -> String {
        let pid = self.part.pid();
        match (pid, self.part.exit_status()) {
            (Some(pid), Some(status)) => format!("process {pid} died: {status}"),
            _ => "it does not run".to_owned(),
        }
    }

    fn say(&self, text: &str) {
        self.console.about(self.part.name(), text);
    }
}

/// Doubles up to a bound at which a person still sees that it is being tried.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        assert_eq!(longer(FIRST_PAUSE), Duration::from_secs(1));
        assert_eq!(longer(Duration::from_secs(8)), LONGEST_PAUSE);
    }
}
