//! The command line of `up`, and which ports it means.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum, value_parser};
use freehold_tests::Port;
use freehold_tests::declared::Declared;
use freehold_tests::services::{ORDERS_SERVICE, USER_SERVICE};

use crate::with::With;

/// Every variable that `up` reads; the services inherit none of the caller's.
const ENVIRONMENT: &str = "\
Environment:
  FREEHOLD_NATS_SERVER  The nats-server to run [default: one on this machine, else fetched]
  XDG_CACHE_HOME        A fetched nats-server is kept in freehold/ below it [default: ~/.cache]
  FREEHOLD_BIN_DIR      A folder with the programs of freehold.toml and driver-app in it; then nothing is built
  FREEHOLD_<STREAM>_PASSWORD, FREEHOLD_OBSERVER_PASSWORD
                        Broker passwords, in place of the generated ones in credentials.env
  FREEHOLD_<STREAM>_READ_TOKEN
                        The tokens that services send each other, in place of the generated ones
  FREEHOLD_OPERATOR_TOKEN
                        The token that people send to the services, in place of the generated one";

/// Runs broker, services and devices until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub struct Up {
    /// Port of user-service [default: the declared one when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    users_port: Option<u16>,

    /// Port of orders-service [default: the declared one when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    orders_port: Option<u16>,

    /// Port of the first driver's device, and its page [default: 7103 when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    driver_1_port: Option<u16>,

    /// Port of the second driver's device, and its page [default: 7104 when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    driver_2_port: Option<u16>,

    /// Port of the broker [default: 4222 when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    broker_port: Option<u16>,

    /// Sample traffic, in events per second. With drivers, customers place an order only while few orders wait for a driver,
    /// and do something else instead
    #[arg(long, value_name = "EVENTS", default_value_t = 5.0, value_parser = parse_rate)]
    pub(crate) rate: f64,

    /// No sample traffic: nothing happens except what you ask for
    #[arg(long)]
    pub(crate) no_traffic: bool,

    /// No drivers and no devices: orders are placed and wait
    #[arg(long)]
    no_drivers: bool,

    /// Which driver you play, on the page of their device: the simulation gives them orders and does nothing for them
    #[arg(long, value_name = "DRIVER", value_enum, default_value = "2")]
    pub(crate) manual_driver: Played,

    /// Run this service, too, whose program is elsewhere; repeatable. Its port, its stream and what it follows are what PROGRAM
    /// declares
    #[arg(long, value_name = "NAME=PROGRAM")]
    pub(crate) with: Vec<With>,

    /// Do not start this service or device; repeatable. For the commands that need it stopped while the broker runs. Without
    /// user-service or orders-service there is no sample traffic
    #[arg(long, value_name = "NAME")]
    pub(crate) without: Vec<String>,

    /// Keep nothing: the data is in a temporary folder, deleted at the end
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) ephemeral: bool,

    /// Where the data stays between runs [default: .freehold in the workspace]
    #[arg(long, value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,

    /// For scripts: one line of JSON on stdout once everything is ready, then nothing more there. A process that dies is
    /// restarted, and a line on stderr gives its new process number
    #[arg(long)]
    pub(crate) json: bool,

    /// Run the services built with optimisations
    #[arg(long)]
    pub(crate) release: bool,
}

/// Which drivers a person plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Played {
    #[value(name = "1")]
    First,
    #[value(name = "2")]
    Second,
    Both,
    None,
}

/// The chosen ports, besides those of the services; `drivers` is empty or has one for each.
pub(crate) struct Ports {
    pub(crate) broker: Port,
    pub(crate) drivers: Vec<Port>,
}

impl Up {
    pub(crate) fn ports(&self) -> Result<Ports> {
        let first = choose("--driver-1-port", self.driver_1_port, 7103)?;
        let second = choose("--driver-2-port", self.driver_2_port, 7104)?;
        Ok(Ports {
            broker: choose("--broker-port", self.broker_port, 4222)?,
            drivers: if self.no_drivers {
                vec![]
            } else {
                vec![first, second]
            },
        })
    }

    /// One for each, in their order.
    pub(crate) fn service_ports(&self, services: &[Declared]) -> Result<Vec<Port>> {
        let port = |service: &Declared| match service.name.as_str() {
            USER_SERVICE => choose("--users-port", self.users_port, service.port),
            ORDERS_SERVICE => choose("--orders-port", self.orders_port, service.port),
            _ => Ok(Port::preferably(service.port)?),
        };
        services.iter().map(port).collect()
    }
}

impl Played {
    pub(crate) fn includes(self, number: usize) -> bool {
        match self {
            Played::Both => true,
            Played::None => false,
            one => number == 1 + one as usize,
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate| (0.01..=100_000.0).contains(rate));
    rate.ok_or_else(|| "a number from 0.01 to 100000; use --no-traffic for none".to_owned())
}

/// The stated port or a refusal; else the usual one when it is free, else any.
fn choose(flag: &str, stated: Option<u16>, usual: u16) -> Result<Port> {
    let Some(number) = stated else {
        return Ok(Port::preferably(usual)?);
    };
    let refusal = |why| {
        anyhow!("{flag} {number}: {why}. Name another port, or leave {flag} out to get a free one")
    };
    Port::exactly(number).map_err(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_names_the_drivers_they_play_by_number() {
        let played = |text: &str| {
            [1, 2].map(|number| Played::from_str(text, false).unwrap().includes(number))
        };
        assert_eq!(played("1"), [true, false]);
        assert_eq!(played("2"), [false, true]);
        assert_eq!(played("both"), [true, true]);
        assert_eq!(played("none"), [false, false]);
    }

    #[test]
    fn a_stated_port_that_is_taken_is_refused_and_a_usual_one_replaced() {
        let taken = Port::any().unwrap();
        let refusal = choose("--users-port", Some(taken.number()), 7101)
            .expect_err("taken")
            .to_string();
        assert!(
            refusal.starts_with(&format!("--users-port {taken}: "))
                && refusal.contains("leave --users-port out"),
            "{refusal}"
        );
        let other = choose("--users-port", None, taken.number()).unwrap();
        assert_ne!(other.number(), taken.number());
    }
}
