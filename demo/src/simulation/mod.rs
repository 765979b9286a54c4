//! Sample traffic: customers register, rename themselves and place orders at a set rate, a dispatcher assigns the orders, and
//! drivers deliver them.

mod customers;
mod dispatcher;
mod drivers;
mod scene;

use tokio::task::JoinSet;

pub(crate) use scene::Scene;

/// Runs until the tasks are dropped. Without drivers, orders are placed and wait.
pub(crate) fn start(scene: &Scene, rate: f64, tasks: &mut JoinSet<()>) {
    tasks.spawn(customers::act(scene.clone(), rate));
    if !scene.drivers.is_empty() {
        tasks.spawn(dispatcher::work(scene.clone()));
    }
    let simulated = || scene.drivers.iter().filter(|driver| !driver.played);
    for driver in simulated() {
        let others = simulated().filter(|other| other.number != driver.number);
        tasks.spawn(drivers::travel(driver.clone(), others.cloned().collect()));
        tasks.spawn(drivers::deliver(driver.clone(), scene.clone()));
    }
}
