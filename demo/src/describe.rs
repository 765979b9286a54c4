//! What runs where: a table with lines to copy for people, one JSON object for scripts.

use std::path::Path;

use freehold_tests::services::Service;
use freehold_tests::{Part, paths};
use serde_json::{Map, Value, json};

use crate::data_dir::{DataDir, quoted};
use crate::driver::Device;
use crate::options::Up;
use crate::system::System;

/// The line of `--json`. Scripts rely on these names.
pub(crate) fn json(system: &System, data: &DataDir) -> Value {
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
        "credentials": data.at("credentials.env"),
    })
}

fn service_json(service: &Service) -> Value {
    let docs = format!("{}/docs", service.url());
    json!({"url": service.url(), "docs": docs, "pid": service.pid(), "database": service.database})
}

/// While the file `offline` exists, the device has no network.
fn device_json(device: &Device) -> Value {
    let (driver, network) = (&device.driver, &device.driver.network);
    let mut json = service_json(&device.app);
    json["page"] = device.app.url().into();
    json["name"] = driver.person.into();
    json["driver_id"] = driver.id.clone().into();
    json["played_by_hand"] = driver.played.into();
    json["switch"] = json!({"url": network.url(), "offline": network.file, "on": network.is_on()});
    json
}

pub(crate) fn for_people(system: &System, data: &DataDir, up: &Up) -> String {
    let (observer, folder) = (system.broker.observer(), short(data));
    let (login, broker) = (observer.login(), system.broker.address());
    let kept = match up.ephemeral {
        true => "temporary, deleted at the end".to_owned(),
        false => format!("stays; `{}` deletes it", data.reset_command()),
    };
    let nats = format!(
        "nats --server nats://{}:{}@{broker} --inbox-prefix {}",
        login.user, login.password, login.inbox
    );
    format!(
        "{}{}{}{}{}
  Ask a service for its status (--help lists the other commands), and look into the stream:
    {folder}/user-service status
    {nats} --js-api-prefix from_users.API stream info USERS
    {nats} subscribe 'live.users.>'

  Ctrl-C stops everything.
",
        table(system),
        row("data", &folder, &kept),
        row("logs", &format!("{folder}/logs"), ""),
        pages(system, &folder, up.no_traffic),
        calls(system, &folder),
    )
}

fn table(system: &System) -> String {
    let services = [&system.user_service, &system.orders_service];
    let devices = system.devices.iter().map(|device| &device.app);
    let services = services.into_iter().chain(devices);
    let services: String = services
        .map(|part| {
            let more = format!("{:<16} docs at {}/docs", process(part.pid()), part.url());
            row(part.name(), &part.url(), &more)
        })
        .collect();
    let (pid, version) = (process(system.broker.pid()), system.broker.server().version);
    let more = format!("{pid:<16} nats-server {version}");
    services + &row("broker", &system.broker.url(), &more)
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "left out".to_owned(), |pid| format!("process {pid}"))
}

fn row(name: &str, place: &str, more: &str) -> String {
    let row = format!("  {name:<15} {place:<28} {more}");
    format!("{}\n", row.trim_end())
}

/// What to open first, and how to take a driver's network away.
fn pages(system: &System, folder: &str, no_traffic: bool) -> String {
    let running = || {
        system
            .devices
            .iter()
            .filter(|device| device.app.pid().is_some())
    };
    let Some(one) = running()
        .find(|device| device.driver.played)
        .or(running().next())
    else {
        return String::new();
    };
    let pages: String = running()
        .map(|device| page_line(device, no_traffic))
        .collect();
    let file = format!("{folder}/{}.offline", one.app.name());
    let (file, first) = (quoted(Path::new(&file)), one.driver.first_name());
    let meanwhile = match one.driver.played && !no_traffic {
        true => format!(
            "  Meanwhile the office changes something about an order that {first} has picked up: see the conflict when she is back.\n"
        ),
        false => String::new(),
    };
    format!(
        "
  OPEN THE DRIVERS' PAGES:
{pages}
  Take {first}'s network away, deliver something anyway, and give it back:
    touch {file}
    rm {file}
{meanwhile}"
    )
}

