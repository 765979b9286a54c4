//! `backup` and `restore`: copies of the database, and a restore that names everything it loses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use relay::database::Gate;
use relay::error::{LogError, chain};
use relay::operate::{Manifest, Restored};
use relay::publish::Step;
use relay::{Database, Keys, Relay};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

use crate::admin::command::answer::{Answer, Progress, count};
use crate::admin::setup::Setup;
use crate::process::exit::Outcome;

/// How long a restored file may take to agree with its stream. The events that it has imported by then stay.
const MAX_RECONCILE_TIME: Duration = Duration::from_secs(60);
/// How often an unreachable broker is tried, and the pause in between. The next start tries again.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn backup(setup: &Setup, to: PathBuf) -> anyhow::Result<Answer> {
    let (database, options) = (setup.database().to_owned(), setup.options.clone());
    let (from, file) = (database.display().to_string(), to.display().to_string());
    let manifest =
        spawn_blocking(move || relay::operate::backup(&database, &options, &to)).await??;
    let json = json!({"done": true, "file": file, "manifest": manifest, "key_file": setup.keys});
    let keys = setup.keys.as_ref().map(|keys| {
        let keys = keys.display();
        format!("the key file {keys}: keep a copy of it, apart from this backup")
    });
    Ok(describe(json, &file, &manifest)
        .line("of", from)
        .lines("not in it", keys))
}

pub(super) async fn restore(setup: &Setup, from: PathBuf, dry_run: bool) -> anyhow::Result<Answer> {
    match dry_run {
        true => check(setup, from).await,
        false => replace(setup, from).await,
    }
}

/// Checks the backup and shows what `restore` would do.
async fn check(setup: &Setup, from: PathBuf) -> anyhow::Result<Answer> {
    let (options, file) = (setup.options.clone(), from.display().to_string());
    let manifest = spawn_blocking(move || relay::operate::check_backup(&from, &options)).await??;
    let (database, there) = (setup.database().display(), setup.database().exists());
    let json = json!({"done": false, "file": file, "manifest": manifest, "would_put_aside": there});
    let replaces = match there {
        true => format!("{database}, which would be kept under another name"),
        false => format!("nothing: there is no {database}"),
    };
    Ok(describe(json, &file, &manifest).line("would replace", replaces))
}

fn describe(json: Value, file: &str, manifest: &Manifest) -> Answer {
    let id = manifest.event_id.as_deref().unwrap_or("none");
    let taken = match manifest.taken_at.as_str() {
        "" => "at an unknown time: it has no manifest",
        at => at,
    };
    Answer::new(json)
        .line("backup", file)
        .line(
            "database",
            format!("{}, epoch {}", manifest.database_id, manifest.epoch),
        )
        .line("last event", format!("{} ({id})", manifest.seq))
        .line(
            "size",
            format!("{} bytes, sha256 {}", manifest.bytes, manifest.sha256),
        )
        .line("taken", taken)
}

/// Reads keys and password first, so that a missing one is reported before any file changes.
async fn replace(setup: &Setup, from: PathBuf) -> anyhow::Result<Answer> {
    let (stream, options) = (setup.stream(&setup.nats()?), setup.with_keys(Keys::open)?);
    let (database, plain) = (setup.database().to_owned(), setup.options.clone());
    let restored =
        spawn_blocking(move || relay::operate::restore(&from, &plain, &database)).await??;
    let db = Database::open(setup.database(), options).await?;
    let (met, why) = reconcile(&db, Relay::new(&db, stream)).await;
    let head = db.outbox().committed();
    db.close().await;
    Ok(report(setup.database(), &restored, head, met, &why))
}

