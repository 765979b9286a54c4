//! A private Freehold for one test: broker, services and files of its own, and a final check that it ends in order.

mod builder;
mod check;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

pub use builder::WorldBuilder;
pub use check::Disorder;

use crate::broker::Broker;
use crate::drivers::Driver;
use crate::eventually::{eventually, seconds};
use crate::http::UserApi;
use crate::observer::Observer;
use crate::orders::OrderApi;
use crate::proxy::Proxy;
use crate::services::{Home, Service};

/// Everything runs when [`World::start`] returns, and everything is removed when the world is dropped.
///
/// Each part is started, stopped, killed and paused through [`Part`](crate::Part); ports and files survive that. Dropping the world
/// runs [`World::check`] unless it ran before, and prints all logs when the test failed.
#[derive(Debug)]
pub struct World {
    /// In a world built with [`WorldBuilder::with_drivers`].
    pub drivers: Vec<Driver>,
    // Services before the broker: they are dropped, and so killed, in this order.
    pub user_service: Service,
    pub orders_service: Service,
    pub broker: Broker,
    proxy: Option<Proxy>,
    members: Members,
    final_check: FinalCheck,
    dead_letters_expected: bool,
    trimmed_streams_expected: bool,
    home: Home,
    folder: TempDir,
}

/// Which parts this world was built with; the final check covers only these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Members {
    broker: bool,
    user_service: bool,
    orders_service: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FinalCheck {
    Due,
    Done,
    /// By a test that leaves disorder on purpose and checks it itself.
    Waived,
}

/// The consumer of USERS in orders-service.
const USER_CACHE: &str = "orders-user-cache";
/// A broker that comes back, a refill and a machine that is busy with other tests, all together.
const APPLY_DEADLINE: Duration = seconds(60);
/// Shown per log when a test fails.
const LOG_LINES: usize = 40;
/// If it is set, the files of a failed world are kept and their path is printed.
const KEEP_VARIABLE: &str = "FREEHOLD_KEEP_FAILED";

impl World {
    /// Broker, user-service and orders-service, all ready.
    pub async fn start() -> World {
        World::builder().start().await
    }

    /// For a world with other parts.
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    pub fn users(&self) -> UserApi {
        UserApi::of(&self.user_service)
    }

    pub fn orders(&self) -> OrderApi {
        OrderApi::of(&self.orders_service)
    }

    /// The folders of this world, for a part that a test adds.
    pub fn home(&self) -> &Home {
        &self.home
    }

    pub fn observer(&self) -> Observer {
        self.broker.observer()
    }

    /// Between user-service and the broker, in a world built with [`WorldBuilder::with_proxy`].
    pub fn proxy(&self) -> &Proxy {
        self.proxy
            .as_ref()
            .expect("this world was built with a proxy")
    }

    /// The folder of this world: databases, broker store, logs. Put your own files here, too; they are deleted with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn logs(&self) -> PathBuf {
        self.folder().join("logs")
    }

    /// Waits until orders-service has applied stream USERS up to and including this sequence.
    pub async fn until_applied(&self, seq: u64) {
        eventually(
            "orders-service has applied it",
            APPLY_DEADLINE,
            async || {
                let metrics = self
                    .orders()
                    .metrics()
                    .await
                    .map_err(|error| format!("{error:#}"))?;
                let offset = metrics.labelled("freehold_consumer_offset", "consumer", USER_CACHE);
                match offset {
                    Some(offset) if offset >= seq as f64 => Ok(()),
                    _ => Err(format!("its offset is {offset:?}, not {seq}")),
                }
            },
        )
        .await;
    }

    /// Lets the final check accept dead letters.
    pub fn expect_dead_letters(&mut self) {
        self.dead_letters_expected = true;
    }

    /// Lets the final check accept that a stream lacks the oldest events of its outbox.
    pub fn expect_trimmed_streams(&mut self) {
        self.trimmed_streams_expected = true;
    }

    /// Skips the final check. Give the reason at the call: this check finds unexpected faults.
    pub fn waive_final_check(&mut self) {
        self.final_check = FinalCheck::Waived;
    }

    /// Panics unless outboxes and streams agree and there are no dead letters. See [`World::find_disorder`].
    pub async fn check(&mut self) {
        self.final_check = FinalCheck::Done;
        if let Err(disorder) = self.find_disorder().await {
            self.print_logs();
            panic!("the world was left in disorder: {disorder}");
        }
    }

    /// From the files, not the children: killed parts have logs, too.
    fn print_logs(&self) {
        let mut files: Vec<_> = fs::read_dir(self.logs())
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.path())
            .collect();
        files.sort();
        for file in files {
            let text = fs::read(&file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            eprintln!(
                "── {} ──\n{tail}",
                file.file_name().unwrap_or_default().display()
            );
        }
    }

    fn keep_files_if_asked(&mut self) {
        if std::env::var_os(KEEP_VARIABLE).is_some() {
            self.folder.disable_cleanup(true);
            eprintln!(
                "── the files of this world are kept in {} ──",
                self.folder().display()
            );
        }
    }

    /// On a thread and runtime of its own: a destructor cannot await, and the test's runtime may have one thread only.
    fn check_now(&mut self) -> Result<(), Disorder> {
        let run = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        };
        let check = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                run()
                    .map_err(Disorder::from)?
                    .block_on(self.find_disorder())
            });
            thread.join()
        });
        check.unwrap_or_else(|_| Err(Disorder::new("the final check panicked")))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
            self.keep_files_if_asked();
        } else if self.final_check == FinalCheck::Due
            && let Err(disorder) = self.check_now()
        {
            self.print_logs();
            self.keep_files_if_asked();
            panic!("the world was left in disorder: {disorder}");
        }
    }
}
