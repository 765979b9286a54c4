//! `/users`: register, read, change, delete, list.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::VARY;
use axum::response::IntoResponse;
use event_schema::UserId;
use relay::rusqlite::Connection;
use relay::{Database, Tx};
use serde::{Deserialize, Serialize};
use service_kit::{
    Cursor, ETag, IdempotencyKey, Idempotent, IfMatch, Json, Limit, Page, Path, Principal, Problem,
    Query, Reply, codes as kit, present,
};
use utoipa::{IntoParams, ToSchema};

use super::batch::{self, Batch, Ids};
use super::codes;
use super::view::UserView;
use crate::domain::{Change, OwnEvent, User};
use crate::{events, store};

/// A user to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// What people call them: 1 to 200 characters on one line, of any script, none of them invisible.
    #[schema(example = "Ada Lovelace")]
    name: String,
    /// One user at a time may have it, in any form that leads to the same mailbox. No other service sees it.
    #[schema(format = Email, example = "ada@example.org")]
    email: String,
}

/// The fields to change, at least one. An omitted field stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangedUser {
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "Countess of Lovelace")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, format = Email, example = "countess@example.org")]
    email: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// 1 to 100 ids, with commas between them: shows these users instead of a page.
    #[param(value_type = Option<String>)]
    ids: Option<Ids>,
    /// Where the page begins: the `next_cursor` of the previous page.
    #[param(value_type = Option<String>, example = "c1.1042")]
    cursor: Option<Cursor<i64>>,
    /// Items on the page, at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<Limit>,
}

/// One page of all users, or the users that `ids` names.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Listed {
    Page(Page<UserView>),
    Named(Batch),
}

/// Register a user
#[utoipa::path(
    post, path = "/users", tag = "users", security(("operator" = [])), request_body = NewUser, params(IdempotencyKey),
    responses((
        status = 201, description = "Registered", body = UserView,
        headers(
            ("Location" = String, description = "The user's path"),
            ("ETag" = String, description = "Its version, in quotes"),
        ),
    )),
    extensions(("x-problems" = json!([
        codes::EMAIL_TAKEN.name(), codes::INVALID_NAME.name(), codes::INVALID_EMAIL.name(),
    ])))
)]
pub(super) async fn register(Idempotent(new, once): Idempotent<NewUser>) -> Result<Reply, Problem> {
    let id = UserId::new();
    let created = User::register(id, new.name.parse()?, new.email.parse()?);
    let write = once.write(move |tx| {
        make(tx, &created)?;
        let user = known(tx, id)?;
        let (location, tag) = (format!("/users/{id}"), ETag(user.version.get()));
        Ok(Reply::created(&location, tag, &UserView::full(user)))
    });
    write.await
}

