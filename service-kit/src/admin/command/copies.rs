//! `backup` and `restore`: copies of the database, and the way back that loses nothing silently.

use std::path::{Path, PathBuf};
use std::time::Duration;

use relay::{Database, Gate, LogError, Manifest, Relay, Restored, Step, chain};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::answer::{Answer, Progress, count};
use crate::program::Parts;
use crate::program::exit::Outcome;

/// How long a restored file may take to meet its stream. What it has taken over by then stays.
const MAX_RECONCILE_TIME: Duration = Duration::from_secs(60);
/// A broker that is not there is asked this often, with this pause; then the next start asks.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn take(parts: &Parts, to: PathBuf) -> anyhow::Result<Answer> {
    let (database, options) = (parts.database().to_owned(), parts.options.clone());
    let (from, file) = (database.display().to_string(), to.display().to_string());
    let manifest = spawn_blocking(move || relay::backup(&database, &options, &to)).await??;
    let json = json!({"done": true, "file": file, "manifest": manifest, "key_file": parts.keys});
    let answer = described(json, &file, &manifest).line("of", from);
    Ok(match &parts.keys {
        None => answer,
        Some(keys) => answer.line(
            "not in it",
            format!(
                "the key file {}: keep a copy of it, apart from this one",
                keys.display()
            ),
        ),
    })
}

/// What `restore` would put in place, if it is whole.
pub(super) async fn check(parts: &Parts, from: PathBuf) -> anyhow::Result<Answer> {
    let (options, file) = (parts.options.clone(), from.display().to_string());
    let manifest = spawn_blocking(move || relay::check_backup(&from, &options)).await??;
    let (database, there) = (parts.database().display(), parts.database().exists());
    let json = json!({"done": false, "file": file, "manifest": manifest, "would_put_aside": there});
    Ok(described(json, &file, &manifest).line(
        "would replace",
        match there {
            true => format!("{database}, which would be kept beside it"),
            false => format!("nothing: there is no {database}"),
        },
    ))
}

fn described(json: Value, file: &str, manifest: &Manifest) -> Answer {
    let id = manifest.event_id.as_deref().unwrap_or("none");
    let answer = Answer::new(json)
        .line("backup", file)
        .line(
            "database",
            format!("{}, epoch {}", manifest.database_id, manifest.epoch),
        )
        .line("last event", format!("{} ({id})", manifest.seq))
        .line(
            "size",
            format!("{} bytes, sha256 {}", manifest.bytes, manifest.sha256),
        );
    match manifest.taken_at.is_empty() {
        true => answer.line("taken", "nobody knows when: it has no manifest"),
        false => answer.line("taken", &manifest.taken_at),
    }
}

/// How far a restored file has come.
enum Met {
    /// It is what the stream is.
    Yes,
    /// It waits for its stream, at the next start too.
    NotYet(String),
    /// A person must decide.
    Halted(String),
}

/// Whatever could refuse the second half, keys and password, is asked for before the first.
pub(super) async fn restore(parts: &Parts, from: PathBuf) -> anyhow::Result<Answer> {
    let (stream, options) = (parts.stream()?, parts.options_with_keys()?);
    let (database, plain) = (parts.database().to_owned(), parts.options.clone());
    let restored = spawn_blocking(move || relay::restore(&from, &plain, &database)).await??;
    let db = Database::open(parts.database(), options).await?;
    let met = reconcile(&db, Relay::new(&db, stream)).await;
    let head = db.outbox().committed();
    db.close().await;
    Ok(report(parts.database(), &restored, head, &met))
}

