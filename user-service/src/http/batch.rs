//! `/users?ids=`: many users at once, for services that show them with their own data.

use std::collections::BTreeSet;

use event_schema::UserId;
use relay::Database;
use serde::{Deserialize, Serialize};
use service_kit::Problem;
use utoipa::ToSchema;

use super::view::UserView;
use crate::store;

/// Ids in one request, at most: they fit into a request line, and the reply stays small.
const MAX_IDS: usize = 100;

/// The ids of a request, each once.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Ids(BTreeSet<UserId>);

/// Which users exist and which do not, as of one moment.
#[derive(Serialize, ToSchema)]
#[schema(as = NamedUsers)]
pub(super) struct Batch {
    /// In the order of their ids, without e-mail addresses.
    items: Vec<UserView>,
    /// Ids of users that were never registered, or are deleted.
    missing: Vec<UserId>,
}

pub(super) async fn read(db: &Database, Ids(mut missing): Ids) -> Result<Batch, Problem> {
    let ids: Vec<UserId> = missing.iter().copied().collect();
    let found = db.read(move |rows| store::find_many(rows, &ids)).await?;
    for user in &found {
        missing.remove(&user.id);
    }
    Ok(Batch {
        items: found.into_iter().map(UserView::shared).collect(),
        missing: missing.into_iter().collect(),
    })
}

/// A repeated id counts towards the limit each time, but appears once in the reply.
impl TryFrom<String> for Ids {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.split(',').count() > MAX_IDS {
            return Err(format!("too many ids, expected 1 to {MAX_IDS} of them"));
        }
        let ids = text.split(',').map(str::parse).collect::<Result<_, _>>();
        ids.map(Self).map_err(|_| {
            format!("an unreadable id, expected 1 to {MAX_IDS} UUIDs with commas between them")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_to_a_hundred_ids_and_each_appears_once() {
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
