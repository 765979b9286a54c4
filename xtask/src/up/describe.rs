//! What runs where: a table with lines to copy for people, one JSON object for scripts.

use std::path::Path;

use freehold_tests::services::Service;
use freehold_tests::{Part, paths};
use serde_json::{Map, Value, json};

use super::Up;
use super::crew::Device;
use super::system::System;
use crate::data_dir::{DataDir, quoted};

/// The line of `--json`. Scripts rely on these names.
pub(super) fn json(system: &System, data: &DataDir) -> Value {
    let observer = system.broker.observer();
    let devices = system.devices.iter();
    let drivers: Map<_, _> = devices
        .map(|device| (device.app.name().to_owned(), device_json(device)))
        .collect();
    json!({
        "services": {
            "user-service": service_json(&system.user_service),
            "orders-service": service_json(&system.orders_service),
        },
        "drivers": drivers,
        "broker": {"url": system.broker.url(), "pid": system.broker.pid(), "store": system.broker.store()},
        "observer": {"user": observer.login().user, "password": observer.login().password},
        "operator": {"token": system.user_service.operator.reveal()},
        "data_dir": data.path(),
        "credentials": data.credentials(),
    })
}

fn service_json(service: &Service) -> Value {
    json!({
        "url": service.url(), "docs": docs(service), "pid": service.pid(), "database": service.database,
    })
}

/// While the file `offline` lies there, the device has no network.
fn device_json(device: &Device) -> Value {
    let mut json = service_json(&device.app);
    json["page"] = device.app.url().into();
    json["name"] = device.person.into();
    json["driver_id"] = device.driver_id.clone().into();
    json["played_by_hand"] = device.played.into();
    json["switch"] = json!({"url": device.network.url(), "offline": device.network.file(), "on": device.network.is_on()});
    json
}

fn docs(service: &Service) -> String {
    format!("{}/docs", service.url())
}

