//! Runs a whole Freehold on this machine: a real broker, the real services, real files, real kills.
//!
//! The end-to-end tests and `cargo xtask up` use it. For tests of your own services take [`freehold_harness`].
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
//! Code about users, orders and drivers is here; the rest is in the harness.

pub mod cargo;
pub mod drivers;
pub mod orders;
pub mod paths;
pub mod services;
pub mod users;
pub mod world;

pub use freehold_harness::*;

pub use drivers::{Driver, DriverApi, Shown, SyncApi};
pub use orders::OrderApi;
pub use users::UserApi;
pub use world::{World, WorldBuilder};
