//! The delivery platform for one test: broker, user-service, orders-service and drivers' devices.

mod builder;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub use builder::WorldBuilder;
use freehold_harness::world::Disorder;
use freehold_harness::{Proxy, Service, World as Base, eventually, seconds};

use crate::drivers::Driver;
use crate::orders::OrderApi;
use crate::users::UserApi;

/// Everything runs when [`World::start`] returns. What every world has (its broker, its folder, its logs) is in the
/// [base](freehold_harness::World); its final check covers the services here.
#[derive(Debug)]
pub struct World {
    /// In a world built with [`WorldBuilder::with_drivers`].
    pub drivers: Vec<Driver>,
    // Services before the base with its broker: they are dropped, and so killed, in this order.
    pub user_service: Service,
    pub orders_service: Service,
    proxy: Option<Proxy>,
    members: Members,
    base: Base,
}

/// Which parts this world was built with; the final check covers only these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Members {
    broker: bool,
    user_service: bool,
    orders_service: bool,
}

/// The consumer of USERS in orders-service.
const USER_CACHE: &str = "orders-user-cache";
/// A broker that comes back, a refill and a machine that is busy with other tests, all together.
const APPLY_DEADLINE: Duration = seconds(60);

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

    /// Between user-service and the broker, in a world built with [`WorldBuilder::with_proxy`].
    pub fn proxy(&self) -> &Proxy {
        self.proxy
            .as_ref()
            .expect("this world was built with a proxy")
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

    /// Panics unless outboxes and streams agree, every consumer has caught up and there are no dead letters.
    pub async fn check(&mut self) {
        let (base, mut services) = self.parts();
        base.check_among(&mut services).await;
    }

    /// See [`freehold_harness::World::find_disorder`].
    pub async fn find_disorder(&mut self) -> Result<(), Disorder> {
        let (base, mut services) = self.parts();
        base.find_disorder_among(&mut services).await
    }

    /// The base, and the services that its check covers.
    fn parts(&mut self) -> (&mut Base, Vec<&mut Service>) {
        let services = [
            (self.members.user_service, &mut self.user_service),
            (self.members.orders_service, &mut self.orders_service),
        ];
        let members = services.into_iter().filter(|(member, _)| *member);
        let services = members.map(|(_, service)| service).collect();
        (&mut self.base, services)
    }
}

impl Deref for World {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Base {
        &mut self.base
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (base, mut services) = self.parts();
        base.end_among(&mut services);
    }
}
