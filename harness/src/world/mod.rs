//! A private Freehold for one test: a broker, services and files of its own, and a final check that it ends in order.

mod builder;
mod check;
mod logs;

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use relay::Event;
use tempfile::TempDir;

pub use builder::WorldBuilder;
pub use check::Disorder;

use crate::broker::Broker;
use crate::declared::Account;
use crate::guard::Guard;
use crate::http::Api;
use crate::observer::Observer;
use crate::part::Part;
use crate::played::Played;
use crate::services::{Home, Service};

/// A broker, services, and services that the test plays.
///
/// Each part is started, stopped, killed and paused through [`Part`]; ports and files survive that. Everything is
/// removed when the world is dropped. That also runs [`World::check`] unless it ran before, and prints all logs when the test
/// failed.
#[derive(Debug)]
pub struct World {
    // Before the broker: they are dropped, and so killed, in this order.
    services: Vec<Service>,
    played: Vec<Played>,
    /// The broker of this world.
    pub broker: Broker,
    has_broker: bool,
    final_check: FinalCheck,
    dead_letters_expected: bool,
    trimmed_streams_expected: bool,
    home: Home,
    folder: TempDir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FinalCheck {
    Due,
    Done,
    /// By a test that leaves disorder on purpose and checks it itself.
    Waived,
    /// The world is being dropped.
    Over,
}

impl World {
    /// For a world of the services that a test names.
    pub fn builder() -> WorldBuilder {
        WorldBuilder::default()
    }

    /// A broker with these accounts that is not started yet, and no services: for a harness that holds its services itself.
    ///
    /// Panics with the reason when there is no nats-server, no free port or no place for files.
    #[doc(hidden)] // For the platform's own World in tests/.
    pub async fn empty(accounts: &[Account]) -> World {
        let made = builder::empty(accounts).await;
        made.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Its folder is deleted however we end.
    fn of(broker: Broker, home: Home, folder: TempDir) -> Result<World> {
        Guard::of_this_process()?.delete(folder.path())?;
        Ok(World {
            services: vec![],
            played: vec![],
            broker,
            has_broker: true,
            final_check: FinalCheck::Due,
            dead_letters_expected: false,
            trimmed_streams_expected: false,
            home,
            folder,
        })
    }

    /// The final check covers no broker, and the world may never start it.
    #[doc(hidden)] // For the platform's own World in tests/.
    pub fn leave_broker_out(&mut self) {
        self.has_broker = false;
    }

    /// As the owner of the event's stream, which [`WorldBuilder::plays`] made this test: stores the event in an outbox, from which
    /// it is published. Returns its sequence.
    ///
    /// Panics if the test does not play that stream.
    pub async fn emit<E: Event>(&self, event: &E) -> u64 {
        let stream = E::STREAM;
        let played = self.played.iter().find(|it| it.stream() == stream);
        let played = played
            .unwrap_or_else(|| panic!("this test does not play {stream}: .plays::<…>() does it"));
        let emitted = played.emit(event).await;
        emitted.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// In the order in which they were added.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Panics when there is none of this name.
    #[track_caller]
    pub fn service(&self, name: &str) -> &Service {
        let found = self.services.iter().find(|service| service.name() == name);
        found.unwrap_or_else(|| panic!("this world has no {name}"))
    }

    /// The service of this name, to kill or stop it. Panics when the world has none.
    #[track_caller]
    pub fn service_mut(&mut self, name: &str) -> &mut Service {
        let mut services = self.services.iter_mut();
        let found = services.find(|service| service.name() == name);
        found.unwrap_or_else(|| panic!("this world has no {name}"))
    }

    /// The API of this service, called as its operator.
    #[track_caller]
    pub fn api(&self, name: &str) -> Api {
        Api::of(self.service(name))
    }

    /// The folders of this world, for a part that a test adds.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The folders of this world.
    #[doc(hidden)] // For the platform's own World in tests/.
    pub fn home_mut(&mut self) -> &mut Home {
        &mut self.home
    }

    /// Reads every stream.
    pub fn observer(&self) -> Observer {
        self.broker.observer()
    }

    /// The folder of this world: databases, broker store, logs. Put your own files here, too; they are deleted with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of all logs.
    pub fn logs(&self) -> PathBuf {
        self.folder().join("logs")
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

    /// Panics unless outboxes and streams agree, every consumer has caught up and there are no dead letters. See
    /// [`World::find_disorder`].
    pub async fn check(&mut self) {
        let mut services = std::mem::take(&mut self.services);
        self.check_among(&mut services.iter_mut().collect::<Vec<_>>())
            .await;
        self.services = services;
    }

    /// What is wrong, if anything: starts the parts that the test left stopped (only running parts can agree), waits until every
    /// stream has caught up with its outbox and every consumer with its stream, then compares count, sequences, subjects and
    /// bytes of every event, and looks for dead letters.
    pub async fn find_disorder(&mut self) -> Result<(), Disorder> {
        let mut services = std::mem::take(&mut self.services);
        let mut members: Vec<_> = services.iter_mut().collect();
        let found = self.find_disorder_among(&mut members).await;
        self.services = services;
        found
    }

    /// [`World::check`] for a harness that holds its services itself.
    #[doc(hidden)] // For the platform's own World in tests/.
    pub async fn check_among(&mut self, services: &mut [&mut Service]) {
        self.final_check = FinalCheck::Done;
        if let Err(disorder) = self.find_disorder_among(services).await {
            logs::print(&self.logs());
            panic!("the world was left in disorder: {disorder}");
        }
    }

    /// What dropping does, for a harness that holds its services itself; a second call does nothing.
    #[doc(hidden)] // For the platform's own World in tests/.
    pub fn end_among(&mut self, services: &mut [&mut Service]) {
        let state = std::mem::replace(&mut self.final_check, FinalCheck::Over);
        if std::thread::panicking() && state != FinalCheck::Over {
            self.show_failure();
        } else if state == FinalCheck::Due
            && let Err(disorder) = self.check_now(services)
        {
            self.show_failure();
            panic!("the world was left in disorder: {disorder}");
        }
    }

    fn show_failure(&mut self) {
        logs::print(&self.logs());
        logs::keep_files_if_asked(&mut self.folder);
    }

    /// On a thread and runtime of its own: a destructor cannot await, and the test's runtime may have one thread only.
    fn check_now(&mut self, services: &mut [&mut Service]) -> Result<(), Disorder> {
        let run = || -> io::Result<_> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        };
        let check = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                run()
                    .map_err(Disorder::from)?
                    .block_on(self.find_disorder_among(services))
            });
            thread.join()
        });
        check.unwrap_or_else(|_| Err(Disorder::new("the final check panicked")))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mut services = std::mem::take(&mut self.services);
        self.end_among(&mut services.iter_mut().collect::<Vec<_>>());
    }
}