/// Read a user
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", security(("operator" = []), ("service" = [])),
    params(("id" = String, Path, format = Uuid, description = "The user's id")),
    responses((
        status = 200, description = "The user", body = UserView,
        headers(("ETag" = String, description = "Its version, in quotes; `.shared` follows it for another service")),
    )),
    extensions(("x-problems" = json!([codes::USER_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    caller: Principal,
    State(db): State<Database>,
    Path(id): Path<UserId>,
) -> Result<impl IntoResponse, Problem> {
    let user = db.read(move |rows| known(rows, id)).await?;
    let view = UserView::of(user, &caller);
    // Different views must not share a tag.
    let shared = if view.email.is_none() { ".shared" } else { "" };
    let tag = format!("{}{shared}", view.version);
    Ok((ETag(tag), for_this_caller(view)))
}

/// Change a user's name, e-mail address or both
///
/// Each field that differs is a change of its own, with its own version and event.
#[utoipa::path(
    patch, path = "/users/{id}", tag = "users", security(("operator" = [])), request_body = ChangedUser,
    params(
        ("id" = String, Path, format = Uuid, description = "The user's id"),
        ("If-Match" = Option<String>, Header, description = "Change it only at this version", example = "\"1\""),
    ),
    responses((
        status = 200, description = "The user as it is now", body = UserView,
        headers(("ETag" = String, description = "Its version, in quotes")),
    )),
    extensions(("x-problems" = json!([
        codes::USER_NOT_FOUND.name(), codes::EMAIL_TAKEN.name(), codes::INVALID_NAME.name(),
        codes::INVALID_EMAIL.name(),
    ])))
)]
pub(super) async fn change(
    State(db): State<Database>,
    Path(id): Path<UserId>,
    if_match: IfMatch,
    Json(changed): Json<ChangedUser>,
) -> Result<impl IntoResponse, Problem> {
    let change = changed.parse()?;
    let write = db.write(move |tx| {
        let changes = current(tx, id, &if_match)?.change(change);
        changes.iter().try_for_each(|event| make(tx, event))?;
        known(tx, id)
    });
    let user = write.await?;
    Ok((ETag(user.version.get()), Json(UserView::full(user))))
}

/// Delete a user
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users", security(("operator" = [])),
    params(
        ("id" = String, Path, format = Uuid, description = "The user's id"),
        ("If-Match" = Option<String>, Header, description = "Delete it only at this version", example = "\"1\""),
    ),
    responses((status = 204, description = "Deleted; another user may take the address")),
    extensions(("x-problems" = json!([codes::USER_NOT_FOUND.name()])))
)]
pub(super) async fn delete(
    State(db): State<Database>,
    Path(id): Path<UserId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let write = db.write(move |tx| {
        let deleted = current(tx, id, &if_match)?.delete();
        make(tx, &deleted)
    });
    write.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List users, or show the users that `ids` names
///
/// In the order of registration. A user who registers while a client pages comes last.
#[utoipa::path(
    get, path = "/users", tag = "users", security(("operator" = []), ("service" = [])), params(ListQuery),
    responses((status = 200, description = "One page, or the users that `ids` names", body = Listed))
)]
pub(super) async fn list(
    caller: Principal,
    State(db): State<Database>,
    Query(ListQuery { ids, cursor, limit }): Query<ListQuery>,
) -> Result<impl IntoResponse, Problem> {
    let listed = match (ids, cursor, limit) {
        (Some(ids), None, None) => Listed::Named(batch::read(&db, ids).await?),
        (Some(_), ..) => {
            let detail =
                "`ids` cannot be combined with `cursor` and `limit`, which page through all users";
            return Err(Problem::field(kit::INVALID_QUERY, "ids", detail));
        }
        (None, cursor, limit) => {
            Listed::Page(page(&db, &caller, cursor, limit.unwrap_or_default()).await?)
        }
    };
    Ok(for_this_caller(listed))
}

async fn page(
    db: &Database,
    caller: &Principal,
    cursor: Option<Cursor<i64>>,
    limit: Limit,
) -> Result<Page<UserView>, Problem> {
    let after = cursor.map(|Cursor(seq)| seq);
    let users = db.read(move |rows| store::list(rows, after, limit)).await?;
    let page = Page::new(users, limit, |(seq, _)| *seq);
    Ok(page.map(|(_, user)| UserView::of(user, caller)))
}

/// The user to change, if it is still at the version that the client expects.
fn current(tx: &Tx<'_>, id: UserId, if_match: &IfMatch) -> Result<User, Problem> {
    let user = known(tx, id)?;
    if_match.check(user.version.get())?;
    Ok(user)
}

fn make(tx: &Tx<'_>, event: &OwnEvent) -> Result<(), Problem> {
    store::check_mailbox(tx, event)?;
    events::make(tx, event)
}

fn known(rows: &Connection, id: UserId) -> Result<User, Problem> {
    store::find(rows, id)?.ok_or_else(|| {
        let detail = format!("there is no user {id}");
        Problem::new(codes::USER_NOT_FOUND, detail)
    })
}

/// Caches must not show one caller's reply to another: callers see different fields.
fn for_this_caller<T: Serialize>(view: T) -> impl IntoResponse {
    ([(VARY, "authorization")], Json(view))
}

impl ChangedUser {
    fn parse(self) -> Result<Change, Problem> {
        if self.name.is_none() && self.email.is_none() {
            let detail = "nothing to change: send `name`, `email` or both";
            return Err(Problem::new(kit::INVALID_BODY, detail));
        }
        Ok(Change {
            name: self.name.as_deref().map(str::parse).transpose()?,
            email: self.email.as_deref().map(str::parse).transpose()?,
        })
    }
}
