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
    Cursor, ETag, IdempotencyKey, Idempotent, IfMatch, Json, Limit, OPERATOR, Page, Path,
    Principal, Problem, Query, Reply, present,
};
use utoipa::{IntoParams, ToSchema};

use crate::domain::{Change, OwnEvent, User};
use crate::http::batch::{self, Batch, Ids};
use crate::http::codes;
use crate::{events, store};

/// A user as its owner shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserView {
    #[schema(value_type = String, format = Uuid, example = "0191d1a0-0000-7000-8000-000000000000")]
    id: UserId,
    #[schema(example = "Ada Lovelace")]
    name: String,
    /// For operators only: no other service is shown it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = Email, example = "ada@example.org")]
    email: Option<String>,
    /// Counts the user's changes, from 1. It is the `ETag` too.
    #[schema(minimum = 1, example = 1)]
    version: u64,
}

/// Somebody who is not a user yet.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// What people call them: 1 to 200 characters on one line, of any script, none of them invisible.
    #[schema(example = "Ada Lovelace")]
    name: String,
    /// It belongs to one user at a time, in all forms that lead to its mailbox, and no other service learns it.
    #[schema(format = Email, example = "ada@example.org")]
    email: String,
}

/// What is to be different; what is left out stays. At least one of them.
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
    /// 1 to 100 ids, with commas between: these users, and no page.
    #[param(value_type = Option<String>)]
    ids: Option<Ids>,
    /// Where the page begins: the `next_cursor` of the one before.
    #[param(value_type = Option<String>, example = "c1.1042")]
    cursor: Option<Cursor<i64>>,
    /// How many items, at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<Limit>,
}

/// One page of all users, or those that were named.
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
        Ok(Reply::created(&location, tag, &UserView::from(user)))
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
    // Not the same tag for another view.
    let tag = match view.email {
        Some(_) => view.version.to_string(),
        None => format!("{}.shared", view.version),
    };
    Ok((ETag(tag), for_this_caller(view)))
}

/// Change a user's name, e-mail address or both
///
/// Each difference is a change of its own, with its own version and event; what is already so is none.
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
        for event in current(tx, id, &if_match)?.change(change) {
            make(tx, &event)?;
        }
        known(tx, id)
    });
    Ok(shown(write.await?))
}

/// Delete a user
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users", security(("operator" = [])),
    params(
        ("id" = String, Path, format = Uuid, description = "The user's id"),
        ("If-Match" = Option<String>, Header, description = "Delete it only at this version", example = "\"1\""),
    ),
    responses((status = 204, description = "Deleted; the address is free again")),
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

/// List users, or show those that `ids` names
///
/// In the order of registration, which is that of the log. A user who registers while a client pages comes last.
#[utoipa::path(
    get, path = "/users", tag = "users", security(("operator" = []), ("service" = [])), params(ListQuery),
    responses((status = 200, description = "One page, or those that `ids` names", body = Listed))
)]
pub(super) async fn list(
    caller: Principal,
    State(db): State<Database>,
    Query(ListQuery { ids, cursor, limit }): Query<ListQuery>,
) -> Result<impl IntoResponse, Problem> {
    match (ids, cursor, limit) {
        (Some(ids), None, None) => {
            let named = batch::read(&db, ids).await?;
            Ok(for_this_caller(Listed::Named(named)))
        }
        (Some(_), ..) => {
            let detail = "`ids` names the users to show; it goes without `cursor` and `limit`, which page through all";
            Err(Problem::field(
                service_kit::codes::INVALID_QUERY,
                "ids",
                detail,
            ))
        }
        (None, cursor, limit) => {
            let page = page(&db, cursor, limit.unwrap_or_default()).await?;
            let page = page.map(|user| UserView::of(user, &caller));
            Ok(for_this_caller(Listed::Page(page)))
        }
    }
}

/// In the order of registration, which is that of the log. A user who registers while a client pages comes last.
async fn page(
    db: &Database,
    cursor: Option<Cursor<i64>>,
    limit: Limit,
) -> Result<Page<User>, Problem> {
    let after = cursor.map(|Cursor(seq)| seq);
    let users = db.read(move |rows| store::list(rows, after, limit)).await?;
    let page = Page::new(users, limit, |(seq, _)| *seq);
    Ok(page.map(|(_, user)| user))
}

/// The user that is about to change, if it is the one the client has read.
fn current(tx: &Tx<'_>, id: UserId, if_match: &IfMatch) -> Result<User, Problem> {
    let user = known(tx, id)?;
    if_match.check(user.version.get())?;
    Ok(user)
}

/// Makes the change that the event tells of, and tells of it.
fn make(tx: &Tx<'_>, event: &OwnEvent) -> Result<(), Problem> {
    store::check_mailbox(tx, event)?;
    let seq = events::emit(tx, event)?;
    Ok(store::apply(tx, event, seq)?)
}

fn known(rows: &Connection, id: UserId) -> Result<User, Problem> {
    store::find(rows, id)?.ok_or_else(|| {
        let detail = format!("there is no user {id}");
        Problem::new(codes::USER_NOT_FOUND, detail)
    })
}

/// Another caller may be shown less of it.
fn for_this_caller<T: Serialize>(view: T) -> impl IntoResponse {
    ([(VARY, "authorization")], Json(view))
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
            email: Some(user.email.as_ref().to_owned()),
            version: user.version.get(),
        }
    }
}

impl UserView {
    fn of(user: User, caller: &Principal) -> Self {
        let mut view = Self::from(user);
        if !caller.is(OPERATOR) {
            view.email = None;
        }
        view
    }
}
