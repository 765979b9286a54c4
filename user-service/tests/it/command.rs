//! The operator's commands, run as a process, without a broker.

use std::fs;
use std::path::Path;
use std::process::Command;

use service_kit::testing::{Ended, assert_private, run, start, start_and_kill};
use tempfile::TempDir;

use crate::world::World;

#[test]
fn a_command_needs_an_existing_database() {
    let home = Home::empty();
    for command in [
        &["status"][..],
        &["verify"],
        &["quarantine"],
        &["backup", "b.db"],
        &["new-epoch"],
    ] {
        let ended = home.run(command);
        assert_eq!(ended.code, Some(1), "{command:?} {ended:?}");
        assert!(ended.err.starts_with("error: "), "{ended:?}");
        assert!(ended.err.contains("there is no database"), "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
        assert_eq!(ended.out, "");
    }
    let left: Vec<_> = home.folder().read_dir().unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_invalid_command_line_exits_with_2() {
    let home = Home::empty();
    for command in [
        &["nonsense"][..],
        &["backup"],
        &["status", "--dry-run"],
        &["dead-letter", "discard", "1"],
        &["--keep-events", "0"],
        &["--hold-readers", "-1"],
    ] {
        assert_eq!(home.run(command).code, Some(2), "{command:?}");
    }
}

#[test]
fn broker_config_prints_the_account_file_that_nats_conf_includes() {
    let printed = Home::empty().run(&["broker-config"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(printed.out, include_str!("../../nats-account.conf"));
}

#[tokio::test]
async fn without_a_broker_status_works_and_verify_fails() {
    let home = Home::with_two_users().await;
    let status = home.run(&["status"]);
    assert_eq!(status.code, Some(4), "{status:?}");
    for line in [
        "service       user-service does not run\n",
        "writes        accepted after the next start\n",
        "events        1 to 2, the last is ",
        "stream        USERS: no connection to the broker at nats://127.0.0.1:1",
        "dead letters  0\n",
    ] {
        assert!(status.out.contains(line), "{line:?} {status:?}");
    }
    let status = home.run(&["status", "--json"]).json();
    assert_eq!(status["healthy"], false);
    assert_eq!(status["running"], false);
    assert_eq!(status["last"]["seq"], 2);
    assert_eq!(status["stream"]["state"], "unknown");

    let verified = home.run(&["verify"]);
    assert_eq!(verified.code, Some(4), "{verified:?}");
    assert!(
        verified
            .out
            .starts_with("stream USERS  not compared: no connection"),
        "{verified:?}"
    );
    assert_eq!(home.run(&["verify", "--json"]).json()["result"], "unknown");
    for decision in ["adopt-stream", "new-epoch"] {
        let refused = home.run(&[decision, "--dry-run"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.err.contains("cannot be compared: no connection"),
            "{refused:?}"
        );
    }
    let quarantined = home.run(&["set-aside"]); // the name of earlier versions
    assert_eq!(
        (quarantined.code, &*quarantined.out),
        (Some(0), "quarantined  nothing\n")
    );
    for command in [&["dead-letter", "list"][..], &["rebuild", "x"]] {
        let refused = home.run(command);
        assert_eq!(refused.code, Some(1));
        assert_eq!(refused.err, "error: user-service has no consumers\n");
    }
}

#[tokio::test]
async fn a_command_that_needs_the_broker_names_the_missing_password() {
    let home = Home::with_two_users().await;
    let backup = home.path("b.db");
    assert_eq!(run(home.program().args(["backup", &backup])).code, Some(0));
    for command in [&["verify"][..], &["restore", &backup], &["adopt-stream"]] {
        let refused = run(home
            .program()
            .args(command)
            .env_remove("FREEHOLD_USERS_PASSWORD"));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.err.contains("FREEHOLD_USERS_PASSWORD is not set"),
            "{refused:?}"
        );
    }
    let status = run(home
        .program()
        .arg("status")
        .env_remove("FREEHOLD_USERS_PASSWORD"));
    assert_eq!(status.code, Some(4), "{status:?}");
    assert!(
        status
            .out
            .contains("not asked: FREEHOLD_USERS_PASSWORD is not set")
    );
    assert!(!fs::exists(home.path("users.db.before-restore")).unwrap());
}

#[tokio::test]
async fn a_restored_backup_waits_for_its_stream() {
    let home = Home::with_two_users().await;
    let backup = home.path("b.db");
    let taken = home.run(&["backup", &backup]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert!(taken.out.contains("last event  2 ("), "{taken:?}");
    assert!(taken.out.contains("not in it   the key file "), "{taken:?}");
    let again = home.run(&["backup", &backup]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("never overwritten"), "{again:?}");

    let before = fs::read(home.path("users.db")).unwrap();
    let looked = home
        .run(&["restore", &backup, "--dry-run", "--json"])
        .json();
    assert_eq!(
        (&looked["done"], &looked["manifest"]["seq"]),
        (&false.into(), &2.into())
    );
    assert_eq!(fs::read(home.path("users.db")).unwrap(), before);

    let home = home.with_another().await;
    let restored = home.run(&["restore", &backup]);
    assert_eq!(restored.code, Some(4), "{restored:?}");
    for line in [
        "as of event 2\n",
        "not reached: no connection to the broker",
        "imports the missing events before it accepts writes",
        "kept      the replaced file: ",
        "unknown   whether the stream holds the later events of the replaced file; it ended at 3 and is kept at ",
    ] {
        assert!(restored.out.contains(line), "{line} {restored:?}");
    }
    let status = home.run(&["status"]);
    assert_eq!(status.code, Some(3), "{status:?}");
    assert!(
        status.out.contains(
            "refused after the next start until the file is compared with its stream: it "
        ),
        "{status:?}"
    );
    assert!(status.out.contains("marked: "), "{status:?}");
    assert_private(home.folder());
}

#[tokio::test]
async fn a_changed_backup_is_not_restored() {
    let home = Home::with_two_users().await;
    let backup = home.path("b.db");
    home.run(&["backup", &backup]);
    let mut bytes = fs::read(&backup).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&backup, bytes).unwrap();
    let before = fs::read(home.path("users.db")).unwrap();
    for command in [
        &["restore", &backup, "--dry-run"][..],
        &["restore", &backup],
    ] {
        let refused = home.run(command);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains("use another one"), "{refused:?}");
    }
    assert_eq!(fs::read(home.path("users.db")).unwrap(), before);
}

#[tokio::test]
async fn without_its_keys_a_backup_is_not_restored_and_no_new_keys_are_made() {
    let home = Home::with_two_users().await;
    let backup = home.path("b.db");
    home.run(&["backup", &backup]);
    fs::remove_file(home.path("users.db.keys")).unwrap();
    for command in [&["restore", &backup][..], &["new-epoch"], &["rotate-key"]] {
        let refused = home.run(command);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused
                .err
                .contains("users.db.keys is missing: put the copy of it back"),
            "{refused:?}"
        );
    }
    assert!(!fs::exists(home.path("users.db.keys")).unwrap());
}

#[tokio::test]
async fn a_fresh_key_joins_the_old_ones() {
    let home = Home::with_two_users().await;
    let before = fs::read(home.path("users.db.keys")).unwrap();
    let looked = home.run(&["rotate-key", "--dry-run", "--json"]).json();
    assert_eq!(looked["keys"].as_array().unwrap().len(), 1);
    assert_eq!(fs::read(home.path("users.db.keys")).unwrap(), before);
    let rotated = home.run(&["rotate-key", "--json"]).json();
    assert_eq!(rotated["done"], true);
    assert_eq!(rotated["keys"].as_array().unwrap().len(), 2);
    assert_eq!(rotated["keys"][0], looked["keys"][0]);
    let said = start_and_kill(&mut home.program());
    assert!(said.ready.starts_with("listening on"), "{}", said.log);
}

#[tokio::test]
async fn while_the_service_runs_status_says_so_and_no_command_changes_its_file() {
    let home = Home::with_two_users().await;
    let backup = home.path("b.db");
    let service = start(&mut home.program());
    let status = home.run(&["status"]);
    assert_eq!(status.code, Some(3), "{status:?}");
    assert!(
        status.out.contains("user-service runs, not connected: "),
        "{status:?}"
    );
    assert!(
        status.out.contains("writes        accepted\n"),
        "{status:?}"
    );
    assert_eq!(home.run(&["backup", &backup]).code, Some(0));
    for command in [
        &["restore", &backup][..],
        &["adopt-stream"],
        &["new-epoch", "--dry-run"],
    ] {
        let refused = home.run(command);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.err.contains("in use by another process"),
            "{refused:?}"
        );
    }
    let socket = home.path("users.db.admin");
    assert!(fs::exists(&socket).unwrap());
    assert_private(home.folder());
    assert_eq!(service.stop().code, Some(0));
    assert!(!fs::exists(&socket).unwrap());

    start_and_kill(&mut home.program());
    assert!(fs::exists(&socket).unwrap(), "a crash leaves it");
    let status = home.run(&["status"]);
    assert!(
        status.out.contains("user-service does not run\n"),
        "{status:?}"
    );
}

/// A folder, with a database and its keys or empty.
struct Home {
    folder: TempDir,
}

impl Home {
    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    async fn with_two_users() -> Self {
        let world = World::start().await;
        world.registered("Ada", "ada@example.org").await;
        world.registered("Bob", "bob@example.org").await;
        world.db.close().await;
        keep_private(world.folder.path());
        Self {
            folder: world.folder,
        }
    }

    async fn with_another(self) -> Self {
        let world = World::of(self.folder).await;
        world.registered("Eve", "eve@example.org").await;
        world.db.close().await;
        Self {
            folder: world.folder,
        }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> String {
        self.folder().join(name).to_str().unwrap().to_owned()
    }

    fn program(&self) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_user-service"));
        program
            .env_clear()
            .current_dir(self.folder())
            .env("FREEHOLD_USERS_PASSWORD", "x")
            .env("FREEHOLD_BROKER", "nats://127.0.0.1:1")
            .env("FREEHOLD_LISTEN", "127.0.0.1:0")
            .env("FREEHOLD_DATABASE", self.folder().join("users.db"));
        program
    }

    fn run(&self, command: &[&str]) -> Ended {
        run(self.program().args(command))
    }
}

/// The tests' own process creates files with the umask of its user.
fn keep_private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in folder.read_dir().unwrap() {
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(entry.unwrap().path(), mode).unwrap();
    }
}
