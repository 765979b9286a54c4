//! `/users`: register, read, change, delete, list.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use event_schema::UserId;
use relay::{Database, Tx};
use serde::{Deserialize, Serialize};
use service_kit::{Cursor, ETag, IfMatch, Json, Limit, Page, Path, Problem, Query, present};

use crate::domain::{Change, User};
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
    cursor: Option<Cursor<UserId>>,
    #[serde(default)]
    limit: Limit,
}

pub(super) async fn register(
    State(db): State<Database>,
    Json(new): Json<NewUser>,
) -> Result<impl IntoResponse, Problem> {
    let (user, event) = User::register(UserId::new(), new.name.parse()?, new.email.parse()?);
    let write = db.write(move |tx| {
        store::insert(tx, &user)?;
        events::emit(tx, &event)?;
        Ok::<_, Problem>(user)
    });
    let user = write.await?;
    let location = [(LOCATION, format!("/users/{}", user.id))];
    Ok((StatusCode::CREATED, location, shown(user)))
}

pub(super) async fn read(
    State(db): State<Database>,
    Path(id): Path<UserId>,
) -> Result<impl IntoResponse, Problem> {
    let user = db.read(move |rows| store::find(rows, id)).await?;
    user.map(shown).ok_or_else(|| not_found(id))
}

pub(super) async fn change(
    State(db): State<Database>,
    Path(id): Path<UserId>,
    if_match: IfMatch,
    Json(changed): Json<ChangedUser>,
) -> Result<impl IntoResponse, Problem> {
    let change = changed.parse()?;
    let write = db.write(move |tx| {
        let (user, events) = current(tx, id, if_match)?.change(change);
        if !events.is_empty() {
            store::update(tx, &user)?;
        }
        for event in &events {
            events::emit(tx, event)?;
        }
        Ok::<_, Problem>(user)
    });
    Ok(shown(write.await?))
}

pub(super) async fn delete(
    State(db): State<Database>,
    Path(id): Path<UserId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let write = db.write(move |tx| {
        let event = current(tx, id, if_match)?.delete();
        store::delete(tx, id)?;
        events::emit(tx, &event)?;
        Ok::<_, Problem>(StatusCode::NO_CONTENT)
    });
    Ok(write.await?)
}

/// In the order of registration. A user who registers while one pages may be missed: ids are drawn just before the
/// commit, and two commits can swap.
pub(super) async fn list(
    State(db): State<Database>,
    Query(ListQuery { cursor, limit }): Query<ListQuery>,
) -> Result<impl IntoResponse, Problem> {
    let after = cursor.map(|Cursor(id)| id);
    let users = db.read(move |rows| store::list(rows, after, limit)).await?;
    let page = Page::new(users, limit, |user| user.id);
    Ok(Json(page.map(UserView::from)))
}

/// The user that is about to change, if it is the one the client has read.
fn current(tx: &Tx<'_>, id: UserId, if_match: IfMatch) -> Result<User, Problem> {
    let user = store::find(tx, id)?.ok_or_else(|| not_found(id))?;
    if_match.check(user.version.get())?;
    Ok(user)
}

fn not_found(id: UserId) -> Problem {
    Problem::new(codes::USER_NOT_FOUND, format!("there is no user {id}"))
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