fn page_line(device: &Device, no_traffic: bool) -> String {
    let (driver, person) = (&device.driver, device.driver.person);
    let who = match (&driver.id, no_traffic, driver.played) {
        (None, ..) => format!("not enrolled yet, meant for {person}"),
        (Some(_), true, _) => person.to_owned(),
        (Some(_), false, true) => {
            format!("{person}: you. Orders arrive by themselves, the rest is yours")
        }
        (Some(_), false, false) => format!("{person}: simulated, and offline now and then"),
    };
    format!("    {}/   {who}\n", device.app.url())
}

/// Lines to copy, one step each. They need a shell, curl and sed.
fn calls(system: &System, folder: &str) -> String {
    let (users, orders) = (system.user_service.url(), system.orders_service.url());
    let credentials = quoted(&Path::new(folder).join("credentials.env"));
    let mut devices = system.devices.iter();
    let driver = devices.find_map(|device| Some((device, device.driver.id.as_deref()?)));
    let assign = driver.map(|(device, id)| {
        format!(
            "  Give the order to {}, and see it on the page {}/:
    {}
  Conflicts that wait for a decision:
    api '{orders}/intents?open=true'
",
            device.driver.person,
            device.app.url(),
            assign_line(&orders, id)
        )
    });
    format!(
        "
  Call the services, from another shell. First the token, and three helpers:
    set -a; . {credentials}; set +a
    {}
  Register a user, and place an order for them; the order waits for the event of the registration:
    {}
    {}
{}",
        HELPERS.join("\n    "),
        register_line(&users),
        order_line(&orders),
        assign.unwrap_or_default()
    )
}

/// `api` sends as the operator and shows the whole answer; the others extract the id and the position from one.
const HELPERS: [&str; 3] = [
    r#"api() { curl -sS -i -H "Authorization: Bearer $FREEHOLD_OPERATOR_TOKEN" -H 'Content-Type: application/json' "$@"; echo; }"#,
    r#"id_in() { printf '%s\n' "$1" | sed -n 's/.*{"id":"\([^"]*\)".*/\1/p'; }"#,
    r#"position_in() { printf '%s\n' "$1" | tr -d '\r' | sed -n 's/^freehold-position: //p'; }"#,
];

/// Relative to the workspace when it is inside: `cargo xtask` was typed there.
fn short(data: &DataDir) -> String {
    let path = data.path().strip_prefix(paths::workspace());
    path.unwrap_or(data.path()).display().to_string()
}

/// `$RANDOM` so that the line works twice: an e-mail address belongs to one user. `tee` shows the answer too.
fn register_line(url: &str) -> String {
    format!(
        r#"user=$(api {url}/users -d '{{"name":"Ada","email":"ada'$RANDOM'@example.org"}}' | tee /dev/stderr)"#
    )
}

fn order_line(url: &str) -> String {
    format!(
        r#"order=$(api {url}/orders -H "Freehold-Wait-For: $(position_in "$user")" -d '{{"user_id":"'$(id_in "$user")'","amount_minor":1250,"currency":"EUR"}}' | tee /dev/stderr)"#
    )
}

fn assign_line(url: &str, driver_id: &str) -> String {
    format!(
        r#"api {url}/orders/$(id_in "$order")/assign -H 'If-Match: *' -d '{{"driver_id":"{driver_id}"}}'"#
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
    fn the_helpers_find_id_and_position_in_an_answer() {
        let answer = "HTTP/1.1 201 Created\r\nfreehold-position: users@1042\r\n\r\n{\"id\":\"a-1\",\"user_id\":\"b-2\",\"name\":\"A\\\\d\"}";
        assert_eq!(shell(r#"id_in "$1""#, answer), "a-1");
        assert_eq!(shell(r#"position_in "$1""#, answer), "users@1042");
    }

    #[test]
    fn the_lines_to_copy_are_what_a_shell_reads() {
        for line in [
            register_line("http://127.0.0.1:1"),
            order_line("http://127.0.0.1:2"),
            assign_line("http://127.0.0.1:2", "d-3"),
        ] {
            // A stand-in for `api`: it prints its arguments, word by word.
            let script = format!(
                "api() {{ printf '[%s]' \"$@\"; }}; user=$1; order=$1; {line}; printf %s \"$user$order\""
            );
            let answer = "freehold-position: users@7\n{\"id\":\"a-1\"}";
            let words = shell(&script, answer);
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
