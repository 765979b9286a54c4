#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

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
