//! `rotate-key`: adds the key that seals from the next start on. The older keys still open what they sealed.

use anyhow::Context;
use relay::Keys;
use serde_json::json;
use tokio::task::spawn_blocking;

use crate::admin::command::answer::{Answer, count};
use crate::admin::setup::Setup;

pub(super) async fn rotate(setup: &Setup, dry_run: bool) -> anyhow::Result<Answer> {
    let (path, name) = (setup.keys.clone(), setup.about.name);
    let path = path.with_context(|| format!("{name} has no key file"))?;
    let file = path.display().to_string();
    let rotate = move || {
        let new = match dry_run {
            true => None,
            false => Some(Keys::rotate(&path)?),
        };
        Ok::<_, relay::event::KeysError>((Keys::open(&path)?, new))
    };
    let (keys, new) = spawn_blocking(rotate).await??;
    let ids: Vec<&str> = keys.ids().collect();
    let holds = count(ids.len() as u64, "key");
    let answer = Answer::new(json!({"done": new.is_some(), "file": file, "keys": ids}))
        .line("key file", &file)
        .line("holds", format!("{holds}, oldest first: {}", ids.join(" ")));
    Ok(match new {
        None => answer.line("would add", "one, which seals from the next start on"),
        Some(id) => answer
            .line(
                "new",
                format!("{id} seals from the next start of {name} on"),
            )
            .line(
                "keep",
                "a copy of the file as it is now, apart from the backups of the database",
            ),
    })
}
