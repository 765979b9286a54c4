//! What a service needs of the machine, checked at the start: without descriptors it would listen and never answer.

use std::fs;
use std::path::Path;

use anyhow::bail;
use jiff::Timestamp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections at a time, where the machine gives descriptors for so many. One more takes the place of one that is of no use.
pub const MAX_CONNECTIONS: usize = 1024;
/// For files, the runtime and the connections to other services: twice the measured number.
const OWN_DESCRIPTORS: u64 = 64;
/// With fewer connections than this a service would refuse its first callers.
const MIN_CONNECTIONS: u64 = 64;
/// A new database needs this at once: its tables, its WAL, and the WAL's index.
const MIN_ROOM_BYTES: u64 = 1 << 20;
/// 2020-01-01: no earlier clock is right.
const MIN_CLOCK_S: i64 = 1_577_836_800;

/// For every program, before its runtime, which panics without descriptors.
///
/// # Errors
///
/// The limit of open files is too low for any program of ours.
pub fn raise_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _refused = setrlimit(Resource::Nofile, raised);
    check_descriptors(descriptors(), OWN_DESCRIPTORS)
}

/// For a program that serves: enough descriptors, and a disk with room for a new database.
///
/// # Errors
///
/// Too few descriptors to serve, or less than 1 MiB of room on the disk of the database.
pub fn check_machine(database: &Path) -> anyhow::Result<()> {
    check_descriptors(descriptors(), OWN_DESCRIPTORS + MIN_CONNECTIONS)?;
    warn_of_few_connections(descriptors());
    let folder = match database.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    match rustix::fs::statvfs(folder) {
        Ok(disk) => check_room(database, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(_) => Ok(()), // opening the file reports it
    }
}

/// Every event has a time, so a clock that was never set is refused.
///
/// # Errors
///
/// The clock shows a time before 2020.
pub fn check_clock() -> anyhow::Result<()> {
    check_clock_at(Timestamp::now())
}

/// How many connections there are descriptors for.
pub fn max_connections() -> usize {
    connections_of(descriptors())
}

fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile).current;
    limit.unwrap_or(u64::MAX)
}

fn connections_of(open_files: u64) -> usize {
    let connections = open_files.saturating_sub(OWN_DESCRIPTORS);
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    connections.clamp(1, MAX_CONNECTIONS)
}

const CURE: &str = "raise the limit (`ulimit -n 4096`, or LimitNOFILE= in a systemd unit)";

fn check_descriptors(open_files: u64, needed: u64) -> anyhow::Result<()> {
    if open_files < needed {
        bail!("this process may open {open_files} files, and needs {needed} at least: {CURE}");
    }
    Ok(())
}

fn warn_of_few_connections(open_files: u64) {
    let connections = connections_of(open_files);
    if connections < MAX_CONNECTIONS {
        tracing::warn!(
            connections,
            "this process may open {open_files} files, so it takes fewer connections than {MAX_CONNECTIONS}: {CURE}"
        );
    }
}

/// A full disk costs writes, never reads: a database that exists is opened without room.
fn check_room(database: &Path, free_bytes: u64) -> anyhow::Result<()> {
    if free_bytes >= MIN_ROOM_BYTES {
        return Ok(());
    }
    let path = database.display();
    match fs::metadata(database).is_ok_and(|file| file.len() > 0) {
        false => bail!(
            "no room for a new database {path}: its disk has {free_bytes} bytes left, and {MIN_ROOM_BYTES} are needed: make room"
        ),
        true => tracing::warn!(
            %path,
            free_bytes,
            "the disk is full: reads are answered, writes are refused until there is room"
        ),
    }
    Ok(())
}

fn check_clock_at(now: Timestamp) -> anyhow::Result<()> {
    match now.as_second() < MIN_CLOCK_S {
        true => bail!("the clock says {now:.0}, which cannot be: set it, and start again"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_refused_and_few_mean_fewer_connections() {
        let refused = check_descriptors(127, 128).unwrap_err().to_string();
        assert!(refused.contains("ulimit -n"), "{refused}");
        check_descriptors(128, 128).unwrap();
        for (descriptors, connections) in [
            (0, 1),
            (128, 64),
            (1024, 960),
            (4096, MAX_CONNECTIONS),
            (u64::MAX, MAX_CONNECTIONS),
        ] {
            assert_eq!(connections_of(descriptors), connections);
        }
    }

    #[test]
    fn a_full_disk_is_no_place_for_a_new_database_and_no_reason_to_leave_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        check_machine(&database).unwrap();
        let refused = check_room(&database, 4096).unwrap_err().to_string();
        assert!(refused.contains("4096 bytes left"), "{refused}");
        fs::write(&database, "").unwrap();
        check_room(&database, 0).unwrap_err();
        fs::write(&database, "x").unwrap();
        check_room(&database, 0).unwrap();
    }

    #[test]
    fn a_clock_that_was_never_set_is_refused() {
        for never_set in ["1970-01-01T00:00:07Z", "2019-12-31T23:59:59Z"] {
            let refused = check_clock_at(never_set.parse().unwrap()).unwrap_err();
            assert!(refused.to_string().contains(never_set), "{refused}");
        }
        check_clock().unwrap();
    }
}