/// Runs the relay until the file agrees with the stream (`Done`) or writes are halted (`Differs`). `Unknown`: the stream was not
/// reached, and the next start tries again. With the reason.
async fn reconcile(db: &Database, mut relay: Relay<relay::nats::NatsStream>) -> (Outcome, String) {
    let (give_up, progress) = (Instant::now() + MAX_RECONCILE_TIME, Progress);
    let mut failed = 0;
    loop {
        let why = match timeout_at(give_up, Box::pin(relay.step())).await {
            Ok(Ok(Step::Halted)) => {
                return (
                    Outcome::Differs,
                    db.gate().reason().unwrap_or_default().to_owned(),
                );
            }
            Ok(Ok(_)) if db.gate() == Gate::Open => return (Outcome::Done, String::new()),
            Ok(Ok(_)) => continue,
            Ok(Err(error @ LogError::Misconfigured(_))) => {
                return (Outcome::Unknown, chain(&error));
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("it was not done in {MAX_RECONCILE_TIME:?}"),
        };
        failed += 1;
        if failed == ATTEMPTS || Instant::now() >= give_up {
            return (Outcome::Unknown, why);
        }
        progress.show(format_args!("waiting for the stream: {why}"));
        sleep(PAUSE).await;
    }
}

fn report(database: &Path, restored: &Restored, head: u64, met: Outcome, why: &str) -> Answer {
    let (manifest, previous_seq) = (&restored.manifest, restored.previous_seq);
    let kept = restored
        .previous
        .as_ref()
        .map(|path| path.display().to_string());
    let stream = match met {
        Outcome::Done => imported(manifest.seq, head),
        Outcome::Unknown => format!(
            "not reached: {why}; after the next start the service imports the missing events before it accepts writes"
        ),
        Outcome::Differs => format!("halted: {why}"),
    };
    let met_stream = met == Outcome::Done;
    let unknown = unknown(met_stream, head, previous_seq, kept.as_deref());
    let json = json!({
        "done": true,
        "database": database,
        "manifest": manifest,
        "previous": kept,
        "previous_seq": previous_seq,
        "head": head,
        "met_stream": met_stream,
        "stream": stream,
        "unknown": unknown,
    });
    let as_of = format!("{} as of event {}", database.display(), manifest.seq);
    let kept = kept.map(|kept| format!("the replaced file: {kept}"));
    Answer::new(json)
        .line("restored", as_of)
        .line("stream", stream)
        .line("log", format!("ends at {head}"))
        .lines("kept", kept)
        .line("unknown", unknown)
        .ends(met)
}

fn imported(from: u64, head: u64) -> String {
    match head.saturating_sub(from) {
        0 => "holds nothing that the backup lacks".to_owned(),
        more => format!(
            "{} after {from} were imported from it",
            count(more, "event")
        ),
    }
}

/// What remains unknown about the replaced file, as exactly as possible.
fn unknown(met: bool, head: u64, previous_seq: Option<u64>, kept: Option<&str>) -> String {
    let all =
        format!("writes after event {head} are lost unless the backup or the stream held them");
    match (met, previous_seq, kept) {
        (true, Some(last), Some(kept)) if last > head => format!(
            "{all}: the replaced file ended at {last}; its events {} to {last} are only in {kept}",
            head + 1
        ),
        (true, Some(last), Some(_)) => {
            format!("nothing, if the replaced file held the same events: it ended at {last}")
        }
        (_, Some(last), Some(kept)) => format!(
            "whether the stream holds the later events of the replaced file; it ended at {last} and is kept at {kept}"
        ),
        (_, None, Some(kept)) => {
            format!("{all}; the replaced file cannot be read and is kept at {kept}")
        }
        (_, _, None) => format!("{all}; there was no file to replace"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_said_as_exactly_as_it_is_known() {
        let met = |last, kept| unknown(true, 8, last, kept);
        assert!(met(Some(10), Some("x")).ends_with("events 9 to 10 are only in x"));
        assert!(met(None, Some("x")).contains("cannot be read and is kept at x"));
        assert!(met(Some(8), Some("x")).starts_with("nothing"));
        assert!(met(None, None).ends_with("there was no file to replace"));
        let not_met = unknown(false, 8, Some(10), Some("x"));
        assert!(not_met.starts_with("whether the stream holds"), "{not_met}");
    }
}