/// Lets the relay step until it has met the stream.
async fn reconcile(db: &Database, mut relay: Relay<relay::NatsStream>) -> Met {
    let (give_up, progress) = (Instant::now() + MAX_RECONCILE_TIME, Progress::new());
    let mut failed = 0;
    loop {
        let step = Box::pin(relay.step());
        let why = match tokio::time::timeout_at(give_up, step).await {
            Ok(Ok(Step::Halted)) => {
                return Met::Halted(db.gate().reason().unwrap_or_default().to_owned());
            }
            Ok(Ok(_)) if db.gate() == Gate::Open => return Met::Yes,
            Ok(Ok(_)) => continue,
            Ok(Err(error @ LogError::Misconfigured(_))) => return Met::NotYet(chain(&error)),
            Ok(Err(error)) => chain(&error),
            Err(_) => return Met::NotYet(format!("it was not done in {MAX_RECONCILE_TIME:?}")),
        };
        failed += 1;
        if failed == ATTEMPTS || Instant::now() >= give_up {
            return Met::NotYet(why);
        }
        progress.show(format_args!("waiting for the stream: {why}"));
        tokio::time::sleep(PAUSE).await;
    }
}

fn report(database: &Path, restored: &Restored, head: u64, met: &Met) -> Answer {
    let Restored {
        manifest,
        previous,
        previous_seq,
    } = restored;
    let kept = previous.as_ref().map(|path| path.display().to_string());
    let (stream, outcome) = match met {
        Met::Yes => (taken_over(manifest.seq, head), Outcome::Done),
        Met::NotYet(why) => (
            format!(
                "not met: {why}; the file is marked, and the next start takes over what it lacks before it writes"
            ),
            Outcome::Unknown,
        ),
        Met::Halted(why) => (format!("halted: {why}"), Outcome::Differs),
    };
    let unknown = unknown(met, head, *previous_seq, kept.as_deref());
    let json = json!({
        "done": true,
        "database": database,
        "manifest": manifest,
        "previous": kept,
        "previous_seq": previous_seq,
        "head": head,
        "met_stream": matches!(met, Met::Yes),
        "stream": stream,
        "unknown": unknown,
    });
    let mut answer = Answer::new(json)
        .line(
            "restored",
            format!("{} as of event {}", database.display(), manifest.seq),
        )
        .line("stream", stream)
        .line("log", format!("ends at {head}"));
    if let Some(kept) = &kept {
        answer = answer.line("kept", format!("the file that was here: {kept}"));
    }
    answer.line("unknown", unknown).ends(outcome)
}

fn taken_over(from: u64, head: u64) -> String {
    match head.saturating_sub(from) {
        0 => "holds nothing that the backup lacks".to_owned(),
        more => format!(
            "{} after {from} were taken over from it",
            count(more, "event")
        ),
    }
}

/// What nobody can know of the lost file, as exactly as it can be said.
fn unknown(met: &Met, head: u64, previous_seq: Option<u64>, kept: Option<&str>) -> String {
    let all = format!(
        "writes after event {head} that were neither in the backup nor in the stream are not in this database"
    );
    match (met, previous_seq, kept) {
        (Met::Yes, Some(last), Some(kept)) if last > head => format!(
            "{all}: the file that was here ended at {last}; its events {} to {last} are in {kept} and nowhere else",
            head + 1
        ),
        (Met::Yes, Some(last), Some(_)) => {
            format!("nothing, if the file that was here held these very events: it ended at {last}")
        }
        (_, Some(last), Some(kept)) => format!(
            "whether the stream holds what the file that was here had more; it ended at {last}, and is kept at {kept}"
        ),
        (_, None, Some(kept)) => {
            format!("{all}; the file that was here cannot be read, and is kept at {kept}")
        }
        (_, _, None) => format!("{all}; there was no file here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_said_as_exactly_as_it_is_known() {
        let met = |last, kept| unknown(&Met::Yes, 8, last, kept);
        assert!(met(Some(10), Some("x")).ends_with("events 9 to 10 are in x and nowhere else"));
        assert!(met(None, Some("x")).contains("cannot be read, and is kept at x"));
        assert!(met(Some(8), Some("x")).starts_with("nothing"));
        assert!(met(None, None).ends_with("there was no file here"));
        let not_met = unknown(&Met::NotYet(String::new()), 8, Some(10), Some("x"));
        assert!(not_met.starts_with("whether the stream holds"), "{not_met}");
    }
}
