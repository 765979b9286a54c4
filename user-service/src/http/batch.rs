//! `/users?ids=`: many users at once, for services that show them beside data of their own.

use std::collections::BTreeSet;

use event_schema::{UserId, UserSnapshot};
use relay::Database;
use serde::{Deserialize, Serialize};
use service_kit::Problem;
use utoipa::ToSchema;

use crate::store;

/// How many ids one question has, at most: so many fit into a request line, and one answer stays small.
const MAX_IDS: usize = 100;

/// The ids of a question, each once.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Ids(BTreeSet<UserId>);

/// Who exists and who does not, all at the same moment.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedUsers)]
pub(super) struct Batch {
    /// In the order of their ids, whatever the order of the question.
    items: Vec<SharedView>,
    /// Asked for, and not there: never registered, or deleted.
    missing: Vec<UserId>,
}

/// A user as other services may know one: without the e-mail address, which none of them needs.
#[derive(Serialize, ToSchema)]
#[schema(as = SharedUser)]
struct SharedView {
    id: UserId,
    name: String,
    version: u64,
}

pub(super) async fn read(db: &Database, Ids(mut missing): Ids) -> Result<Batch, Problem> {
    let ids: Vec<UserId> = missing.iter().copied().collect();
    let found = db.read(move |rows| store::find_many(rows, &ids)).await?;
    for user in &found {
        missing.remove(&user.user_id);
    }
    Ok(Batch {
        items: found.into_iter().map(SharedView::from).collect(),
        missing: missing.into_iter().collect(),
    })
}

/// Repeated ids count as often as they are sent and are answered once.
impl TryFrom<String> for Ids {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected = || {
            format!(
                "an id that cannot be read, expected 1 to {MAX_IDS} ids, each a UUID, with commas between them"
            )
        };
        if text.split(',').count() > MAX_IDS {
            return Err(format!("too many ids, expected 1 to {MAX_IDS} of them"));
        }
        let ids = text.split(',').map(str::parse).collect::<Result<_, _>>();
        ids.map(Self).map_err(|_| expected())
    }
}

impl From<UserSnapshot> for SharedView {
    fn from(user: UserSnapshot) -> Self {
        Self {
            id: user.user_id,
            name: user.name,
            version: user.version.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_one_to_a_hundred_ids_and_each_is_answered_once() {
        let id = UserId::new().to_string();
        let read = |text: String| Ids::try_from(text).map(|Ids(ids)| ids.len());
        assert_eq!(read(id.clone()), Ok(1));
        assert_eq!(read(format!("{id},{id}")), Ok(1));
        assert_eq!(read(format!("{id},{}", UserId::new())), Ok(2));
        assert_eq!(read(vec![id.clone(); MAX_IDS].join(",")), Ok(1));
        assert!(read(vec![id.clone(); MAX_IDS + 1].join(",")).is_err());
        for bad in [
            String::new(),
            ",".to_owned(),
            format!("{id},"),
            format!("{id} {id}"),
            "7".to_owned(),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
