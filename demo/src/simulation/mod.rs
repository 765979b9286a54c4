//! Sample traffic: customers register, rename themselves and place orders at a set rate, a dispatcher assigns the orders, and
//! drivers deliver them.

mod customers;
mod dispatcher;
mod drivers;
mod shared;

use std::sync::Arc;

use freehold_tests::OrderApi;
use freehold_tests::http::UserApi;
use tokio::task::JoinSet;

use crate::console::Console;
use crate::driver::Driver;
use shared::Shared;

/// The services and devices that the simulation acts on. Clones are the same simulation.
#[derive(Clone)]
pub(crate) struct Simulation {
    pub(crate) users: UserApi,
    pub(crate) orders: OrderApi,
    pub(crate) drivers: Vec<Driver>,
    shared: Arc<Shared>,
    console: Console,
}

impl Simulation {
    /// Nothing happens before it is started.
    pub(crate) fn new(
        users: UserApi,
        orders: OrderApi,
        drivers: Vec<Driver>,
        console: &Console,
    ) -> Simulation {
        Simulation {
            users,
            orders,
            drivers,
            shared: Arc::default(),
            console: console.clone(),
        }
    }

    pub(crate) fn start(&self, rate: f64, tasks: &mut JoinSet<()>) {
        let (users, orders, shared) = (
            self.users.clone(),
            self.orders.clone(),
            Arc::clone(&self.shared),
        );
        tasks.spawn(customers::act(
            rate,
            users.clone(),
            orders.clone(),
            Arc::clone(&shared),
            !self.drivers.is_empty(),
        ));
        if self.drivers.is_empty() {
            return;
        }
        let (drivers, console) = (self.drivers.clone(), self.console.clone());
        tasks.spawn(dispatcher::work(
            users,
            orders,
            drivers,
            Arc::clone(&shared),
            console,
        ));
        let simulated = || self.drivers.iter().filter(|driver| !driver.played);
        for driver in simulated() {
            let others = simulated().filter(|other| other.number != driver.number);
            tasks.spawn(drivers::travel(driver.clone(), others.cloned().collect()));
            tasks.spawn(drivers::deliver(driver.clone(), Arc::clone(&shared)));
        }
    }

    /// Requests that were answered with an error, or not at all.
    pub(crate) fn failed_requests(&self) -> u64 {
        self.shared.failed()
    }
}
