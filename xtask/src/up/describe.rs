//! What runs where: a table with lines to copy for people, one JSON object for scripts.

use std::path::Path;

use freehold_tests::services::Service;
use freehold_tests::{Part, paths};
use serde_json::{Value, json};

use super::system::System;
use crate::data_dir::{DataDir, quoted};

/// The line of `--json`. Scripts rely on these names.
pub(super) fn json(system: &System, data: &DataDir) -> Value {
    let observer = system.broker.observer();
    json!({
        "services": {
            "user-service": service_json(&system.user_service),
            "orders-service": service_json(&system.orders_service),
        },
        "broker": {"url": system.broker.url(), "pid": system.broker.pid(), "store": system.broker.store()},
        "observer": {"user": observer.login().user, "password": observer.login().password},
        "operator": {"token": system.user_service.operator.reveal()},
        "data_dir": data.path(),
    })
}

fn service_json(service: &Service) -> Value {
    json!({"url": service.url(), "pid": service.pid(), "database": service.database})
}

pub(super) fn for_people(system: &System, data: &DataDir, ephemeral: bool) -> Vec<String> {
    let mut lines = table(system);
    let fate = if ephemeral {
        "temporary, goes at the end".to_owned()
    } else {
        format!("stays; `{}` deletes it", data.reset_command())
    };
    lines.push(row("data", &short(data), &fate));
    lines.push(row(
        "docs",
        &format!("{}/docs", system.user_service.url()),
        "and of orders-service, at its own",
    ));
    lines.push(row("logs", &format!("{}/logs", short(data)), ""));
    lines.extend([
        String::new(),
        "  Load the operator's token, register a user, and order something for them:".to_owned(),
        format!("    {}", token_line(data)),
        format!("    {}", register_line(system)),
        format!("    {}", order_line(system)),
    ]);
    lines.extend([
        String::new(),
        "  Look into the stream as the observer:".to_owned(),
        format!("    {}", observe_line(system)),
    ]);
    lines.extend([
        String::new(),
        "  Ask a service how it stands (--help names its other commands):".to_owned(),
        format!("    {}/user-service status", short(data)),
        String::new(),
        "  Ctrl-C stops everything.".to_owned(),
        String::new(),
    ]);
    lines
}

fn table(system: &System) -> Vec<String> {
    let process = |pid: Option<u32>| match pid {
        Some(pid) => format!("process {pid}"),
        None => "left out".to_owned(),
    };
    let services = [&system.user_service, &system.orders_service];
    let mut lines: Vec<_> = services
        .iter()
        .map(|part| row(part.name(), &part.url(), &process(part.pid())))
        .collect();
    let version = format!(
        "{}, nats-server {}",
        process(system.broker.pid()),
        system.broker.server().version
    );
    lines.push(row("broker", &system.broker.url(), &version));
    lines
}

fn row(name: &str, place: &str, more: &str) -> String {
    format!("  {name:<15} {place:<28} {more}")
        .trim_end()
        .to_owned()
}

/// Relative to the workspace when it lies in it: that is where the command was typed.
fn short(data: &DataDir) -> String {
    data.path()
        .strip_prefix(paths::workspace())
        .unwrap_or(data.path())
        .display()
        .to_string()
}

/// Without it every call is a stranger's.
fn token_line(data: &DataDir) -> String {
    let short = short(data);
    format!(". {}", quoted(&Path::new(&short).join("credentials.env")))
}

/// `$RANDOM` so that the line works twice: an e-mail address belongs to one user. `tee` shows the user, `$user` keeps the id.
fn register_line(system: &System) -> String {
    let url = system.user_service.url();
    format!(
        r#"user=$(curl -sS {url}/users -H "authorization: Bearer $FREEHOLD_OPERATOR_TOKEN" -H 'content-type: application/json' -d '{{"name":"Ada","email":"ada'$RANDOM'@example.org"}}' | tee /dev/stderr | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')"#
    )
}

fn order_line(system: &System) -> String {
    let url = system.orders_service.url();
    format!(
        r#"curl -sS {url}/orders -H "authorization: Bearer $FREEHOLD_OPERATOR_TOKEN" -H 'content-type: application/json' -d '{{"user_id":"'$user'","amount_minor":1250,"currency":"EUR"}}'"#
    )
}

fn observe_line(system: &System) -> String {
    let (login, address) = (
        system.broker.observer().login().clone(),
        system.broker.address(),
    );
    format!(
        "nats --server nats://{}:{}@{address} --inbox-prefix {} --js-api-prefix from_users.API stream info USERS",
        login.user, login.password, login.inbox
    )
}
