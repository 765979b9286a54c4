//! The settings every service has: flags, then environment, then defaults.

pub(crate) mod about;
pub(crate) mod owners;
pub(crate) mod redacted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::http::uri::Authority;
use clap::Args;
use clap::builder::BoolishValueParser;
use relay::Nats;
use relay::nats::DEFAULT_STREAM_BYTES;
use relay::publish::Retention;
use tokio::net::TcpListener;

use crate::process::files::sibling;
use about::About;
use redacted::Redacted;
use service_kit::Limits;

/// The settings of every service.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonArgs {
    /// Address and port to answer HTTP on; port 0 takes a free one and prints it. Loopback only: callers send tokens, and
    /// the service has no TLS of its own
    #[arg(long, env = "FREEHOLD_LISTEN", value_name = "IP:PORT")]
    pub listen: Loopback,

    /// The SQLite file this service owns; created when it does not exist
    #[arg(long, env = "FREEHOLD_DATABASE", value_name = "FILE")]
    pub database: PathBuf,

    /// The file of hashed tokens that the service accepts; `token new` adds one. A running service follows every change
    /// [default: the database's path with .access appended]
    #[arg(long, env = "FREEHOLD_ACCESS", value_name = "FILE")]
    pub access: Option<PathBuf>,

    /// How many requests each operator and each other service may send in a second, and twice as many at once after a
    /// pause. Callers of other kinds may send a fraction of it; /livez, /readyz and /metrics are free
    #[arg(
        long,
        env = "FREEHOLD_MAX_REQUESTS_PER_SECOND",
        value_name = "N",
        default_value_t = Limits::DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_requests_per_second: u32,

    /// The NATS server. While it is down writes go on and their events wait in the outbox
    #[arg(
        long,
        env = "FREEHOLD_BROKER",
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222",
        hide_env_values = true
    )]
    pub broker: Redacted,

    /// Accept writes although the file may be a restored backup, without waiting for its stream: for when broker and
    /// stream are gone for good. Events that the file lacks are lost, and a stream that comes back will be a fork of it.
    /// Use it for one start; the file's audit records it
    #[arg(
        long,
        env = "FREEHOLD_OPEN_WITHOUT_STREAM",
        value_parser = BoolishValueParser::new()
    )]
    pub open_without_stream: bool,

    /// Remove events from stream and outbox once there are more than this many. Without this and the next, nothing is
    /// ever removed
    #[arg(
        long,
        env = "FREEHOLD_KEEP_EVENTS",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub keep_events: Option<u64>,

    /// Remove events from stream and outbox once they are older than this and a newer event follows
    #[arg(
        long,
        env = "FREEHOLD_KEEP_DAYS",
        value_name = "D",
        value_parser = clap::value_parser!(u64).range(1..=36_500)
    )]
    pub keep_days: Option<u64>,

    /// Keep events that a reader has not read yet, until it has not reported its position for so long; it loads a
    /// snapshot then. 0: remove them at once
    #[arg(
        long,
        env = "FREEHOLD_HOLD_READERS",
        value_name = "DAYS",
        default_value = "7",
        value_parser = days
    )]
    pub hold_readers: Duration,

    /// The size limit of the stream, in bytes. When it is full nothing more is published and events wait in the outbox; an
    /// alarm comes before. The account file must leave room for it: `broker-config` prints it with this setting
    #[arg(
        long,
        env = "FREEHOLD_MAX_STREAM_BYTES",
        value_name = "BYTES",
        default_value_t = DEFAULT_STREAM_BYTES,
        value_parser = clap::value_parser!(u64).range(1_000_000..=i64::MAX as u64)
    )]
    pub max_stream_bytes: u64,
}

/// `nats://HOST:PORT`
#[derive(Debug)]
struct BrokerUrl(String);

/// An address that only this machine can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loopback(SocketAddr);

impl CommonArgs {
    /// The key file: the given one, or `users.db.keys` next to `users.db` itself, which the given path may link to.
    pub(crate) fn keys(&self, given: Option<PathBuf>) -> PathBuf {
        given.unwrap_or_else(|| sibling(&self.database, "keys"))
    }

    /// The access file.
    pub(crate) fn access(&self) -> PathBuf {
        let access = self.access.clone();
        access.unwrap_or_else(|| sibling(&self.database, "access"))
    }

    /// How much of the log the service keeps.
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            max_age: self
                .keep_days
                .map(|days| Duration::from_secs(days * 86_400)),
            max_events: self.keep_events,
            hold_readers: self.hold_readers,
        }
    }

    /// The broker, not yet connected.
    pub(crate) fn nats(&self, about: &About) -> anyhow::Result<Nats> {
        let BrokerUrl(url) = self.broker.read("--broker")?;
        let password = password(about, std::env::var(about.password_variable()).ok())?;
        Ok(Nats::new(&url, about.name, &password, &about.inbox()))
    }
}

