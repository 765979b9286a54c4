//! The services whose streams this one follows: where each answers over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use clap::{Arg, ArgMatches, value_parser};
use relay::Consumer;
use relay::log::Producer;
use service_kit::{BaseUrl, HttpProducer, Token};

use super::about::variable;
use super::redacted::Redacted;

/// The followed streams, each with the port of this machine at which its owner is asked unless a flag says otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Followed(BTreeMap<&'static str, Option<u16>>);

/// The service that owns a stream.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Where it answers.
    pub url: BaseUrl,
    /// What it requires of services that read its state. The refusal says what to set.
    pub token: Result<Token, String>,
    variable: String,
}

/// The owners of the followed streams whose address is known.
pub(crate) type Owners = BTreeMap<&'static str, Owner>;

impl Followed {
    pub(crate) fn add(&mut self, stream: &'static str) {
        self.0.entry(stream).or_default();
    }

    pub(crate) fn at(&mut self, stream: &'static str, port: u16) {
        self.0.insert(stream, Some(port));
    }

    /// A flag for each: `--users-url`.
    pub(crate) fn flags(&self) -> impl Iterator<Item = Arg> {
        self.0.iter().map(|(stream, port)| flag(stream, *port))
    }

    pub(crate) fn read(&self, given: &ArgMatches) -> anyhow::Result<Owners> {
        let owner = |stream| {
            let url = given.get_one::<Redacted>(&id(stream))?;
            Some(Owner::new(stream, url).map(|owner| (stream, owner)))
        };
        self.0.keys().copied().filter_map(owner).collect()
    }
}

#[cfg(feature = "testing")]
impl Followed {
    /// Owners that a test does not run: nothing answers at port 9 of this machine.
    pub(crate) fn out_of_reach(&self) -> Owners {
        let nowhere: Redacted = "http://127.0.0.1:9".parse().expect("it takes any text");
        let owner = |stream| (stream, Owner::new(stream, &nowhere).expect("it is a URL"));
        self.0.keys().copied().map(owner).collect()
    }
}

impl Owner {
    fn new(stream: &str, url: &Redacted) -> anyhow::Result<Self> {
        let variable = variable(stream, "READ_TOKEN");
        Ok(Self {
            url: url.read(&format!("--{}", id(stream)))?,
            token: Token::from_env(&variable),
            variable,
        })
    }

    /// Lets the consumer ask it. Without a token the consumer has the stream alone.
    pub(crate) fn answers(&self, consumer: Consumer) -> anyhow::Result<Consumer> {
        Ok(match &self.token {
            Ok(token) if consumer.producer().is_none() => consumer.asks(self.producer(token)?),
            _ => consumer,
        })
    }

    fn producer(&self, token: &Token) -> anyhow::Result<Arc<dyn Producer>> {
        let producer = HttpProducer::new(self.url.clone(), token.clone(), self.variable.clone());
        Ok(Arc::new(producer.context("cannot make an HTTP client")?))
    }
}

fn id(stream: &str) -> String {
    format!("{}-url", stream.to_lowercase().replace('_', "-"))
}

fn flag(stream: &str, port: Option<u16>) -> Arg {
    let token = variable(stream, "READ_TOKEN");
    let help = format!(
        "The address of the service that owns {stream}: it is asked for a snapshot when a cache cannot follow the stream. The token is in {token}"
    );
    let arg = Arg::new(id(stream))
        .long(id(stream))
        .env(variable(stream, "URL"))
        .hide_env_values(true)
        .value_name("URL")
        .value_parser(value_parser!(Redacted))
        .help(help);
    match port {
        Some(port) => arg.default_value(format!("http://127.0.0.1:{port}")),
        None => arg,
    }
}
