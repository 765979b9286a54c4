//! Puts a world together: which parts it has, where their files lie.

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::{FinalCheck, Members, World};
use crate::broker::{self, Broker, NatsServer};
use crate::credentials::Credentials;
use crate::part::Part;
use crate::ports::Port;
use crate::services::{self, Home, Service};

/// Parts left out are not started; a test may still start them later, but the final check does not ask about them.
#[derive(Clone, Copy, Debug)]
pub struct WorldBuilder {
    members: Members,
}

impl Default for WorldBuilder {
    fn default() -> WorldBuilder {
        WorldBuilder {
            members: Members {
                broker: true,
                user_service: true,
                orders_service: true,
            },
        }
    }
}

impl WorldBuilder {
    #[must_use]
    pub fn without_broker(mut self) -> WorldBuilder {
        self.members.broker = false;
        self
    }

    #[must_use]
    pub fn without_user_service(mut self) -> WorldBuilder {
        self.members.user_service = false;
        self
    }

    #[must_use]
    pub fn without_orders_service(mut self) -> WorldBuilder {
        self.members.orders_service = false;
        self
    }

    /// Builds the services and finds the broker (both once per process), then starts what was not left out.
    ///
    /// Panics with the reason when a part does not start.
    pub async fn start(self) -> World {
        let mut world = self.build().await;
        if self.members.broker {
            world
                .broker
                .start()
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        }
        if self.members.user_service {
            world
                .user_service
                .start()
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        }
        if self.members.orders_service {
            world
                .orders_service
                .start()
                .await
                .unwrap_or_else(|error| panic!("{error}"));
        }
        world
    }

    async fn build(self) -> World {
        let folder = TempDir::with_prefix("freehold-").expect("a temporary folder");
        let server = spawn_blocking(|| broker::nats_server(&|line| eprintln!("broker: {line}")))
            .await
            .expect("the search does not panic")
            .unwrap_or_else(|error| panic!("{error:#}"));
        let binaries = if self.members.user_service || self.members.orders_service {
            spawn_blocking(services::binaries)
                .await
                .expect("the build does not panic")
                .unwrap_or_else(|error| panic!("{error:#}"))
        } else {
            folder.path().join("no-services-built")
        };
        self.assemble(folder, server, binaries)
    }

    fn assemble(self, folder: TempDir, server: NatsServer, binaries: std::path::PathBuf) -> World {
        let credentials = Credentials::generate();
        let logs = folder.path().join("logs");
        let port = || Port::any().expect("a free port");
        let broker = Broker::new(
            server,
            port(),
            folder.path().join("broker"),
            logs.clone(),
            credentials.clone(),
        );
        let home = Home {
            binaries,
            databases: folder.path().to_owned(),
            logs,
            broker_url: broker.url(),
        };
        let user_service = Service::users(&home, port(), &credentials);
        let orders_service = Service::orders(&home, port(), &credentials, &user_service.url());
        World {
            user_service,
            orders_service,
            broker,
            members: self.members,
            final_check: FinalCheck::Due,
            dead_letters_expected: false,
            folder,
        }
    }
}
