//! Runs a whole Freehold on this machine: a real broker, the real services, real files, real kills.
//!
//! The end-to-end tests and `cargo xtask up` use it, and it is a library so that your tests can, too:
//!
//! ```no_run
//! use freehold_tests::{Part, World, eventually, seconds};
//!
//! # async fn story() {
//! let mut world = World::start().await;
//! let user = world.users().register("Ada", "ada@example.org").await.expect_status(201);
//!
//! world.broker.kill();                        // kill -9
//! world.users().rename(user.id(), "Countess").await.expect_status(200); // writes go on without a broker
//! world.broker.start().await.expect("the broker starts again on the same port and store");
//!
//! let order = world.orders().place(user.id(), 1250, "EUR").await.expect_status(201);
//! eventually("the order shows the new name", seconds(5), async || {
//!     let name = world.orders().order_with_user(order.id()).await.body["user"]["name"].clone();
//!     if name == "Countess" { Ok(()) } else { Err(format!("it shows {name}")) }
//! })
//! .await;
//!
//! world.check().await; // outboxes and streams agree byte for byte, no dead letters; dropping the world does it too
//! # }
//! ```
//!
//! Three promises hold everywhere below. **No child outlives us**: a guard process kills each one when we end, however we end
//! (`guard`). **No collisions**: ports are leased between processes (`ports`), files are temporary. **No sleeping for a result**:
//! a test waits for it with a deadline and reports the last reason (`eventually`).
//!
//! Pages are tested in a real Chromium ([`Browser`]); on a machine without one their tests say that they are skipped.
//!
//! Faults, besides kills and pauses: lost acknowledgements (`proxy`), device networks that are down or lose answers (`switch`),
//! power cuts of the broker (`image`), an older, lost or damaged store, deleted, purged and trimmed streams ([`Broker`]), older,
//! lost, damaged and cloned databases, disks rolled back ([`Service`]). Each reports whether it happened: a fault that did not
//! fire proves nothing.

pub mod access;
pub mod broker;
pub mod browser;
pub mod canary;
pub mod cargo;
pub mod chance;
pub mod command;
pub mod credentials;
mod damage;
mod database;
pub mod drivers;
pub mod eventually;
pub mod guard;
pub mod http;
pub mod image;
pub mod metrics;
pub mod observer;
pub mod orders;
pub mod outbox;
pub mod part;
pub mod paths;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod schemathesis;
pub mod services;
pub mod switch;
pub mod tool;
pub mod wire;
pub mod world;

pub use broker::Broker;
pub use browser::Browser;
pub use credentials::{Credentials, Password};
pub use drivers::{Driver, DriverApi, Shown, SyncApi};
pub use eventually::{eventually, seconds, within};
pub use observer::Observer;
pub use orders::OrderApi;
pub use part::Part;
pub use ports::Port;
pub use proxy::Proxy;
pub use services::Service;
pub use switch::Switch;
pub use world::{World, WorldBuilder};
