//! Builds a world: its parts and their files.

use std::io;

use freehold_harness::{Broker, Part, Port, Proxy, World as Base};
use tokio::task::spawn_blocking;

use super::{Members, World};
use crate::drivers::Driver;
use crate::services;

/// Parts left out are not started; a test may still start them later, but the final check ignores them.
#[derive(Clone, Copy, Debug)]
pub struct WorldBuilder {
    members: Members,
    proxy: bool,
    drivers: usize,
    disk: Disk,
    account: Option<&'static str>,
}

/// The disk of the broker's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Folder,
    Image { flushed_every: Option<&'static str> },
}

impl Default for WorldBuilder {
    fn default() -> WorldBuilder {
        WorldBuilder {
            members: Members {
                broker: true,
                user_service: true,
                orders_service: true,
            },
            proxy: false,
            drivers: 0,
            disk: Disk::Folder,
            account: None,
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

    /// user-service reaches the broker through a [`Proxy`] that can lose acknowledgements.
    #[must_use]
    pub fn with_proxy(mut self) -> WorldBuilder {
        self.proxy = true;
        self
    }

    /// This many drivers, each enrolled with a running device behind a [`Switch`](freehold_harness::Switch) of its own. Their devices run,
    /// but are enrolled by the test, in a world without orders-service.
    #[must_use]
    pub fn with_drivers(mut self, count: usize) -> WorldBuilder {
        self.drivers = count;
        self
    }

    /// Adds this account to the broker: the text of an account file.
    #[must_use]
    pub fn with_account(mut self, text: &'static str) -> WorldBuilder {
        self.account = Some(text);
        self
    }

    /// Puts the broker's store on a disk of its own, whose power [`Broker::power_cut`] can cut.
    #[must_use]
    pub fn with_power_cuts(mut self) -> WorldBuilder {
        self.disk = Disk::Image {
            flushed_every: None,
        };
        self
    }

    /// The same, and the broker flushes only at this interval ("2m") instead of before each acknowledgement.
    #[must_use]
    pub fn with_power_cuts_and_flushes_every(mut self, interval: &'static str) -> WorldBuilder {
        self.disk = Disk::Image {
            flushed_every: Some(interval),
        };
        self
    }

    /// Builds the services and finds the broker (both once per process), then starts what was not left out.
    ///
    /// Panics with the reason when a part does not start.
    pub async fn start(self) -> World {
        let mut world = self.build().await;
        if self.members.broker {
            start(&mut world.broker).await;
        }
        if self.members.user_service {
            start(&mut world.user_service).await;
        }
        if self.members.orders_service {
            start(&mut world.orders_service).await;
        }
        if let Err(error) = self.start_drivers(&mut world).await {
            panic!("the drivers cannot start: {error:#}");
        }
        world
    }

    async fn start_drivers(self, world: &mut World) -> anyhow::Result<()> {
        let office = world.orders();
        for driver in &mut world.drivers {
            driver.app.start().await?;
            if self.members.orders_service {
                driver.join(&office).await?;
            }
        }
        Ok(())
    }

    async fn build(self) -> World {
        let mut base = Base::empty(&services::accounts()).await;
        if !self.members.broker {
            base.leave_broker_out();
        }
        if self.members.user_service || self.members.orders_service || self.drivers > 0 {
            base.home_mut().binaries = spawn_blocking(services::binaries)
                .await
                .expect("the build does not panic")
                .unwrap_or_else(|error| panic!("{error:#}"));
        }
        self.prepare_disk(&mut base.broker)
            .expect("a disk for the broker");
        if let Some(account) = self.account {
            let added = base.broker.change(|settings| settings.account(account));
            added.expect("a file next to the databases");
        }
        self.assemble(base)
    }

    fn assemble(self, base: Base) -> World {
        let (home, credentials) = (base.home(), base.broker.credentials());
        let port = || Port::any().expect("a free port");
        let proxy = self
            .proxy
            .then(|| Proxy::start(base.broker.address(), "USERS").expect("a free port"));
        let mut user_service =
            services::users(home, port(), credentials).expect("a place for its access file");
        let orders_service = services::orders(home, port(), credentials, &user_service.url())
            .expect("a place for its access file");
        if let Some(proxy) = &proxy {
            user_service.broker_url = proxy.url();
        }
        let drivers = (1..=self.drivers)
            .map(|n| Driver::new(home, port(), &format!("driver-{n}"), &orders_service))
            .collect::<io::Result<_>>()
            .expect("a port for a device");
        World {
            drivers,
            user_service,
            orders_service,
            proxy,
            members: self.members,
            base,
        }
    }

    fn prepare_disk(self, broker: &mut Broker) -> io::Result<()> {
        match self.disk {
            Disk::Folder => Ok(()),
            Disk::Image { flushed_every } => {
                broker.put_store_on_image()?;
                flushed_every.map_or(Ok(()), |interval| {
                    broker.change(|settings| settings.sync_interval(interval))
                })
            }
        }
    }
}

async fn start(part: &mut impl Part) {
    let started = part.start().await;
    started.unwrap_or_else(|error| panic!("{error}"));
}
