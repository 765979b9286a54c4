//! `commands.sh` in the data folder: a shell reads it for `api`, people read it for lines to copy. It needs sh and curl.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use freehold_tests::services::USER_SERVICE;

use crate::data_dir::DataDir;
use crate::driver::Device;
use crate::scripts::quoted;
use crate::system::System;

pub(crate) const FILE: &str = "commands.sh";

/// `up` writes it at each start, because ports and passwords may have changed.
pub(crate) fn write(system: &System, data: &DataDir, no_traffic: bool) -> Result<()> {
    let path = data.at(FILE);
    let parts = [
        helpers(system),
        calls(),
        drivers(system, no_traffic),
        operating(system, data),
    ];
    fs::write(&path, parts.join("\n"))
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What the lines below need: addresses, the operator's token, `api`.
fn helpers(system: &System) -> String {
    let services = system.services.iter();
    let addresses: String = services
        .map(|service| format!("{}={}\n", service.stream().to_lowercase(), service.url()))
        .collect();
    format!(
        "# `. commands.sh` in sh, bash or zsh defines what the lines below need. `cargo xtask up` writes this file at each start.
{addresses}export FREEHOLD_OPERATOR_TOKEN={}
{API}",
        system.operator.reveal(),
    )
}

/// Both variables keep their value while answers bring no new one.
const API: &str = r#"
# Sends as the operator and prints the answer. Then $id is the id in it, and -H "$after" lets the next request wait
# until the other service has applied this write. `api -v …` shows the headers, too.
api() {
  answer=$(curl -sS -i -H "Authorization: Bearer $FREEHOLD_OPERATOR_TOKEN" -H 'Content-Type: application/json' "$@" | tr -d '\r')
  body=$(printf '%s\n' "$answer" | sed '1,/^$/d')
  new_id=$(printf '%s\n' "$body" | sed -n 's/^{"id":"\([^"]*\)".*/\1/p')
  new_after=$(printf '%s\n' "$answer" | sed -n 's/^freehold-position:/Freehold-Wait-For:/p')
  id=${new_id:-${id-}} after=${new_after:-${after-}}
  printf '%s\n' "$body"
}
"#;
/// `date` so that the line works twice: an e-mail address belongs to one user.
pub(crate) const REGISTER: &str =
    r#"api $users/users -d '{"name":"Ada","email":"ada'$(date +%s)'@example.org"}'"#;
/// The order needs nothing but the user's id; to show the name, orders-service must have applied the registration.
pub(crate) const ORDER: &str = r#"api $orders/orders -H "$after" -d '{"user_id":"'$id'","amount_minor":1250,"currency":"EUR"}'; api "$orders/orders/$id?include=user""#;

fn calls() -> String {
    format!(
        "# Register a user; then place an order for them, and see it with their name:
#   {REGISTER}
#   {ORDER}
# Every API, with a line to copy for each call: the pages $users/docs and $orders/docs
"
    )
}

/// What to do with a driver.
fn drivers(system: &System, no_traffic: bool) -> String {
    let Some(device) = system.first_device() else {
        return String::new();
    };
    let (person, file) = (device.driver.person, quoted(&device.driver.network.file));
    let meanwhile = match device.driver.played && !no_traffic {
        true => {
            "# Meanwhile an operator changes something about an order that was picked up: see the conflict on the page.\n"
        }
        false => "",
    };
    format!(
        "{}# Take {person}'s network away, deliver something anyway on {}/, and give it back:
#   touch {file}
#   rm {file}
{meanwhile}# Conflicts that wait for a decision:
#   api \"$orders/intents?open=true\"
",
        assignment(device),
        device.app.url()
    )
}

/// None for a device that is not enrolled.
fn assignment(device: &Device) -> String {
    let driver = &device.driver;
    let line = driver.id.as_deref().map(|id| {
        format!(
            "# Give the order that you placed to {}, and see it on the page {}/:
#   {}
",
            driver.person,
            device.app.url(),
            assign_line(id)
        )
    });
    line.unwrap_or_default()
}

fn assign_line(driver_id: &str) -> String {
    format!(r#"api $orders/orders/$id/assign -H 'If-Match: *' -d '{{"driver_id":"{driver_id}"}}'"#)
}

fn operating(system: &System, data: &DataDir) -> String {
    let (broker, observer) = (&system.broker, system.broker.observer());
    let login = observer.login();
    let nats = format!(
        "nats --server nats://{}:{}@{} --inbox-prefix {}",
        login.user,
        login.password,
        broker.address(),
        login.inbox
    );
    format!(
        "# Ask a service for its status; --help lists the other commands:
#   {} status
# Look into a stream, with the nats program, as the observer, who may read every stream and change nothing:
#   {nats} --js-api-prefix from_users.API stream info USERS
#   {nats} subscribe 'live.users.>'
# The broker is nats-server {} at {}. All logs: {}
# Delete all data, after Ctrl-C in the terminal of `cargo xtask up`:
#   {}
",
        quoted(&data.at(USER_SERVICE)),
        broker.server().version,
        broker.server().program.display(),
        data.at("logs").display(),
        data.reset_command(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What `sh` prints after these lines. curl is a stand-in: it prints the words that it got, one in brackets each, on stderr and
    /// answers what stands here.
    fn shell(lines: &str) -> (String, String) {
        let curl = r#"curl() {
  printf '[%s]' "$@" >&2
  printf 'HTTP/1.1 201 Created\r\nfreehold-position: users@7\r\n\r\n{"id":"a-1","user":{"id":"b-2"}}'
}"#;
        let mut sh = Command::new("sh");
        let output = sh.args(["-c", &format!("{curl}\n{API}\n{lines}")]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    #[test]
    fn api_prints_the_answer_and_keeps_its_id_and_its_position() {
        let (shown, _) = shell("api /users; echo \"$id $after\"");
        let answer = "{\"id\":\"a-1\",\"user\":{\"id\":\"b-2\"}}";
        assert_eq!(shown, format!("{answer}\na-1 Freehold-Wait-For: users@7\n"));
        let (_, sent) = shell("FREEHOLD_OPERATOR_TOKEN=secret; api /users");
        assert!(sent.contains("[Authorization: Bearer secret]"), "{sent}");
    }

    #[test]
    fn an_answer_without_an_id_and_a_position_changes_neither() {
        let plain = "curl() { printf 'HTTP/1.1 200 OK\\r\\n\\r\\n{\"items\":[]}'; }";
        let (shown, _) = shell(&format!(
            "id=c-3 after=d; {plain}; api /users; echo $id $after"
        ));
        assert_eq!(shown, "{\"items\":[]}\nc-3 d\n");
    }

    #[test]
    fn the_lines_to_copy_send_what_they_mean() {
        let (_, sent) = shell(&format!(
            "users=http://u orders=http://o; {REGISTER}; {ORDER}"
        ));
        assert!(sent.contains("[http://u/users]"), "{sent}");
        assert!(sent.contains("[Freehold-Wait-For: users@7]"), "{sent}");
        assert!(
            sent.contains(r#"[{"user_id":"a-1","amount_minor":1250,"currency":"EUR"}]"#),
            "{sent}"
        );
        assert!(
            sent.contains("[http://o/orders/a-1?include=user]"),
            "{sent}"
        );
        let (_, sent) = shell(&format!("orders=http://o id=a-1; {}", assign_line("d-3")));
        assert!(sent.contains(r#"[{"driver_id":"d-3"}]"#), "{sent}");
    }
}
