//! `rotate-key`: a fresh key for what is sealed from now on; what was sealed before still opens.

use anyhow::Context;
use relay::Keys;
use serde_json::json;

use super::answer::{Answer, count};
use crate::program::Parts;

pub(super) async fn rotate(parts: &Parts, dry_run: bool) -> anyhow::Result<Answer> {
    let path = parts.keys.clone();
    let path = path.with_context(|| format!("{} has no key file", parts.about.name))?;
    let file = path.display().to_string();
    let rotated = tokio::task::spawn_blocking(move || match dry_run {
        true => Ok((Keys::open(&path)?, None)),
        false => {
            let id = Keys::rotate(&path)?;
            Ok::<_, relay::KeysError>((Keys::open(&path)?, Some(id)))
        }
    });
    let (keys, fresh) = rotated.await??;
    let ids: Vec<&str> = keys.ids().collect();
    let json = json!({"done": fresh.is_some(), "file": file, "keys": ids});
    let answer = Answer::new(json).line("key file", &file).line(
        "holds",
        format!(
            "{}, oldest first: {}",
            count(ids.len() as u64, "key"),
            ids.join(" ")
        ),
    );
    Ok(match fresh {
        None => answer.line("would add", "one, which seals from the next start on"),
        Some(id) => answer
            .line(
                "fresh",
                format!("{id} seals from the next start of {} on", parts.about.name),
            )
            .line(
                "keep",
                "a copy of the file as it is now, apart from the backups of the database",
            ),
    })
}
