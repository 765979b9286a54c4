//! Runs your services on this machine: a real broker, the real services, real files, real kills.
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
pub mod binaries;
pub mod broker;
#[cfg(feature = "browser")]
pub mod browser;
pub mod canary;
pub mod cargo;
pub mod chance;
pub mod command;
pub mod credentials;
mod damage;
mod database;
pub mod declared;
pub mod eventually;
pub mod guard;
pub mod http;
pub mod image;
pub mod manifest;
pub mod metrics;
pub mod observer;
pub mod outbox;
pub mod part;
pub mod paths;
pub mod played;
pub mod ports;
pub mod process;
pub mod proxy;
#[cfg(feature = "schemathesis")]
pub mod schemathesis;
pub mod services;
pub mod switch;
pub mod tool;
pub mod wire;
pub mod world;

pub use broker::Broker;
#[cfg(feature = "browser")]
pub use browser::Browser;
pub use credentials::{Credentials, Password};
pub use declared::Declared;
pub use eventually::{eventually, seconds, within};
pub use manifest::Manifest;
pub use observer::Observer;
pub use part::Part;
pub use ports::Port;
pub use proxy::Proxy;
pub use services::Service;
pub use switch::Switch;
pub use world::{World, WorldBuilder};
