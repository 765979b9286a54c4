//! The stream that a new service follows: its owner, and the event of it that is declared first, as the sources say.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::new_service::names::Name;

/// A declared stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// The crate that declares it, as its folder is called.
    pub(crate) of_crate: String,
    /// The enum of its events.
    pub(crate) events: String,
    /// The event that begins the life of a thing.
    pub(crate) event_type: String,
    pub(crate) variant: String,
    /// One of the things that it is about.
    pub(crate) item: Name,
    /// A recorded event's data.
    pub(crate) data: String,
}

/// Looks through the crates of events in this folder.
pub(crate) fn find(stream: &str, root: &Path) -> Result<Stream> {
    for folder in crates(root)? {
        for file in fs::read_dir(folder.join("src"))? {
            let text = fs::read_to_string(file?.path()).unwrap_or_default(); // a folder
            if let Some(declared) = read(&text, stream, &folder) {
                return declared.with_context(|| format!("{stream} in {}", folder.display()));
            }
        }
    }
    anyhow::bail!(
        "no crate of {} declares the events of {stream}: it looks into event-schema and *-events",
        root.display()
    )
}

fn crates(root: &Path) -> Result<Vec<PathBuf>> {
    let is_of_events = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "event-schema" || name.ends_with("-events") && path.join("Cargo.toml").is_file()
    };
    let folders = fs::read_dir(root)?.map(|entry| entry.map(|entry| entry.path()));
    let folders: Vec<_> = folders.collect::<Result<_, _>>()?;
    Ok(folders.into_iter().filter(is_of_events).collect())
}

/// `None`: the text declares another stream, or none.
fn read(text: &str, stream: &str, folder: &Path) -> Option<Result<Stream>> {
    let (before, after) = text.split_once(&format!(" on {stream:?} {{"))?;
    let events = before.rsplit(' ').next()?;
    Some(first(events, after, folder))
}

/// `"orders.placed.v1" => Placed(OrderPlaced) about order_id,`
fn first(events: &str, after: &str, folder: &Path) -> Result<Stream> {
    let unclear = "its first event is not declared as `\"type\" => Variant(Data) about id`";
    let between = |from, to| Some(after.split_once(from)?.1.split_once(to)?.0.trim());
    let event_type = between("\"", "\"").context(unclear)?;
    let variant = between("=>", "(").context(unclear)?;
    let id = between(" about ", ",").context(unclear)?;
    let item = id.strip_suffix("_id").unwrap_or(id).replace('_', "-");
    let name = folder.file_name().unwrap_or_default();
    Ok(Stream {
        of_crate: name.to_string_lossy().into_owned(),
        events: events.to_owned(),
        event_type: event_type.to_owned(),
        variant: variant.to_owned(),
        item: Name::parse(&item)?,
        data: recorded(event_type, &folder.join("fixtures"))?,
    })
}

/// Recordings are called by their type, with or without the stream's name, and hold an envelope or its data alone.
fn recorded(event_type: &str, fixtures: &Path) -> Result<String> {
    let (_, short) = event_type.split_once('.').unwrap_or_default();
    let files = [event_type, short].map(|name| fixtures.join(format!("{name}.json")));
    let file = files.iter().find(|file| file.is_file());
    let file = file.with_context(|| {
        format!(
            "{event_type} is not recorded: write one to {}",
            files[0].display()
        )
    })?;
    let recorded: Value = serde_json::from_str(&fs::read_to_string(file)?)
        .with_context(|| file.display().to_string())?;
    Ok(recorded.get("data").unwrap_or(&recorded).to_string())
}

#[cfg(test)]
mod tests {
    use freehold_tests::paths::workspace;

    use super::*;

    #[test]
    fn the_streams_of_this_workspace_are_found() {
        for (stream, [events, event_type, variant, item]) in [
            (
                "USERS",
                ["UserEvent", "users.created.v1", "Created", "user"],
            ),
            (
                "ORDERS",
                ["OrderEvent", "orders.placed.v1", "Placed", "order"],
            ),
        ] {
            let found = find(stream, workspace()).unwrap();
            assert_eq!(
                (&*found.events, &*found.event_type, &*found.variant),
                (events, event_type, variant)
            );
            assert_eq!(
                (found.item.kebab(), &*found.of_crate),
                (item, "event-schema")
            );
            assert!(
                found.data.contains(&format!("\"{item}_id\":\"")),
                "{}",
                found.data
            );
        }
        let refusal = find("NOTHING", workspace()).unwrap_err().to_string();
        assert!(
            refusal.contains("declares the events of NOTHING"),
            "{refusal}"
        );
    }
}