/// Never empty: for nats-server an empty password means that none is needed.
fn password(about: &About, found: Option<String>) -> anyhow::Result<String> {
    match found {
        Some(password) if !password.is_empty() => Ok(password),
        _ => bail!(
            "{} is not set or empty: set it to the password that the broker was given for {}",
            about.password_variable(),
            about.name
        ),
    }
}

impl Loopback {
    /// Takes the port.
    ///
    /// # Errors
    ///
    /// Another process holds the port, or the machine has no such address.
    pub async fn bind(self) -> anyhow::Result<TcpListener> {
        let Self(address) = self;
        let listener = TcpListener::bind(address).await;
        listener.with_context(|| {
            format!("cannot listen on {address}: stop what holds it, or choose another port with --listen (0 takes a free one)")
        })
    }
}

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: SocketAddr = text
            .parse()
            .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:7101")?;
        match address.ip().to_canonical().is_loopback() {
            true => Ok(Self(address)),
            false => Err("not a loopback address: tokens would travel in the clear, since this service has no TLS of its own; let it listen on 127.0.0.1 and put a proxy that has some in front of it".to_owned()),
        }
    }
}

/// Days or parts of one.
fn days(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(days) if (0.0..=36_500.0).contains(&days) => {
            Ok(Duration::from_secs_f64(days * 86_400.0))
        }
        _ => Err("expected a number of days, such as 7 or 0.5, up to 36500"),
    }
}

impl FromStr for BrokerUrl {
    type Err = &'static str;

    /// Checked here in full, since the relay would retry a wrong address for ever.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected nats://HOST:PORT, such as nats://127.0.0.1:4222";
        let address = text.strip_prefix("nats://").ok_or(EXPECTED)?;
        if address.contains('@') {
            return Err(
                "user and password do not belong into the URL: the password comes from the environment",
            );
        }
        let address: Authority = address.parse().map_err(|_| EXPECTED)?;
        match (address.host(), address.port_u16()) {
            ("", _) | (_, None | Some(0)) => Err(EXPECTED),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_can_reach_a_service() {
        for here in ["127.0.0.1:7101", "127.0.0.2:0", "[::1]:80"] {
            assert!(here.parse::<Loopback>().is_ok(), "{here}");
        }
        for beyond in ["0.0.0.0:7101", "[::]:0", "192.168.1.5:80"] {
            assert!(
                beyond.parse::<Loopback>().unwrap_err().contains("proxy"),
                "{beyond}"
            );
        }
        assert!("localhost".parse::<Loopback>().is_err());
    }

    #[test]
    fn readers_are_held_for_days_or_parts_of_one() {
        let hour = Duration::from_secs(3_600);
        for (text, time) in [("0", Duration::ZERO), ("7", 168 * hour), ("0.5", 12 * hour)] {
            assert_eq!(days(text), Ok(time), "{text}");
        }
        for bad in ["", "-1", "NaN", "inf", "36501", "7d"] {
            assert!(days(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_password_is_refused_with_the_cure() {
        let about = About::new("test-service", 0);
        for none in [None, Some(String::new())] {
            let refusal = password(&about, none).unwrap_err().to_string();
            assert!(
                refusal.contains("FREEHOLD_TEST_PASSWORD is not set or empty"),
                "{refusal}"
            );
        }
        assert_eq!(password(&about, Some("x".to_owned())).unwrap(), "x");
    }

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        for good in [
            "nats://127.0.0.1:4222",
            "nats://[::1]:4222",
            "nats://broker.example.org:4222",
        ] {
            assert!(good.parse::<BrokerUrl>().is_ok(), "{good}");
        }
        for other in [
            "",
            "127.0.0.1:4222",
            "http://127.0.0.1:4222",
            "nats://",
            "nats://127.0.0.1",
            "nats://:4222",
            "nats://:::::",
            "nats://h:",
            "nats://h:0",
            "nats://h:many",
            "nats://h:65536",
            "nats://h:4222/path",
            "nats://a b:4222",
        ] {
            let refusal = other.parse::<BrokerUrl>().unwrap_err();
            assert!(refusal.contains("HOST:PORT"), "{other}");
        }
    }

    #[test]
    fn a_secret_in_the_broker_url_is_refused_and_never_shown() {
        let broker: Redacted = "nats://a:s3cret@h:4222".parse().unwrap();
        let refusal = broker.read::<BrokerUrl>("--broker").unwrap_err();
        let shown = format!("{refusal:?} {broker:?}");
        assert!(shown.contains("--broker") && shown.contains("do not belong"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[tokio::test]
    async fn a_taken_port_is_one_line_with_the_cure() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = Loopback(holder.local_addr().unwrap());
        let refusal = format!("{:#}", listen.bind().await.unwrap_err());
        assert!(
            refusal.contains("--listen") && refusal.contains("in use"),
            "{refusal}"
        );
    }
}
