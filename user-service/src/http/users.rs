//! `/users`: register, read, change, delete, list.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use event_schema::UserId;
use relay::rusqlite::Connection;
use relay::{Database, Tx};
use serde::{Deserialize, Serialize};
use service_kit::{
    Cursor, ETag, Idempotent, IfMatch, Json, Limit, Page, Path, Problem, Query, Reply, present,
};

use crate::domain::{Change, OwnEvent, User};
use crate::http::batch::{self, Ids};
use crate::http::codes;
use crate::{events, store};

/// A user as its owner shows it.
#[derive(Serialize)]
pub(super) struct UserView {
    id: UserId,
    name: String,
    email: String,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    name: String,
    email: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangedUser {
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    email: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    ids: Option<Ids>,
    cursor: Option<Cursor<UserId>>,
    limit: Option<Limit>,
}

pub(super) async fn register(Idempotent(new, once): Idempotent<NewUser>) -> Result<Reply, Problem> {
    let id = UserId::new();
    let created = User::register(id, new.name.parse()?, new.email.parse()?);
    let write = once.write(move |tx| {
        make(tx, &created)?;
        let user = known(tx, id)?;
        let (location, tag) = (format!("/users/{id}"), ETag(user.version.get()));
        Ok(Reply::created(&location, tag, &UserView::from(user)))
    });
    write.await
}

pub(super) async fn read(
    State(db): State<Database>,
    Path(id): Path<UserId>,
) -> Result<impl IntoResponse, Problem> {
    let read = db.read(move |rows| known(rows, id));
    Ok(shown(read.await?))
}

pub(super) async fn change(
    State(db): State<Database>,
    Path(id): Path<UserId>,
    if_match: IfMatch,
    Json(changed): Json<ChangedUser>,
) -> Result<impl IntoResponse, Problem> {
    let change = changed.parse()?;
    let write = db.write(move |tx| {
        for event in current(tx, id, if_match)?.change(change) {
            make(tx, &event)?;
        }
        known(tx, id)
    });
    Ok(shown(write.await?))
}

pub(super) async fn delete(
    State(db): State<Database>,
    Path(id): Path<UserId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let write = db.write(move |tx| {
        let deleted = current(tx, id, if_match)?.delete();
        make(tx, &deleted)
    });
    write.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The users that `ids` names, or else a page of all.
pub(super) async fn list(
    State(db): State<Database>,
    Query(ListQuery { ids, cursor, limit }): Query<ListQuery>,
) -> Result<Response, Problem> {
    match (ids, cursor, limit) {
        (Some(ids), None, None) => batch::read(&db, ids).await.map(Json::into_response),
        (Some(_), ..) => {
            let detail = "`ids` names the users to show; it goes without `cursor` and `limit`, which page through all";
            Err(Problem::field(
                service_kit::codes::INVALID_QUERY,
                "ids",
                detail,
            ))
        }
        (None, cursor, limit) => page(&db, cursor, limit.unwrap_or_default())
            .await
            .map(Json::into_response),
    }
}

/// In the order of registration. A user who registers while one pages may be missed: ids are drawn just before the
/// commit, and two commits can swap.
async fn page(
    db: &Database,
    cursor: Option<Cursor<UserId>>,
    limit: Limit,
) -> Result<Json<Page<UserView>>, Problem> {
    let after = cursor.map(|Cursor(id)| id);
    let users = db.read(move |rows| store::list(rows, after, limit)).await?;
    let page = Page::new(users, limit, |user| user.id);
    Ok(Json(page.map(UserView::from)))
}

/// The user that is about to change, if it is the one the client has read.
fn current(tx: &Tx<'_>, id: UserId, if_match: IfMatch) -> Result<User, Problem> {
    let user = known(tx, id)?;
    if_match.check(user.version.get())?;
    Ok(user)
}

/// Makes the change that the event tells of, and tells of it.
fn make(tx: &Tx<'_>, event: &OwnEvent) -> Result<(), Problem> {
    store::apply(tx, event)?;
    Ok(events::emit(tx, event)?)
}

fn known(rows: &Connection, id: UserId) -> Result<User, Problem> {
    store::find(rows, id)?.ok_or_else(|| {
        let detail = format!("there is no user {id}");
        Problem::new(codes::USER_NOT_FOUND, detail)
    })
}

fn shown(user: User) -> impl IntoResponse {
    (ETag(user.version.get()), Json(UserView::from(user)))
}

impl ChangedUser {
    fn parse(self) -> Result<Change, Problem> {
        if self.name.is_none() && self.email.is_none() {
            let detail = "nothing to change: send `name`, `email` or both";
            return Err(Problem::new(service_kit::codes::INVALID_BODY, detail));
        }
        Ok(Change {
            name: self.name.as_deref().map(str::parse).transpose()?,
            email: self.email.as_deref().map(str::parse).transpose()?,
        })
    }
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            name: user.name.as_ref().to_owned(),
            email: user.email.as_ref().to_owned(),
            version: user.version.get(),
        }
    }
}