pub(super) fn for_people(system: &System, data: &DataDir, up: &Up) -> Vec<String> {
    let mut lines = table(system);
    let fate = if up.ephemeral {
        "temporary, goes at the end".to_owned()
    } else {
        format!("stays; `{}` deletes it", data.reset_command())
    };
    lines.push(row("data", &short(data), &fate));
    lines.push(row("logs", &format!("{}/logs", short(data)), ""));
    lines.extend(pages(system, data, up));
    lines.extend(calls(system, data));
    lines.extend([
        String::new(),
        "  Ask a service how it stands (--help names its other commands), look into the stream:"
            .to_owned(),
        format!("    {}/user-service status", short(data)),
        format!(
            "    {}",
            observe_line(system, "--js-api-prefix from_users.API stream info USERS")
        ),
        format!("    {}", observe_line(system, "subscribe 'live.users.>'")),
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
    let devices = system.devices.iter().map(|device| &device.app);
    let mut lines: Vec<_> = services
        .into_iter()
        .chain(devices)
        .map(|part| {
            let more = format!("{:<16} docs at {}", process(part.pid()), docs(part));
            row(part.name(), &part.url(), &more)
        })
        .collect();
    let version = format!(
        "{:<16} nats-server {}",
        process(system.broker.pid()),
        system.broker.server().version
    );
    lines.push(row("broker", &system.broker.url(), &version));
    lines
}

/// What to open first, and how to take a driver's network away.
fn pages(system: &System, data: &DataDir, up: &Up) -> Vec<String> {
    let running: Vec<_> = system
        .devices
        .iter()
        .filter(|device| device.app.pid().is_some())
        .collect();
    let Some(one) = running
        .iter()
        .find(|device| device.played)
        .or(running.first())
    else {
        return vec![];
    };
    let mut lines = vec![String::new(), "  OPEN THE DRIVERS' PAGES:".to_owned()];
    lines.extend(
        running
            .iter()
            .map(|device| page_line(device, up.no_traffic)),
    );
    let file =
        quoted(&Path::new(&short(data)).join(one.network.file().file_name().unwrap_or_default()));
    let number = one.app.name().trim_start_matches("driver-");
    let first = one.person.split(' ').next().unwrap_or_default();
    lines.extend([
        String::new(),
        format!("  Take {first}'s network away, deliver something all the same, and give it back (or type it here: offline {number}, online {number}):"),
        format!("    touch {file}"),
        format!("    rm {file}"),
    ]);
    if one.played && !up.no_traffic {
        lines.push(format!(
            "  Meanwhile the office changes its mind about something {first} has picked up: see the conflict when she is back."
        ));
    }
    lines
}

fn page_line(device: &Device, no_traffic: bool) -> String {
    let person = device.person;
    let told = match (&device.driver_id, no_traffic, device.played) {
        (None, ..) => format!("not enrolled yet; {person} is to be"),
        (Some(_), true, _) => person.to_owned(),
        (Some(_), false, true) => {
            format!("{person}: you. Orders come by themselves, the rest is yours")
        }
        (Some(_), false, false) => format!("{person}: simulated, and without network now and then"),
    };
    format!("    {}/   {told}", device.app.url())
}

/// Lines to copy, one step each. They need nothing but a shell, curl and sed.
fn calls(system: &System, data: &DataDir) -> Vec<String> {
    let (users, orders) = (system.user_service.url(), system.orders_service.url());
    let mut lines = vec![
        String::new(),
        "  Call the services, from another shell. First the token, and three helpers:".to_owned(),
    ];
    let mut say = |text: &str| lines.push(text.to_owned());
    say(&format!("    {}", token_line(data)));
    HELPERS
        .iter()
        .for_each(|helper| say(&format!("    {helper}")));
    say(
        "  Register a user, and order something for them; the order waits for what the registration wrote:",
    );
    say(&format!("    {}", register_line(&users)));
    say(&format!("    {}", order_line(&orders)));
    if let Some((device, driver_id)) = first_driver(system) {
        say(&format!(
            "  Give the order to {}, and see it on the page {}/:",
            device.person,
            device.app.url()
        ));
        say(&format!("    {}", assign_line(&orders, driver_id)));
        say("  Conflicts that wait for a decision:");
        say(&format!("    api '{orders}/intents?open=true'"));
    }
    lines
}

fn first_driver(system: &System) -> Option<(&Device, &str)> {
    let mut devices = system.devices.iter();
    devices.find_map(|device| Some((device, device.driver_id.as_deref()?)))
}

/// `api` sends as the operator and shows the whole answer; the others find the id and the place in the log in one.
const HELPERS: [&str; 3] = [
    r#"api() { curl -sS -i -H "Authorization: Bearer $FREEHOLD_OPERATOR_TOKEN" -H 'Content-Type: application/json' "$@"; echo; }"#,
    r#"id_in() { printf '%s\n' "$1" | sed -n 's/.*{"id":"\([^"]*\)".*/\1/p'; }"#,
    r#"place_in() { printf '%s\n' "$1" | tr -d '\r' | sed -n 's/^freehold-position: //p'; }"#,
];

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
    let file = quoted(&Path::new(&short).join("credentials.env"));
    format!("set -a; . {}; set +a", file)
}

/// `$RANDOM` so that the line works twice: an e-mail address belongs to one user. `tee` shows the answer too.
fn register_line(url: &str) -> String {
    format!(
        r#"user=$(api {url}/users -d '{{"name":"Ada","email":"ada'$RANDOM'@example.org"}}' | tee /dev/stderr)"#
    )
}

fn order_line(url: &str) -> String {
    format!(
        r#"order=$(api {url}/orders -H "Freehold-Wait-For: $(place_in "$user")" -d '{{"user_id":"'$(id_in "$user")'","amount_minor":1250,"currency":"EUR"}}' | tee /dev/stderr)"#
    )
}

fn assign_line(url: &str, driver_id: &str) -> String {
    format!(
        r#"api {url}/orders/$(id_in "$order")/assign -H 'If-Match: *' -d '{{"driver_id":"{driver_id}"}}'"#
    )
}

fn observe_line(system: &System, command: &str) -> String {
    let (login, address) = (
        system.broker.observer().login().clone(),
        system.broker.address(),
    );
    format!(
        "nats --server nats://{}:{}@{address} --inbox-prefix {} {command}",
        login.user, login.password, login.inbox
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What `sh` prints, run with the helpers on this answer of `curl -i`.
    fn shell(command: &str, answer: &str) -> String {
        let script = format!("{}\n{command}", HELPERS.join("\n"));
        let mut sh = Command::new("sh");
        let output = sh.args(["-c", &script, "sh", answer]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn the_helpers_find_id_and_place_in_an_answer() {
        let answer = "HTTP/1.1 201 Created\r\nfreehold-position: users@1042\r\n\r\n{\"id\":\"a-1\",\"user_id\":\"b-2\",\"name\":\"A\\\\d\"}";
        assert_eq!(shell(r#"id_in "$1""#, answer), "a-1");
        assert_eq!(shell(r#"place_in "$1""#, answer), "users@1042");
    }

    #[test]
    fn the_lines_to_copy_are_what_a_shell_reads() {
        for line in [
            register_line("http://127.0.0.1:1"),
            order_line("http://127.0.0.1:2"),
            assign_line("http://127.0.0.1:2", "d-3"),
        ] {
            // A stand-in for `api`: what it would be sent, word by word.
            let told = format!(
                "api() {{ printf '[%s]' \"$@\"; }}; user=$1; order=$1; {line}; printf %s \"$user$order\""
            );
            let answer = "freehold-position: users@7\n{\"id\":\"a-1\"}";
            let words = shell(&told, answer);
            let body = words
                .rsplit("[{")
                .next()
                .unwrap()
                .split(']')
                .next()
                .unwrap();
            let body: Value = serde_json::from_str(&format!("{{{body}")).expect(&words);
            assert!(body.is_object(), "{words}");
        }
    }
}
