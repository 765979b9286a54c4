//! A process that dies is restarted, after a pause that grows while it keeps dying, and a line says so.

use std::time::{Duration, Instant};

use freehold_tests::Part;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::console::Console;

/// One process under watch.
pub(crate) struct Supervised {
    name: String,
    stop: oneshot::Sender<()>,
    /// Ends once the process has stopped; false when it had to be killed.
    task: JoinHandle<bool>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After running this long, a process that dies starts over with the first pause.
const HEALTHY: Duration = Duration::from_secs(30);
/// How soon a death is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// How many looks pass before a running process is asked whether it needs a restart: about a second.
const LOOKS: u32 = 20;

pub(crate) fn supervise<P: Part + 'static>(mut part: P, console: &Console) -> Supervised {
    let (stop, stopped) = oneshot::channel();
    let name = part.name().to_owned();
    let console = console.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            _ = stopped => {}
            () = keep_alive(&mut part, &console) => {}
        }
        part.stop().await.is_ok()
    });
    Supervised { name, stop, task }
}

impl Supervised {
    pub(crate) async fn stop(self, console: &Console) -> bool {
        let _ended = self.stop.send(());
        let what = format!("{} is stopping", self.name);
        let clean = console
            .while_waiting(&what, self.task)
            .await
            .unwrap_or(false);
        let how = if clean {
            "stopped"
        } else {
            "did not stop in time and was killed"
        };
        console.about(&self.name, how);
        clean
    }
}

/// Until dropped: notice a death, pause, start again.
async fn keep_alive(part: &mut impl Part, console: &Console) {
    let (mut pause, mut since) = (FIRST_PAUSE, Instant::now());
    for look in (0..LOOKS).cycle() {
        if !part.is_running() {
            if since.elapsed() >= HEALTHY {
                pause = FIRST_PAUSE;
            }
            restart(part, pause, console).await;
            (pause, since) = (longer(pause), Instant::now());
        } else if look == 0 && part.needs_restart() {
            let why = "cannot write to its disk and stores nothing until it is restarted";
            console.about(part.name(), why);
            let _killed_otherwise = part.stop().await;
        }
        sleep(LOOK).await;
    }
}

async fn restart(part: &mut impl Part, pause: Duration, console: &Console) {
    let died = match (part.pid(), part.exit_status()) {
        (Some(pid), Some(status)) => format!("process {pid} died: {status}"),
        _ => "is not running".to_owned(),
    };
    console.about(part.name(), &format!("{died}; restarting it in {pause:?}"));
    sleep(pause).await;
    let now = match part.start().await {
        Ok(()) => format!("runs again (process {})", part.pid().unwrap_or_default()),
        Err(error) => error.to_string(),
    };
    console.about(part.name(), &now);
}

/// Doubles, up to a limit at which a person still sees that it is being tried.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        assert_eq!(longer(FIRST_PAUSE), Duration::from_secs(1));
        assert_eq!(longer(Duration::from_secs(8)), LONGEST_PAUSE);
    }
}
