//! `/{{project-name}}`: record, read, and read those of one {{followed}}.

use axum::extract::State;
use axum::response::IntoResponse;
use relay::Database;
use relay::rusqlite::Connection;
use serde::Deserialize;
use service_kit::{ETag, IdempotencyKey, Idempotent, Json, Path, Problem, Query, Reply, Routes, routes};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use {{project-name | snake_case}}_events::{ {{item | pascal_case}}Event, {{item | pascal_case}}Recorded};

use crate::events::make;
use crate::store::{self, {{item | pascal_case}}};

mod codes {
    service_kit::problem_codes! {
        NOT_FOUND = NOT_FOUND, "{{item | snake_case}}_not_found", "There is no such {{item}}";
    }
}

pub fn routes(db: Database) -> Routes {
    Routes::default()
        .problems(codes::ALL)
        .routes(routes!(record, list))
        .routes(routes!(read))
        .with_state(db)
}

/// What to record.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct New{{item | pascal_case}} {
    #[schema(value_type = String, format = Uuid, example = "01985b3e-90aa-7c31-b0aa-11d05e7fc0de")]
    {{followed | snake_case}}_id: Uuid,
    #[schema(example = "by hand")]
    reason: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Of {
    #[param(value_type = String, format = Uuid, example = "01985b3e-90aa-7c31-b0aa-11d05e7fc0de")]
    {{followed | snake_case}}_id: Uuid,
}

/// Record one {{item}}
///
/// Sent again with the same `Idempotency-Key`, it is recorded once and answered twice.
#[utoipa::path(
    post, path = "/{{project-name}}", tag = "{{project-name}}", security(("operator" = [])), request_body = New{{item | pascal_case}},
    params(IdempotencyKey),
    responses((
        status = 201, description = "Recorded", body = {{item | pascal_case}},
        headers(("Location" = String, description = "Its path"), ("ETag" = String, description = "Its version, in quotes")),
    ))
)]
async fn record(Idempotent(new, once): Idempotent<New{{item | pascal_case}}>) -> Result<Reply, Problem> {
    let id = Uuid::now_v7();
    let event = {{item | pascal_case}}Event::Recorded({{item | pascal_case}}Recorded {
        {{item | snake_case}}_id: id,
        {{followed | snake_case}}_id: new.{{followed | snake_case}}_id,
        reason: new.reason,
    });
    let write = once.write(move |tx| {
        let seq = make(tx, &event).map_err(|error| Problem::internal(&error))?;
        Ok(Reply::created(&format!("/{{project-name}}/{id}"), ETag(seq), &known(tx, id)?))
    });
    write.await
}

/// Read one {{item}}
#[utoipa::path(
    get, path = "/{{project-name}}/{id}", tag = "{{project-name}}", security(("operator" = []), ("service" = [])),
    params(("id" = String, Path, format = Uuid, description = "Its id")),
    responses((
        status = 200, description = "What was recorded, and what is known of its {{followed}}", body = {{item | pascal_case}},
        headers(("ETag" = String, description = "Its version, in quotes")),
    )),
    extensions(("x-problems" = json!([codes::NOT_FOUND.name()])))
)]
async fn read(State(db): State<Database>, Path(id): Path<Uuid>) -> Result<impl IntoResponse, Problem> {
    let found = db.read(move |rows| known(rows, id)).await?;
    Ok((ETag(found.seq), Json(found)))
}

/// Read those of one {{followed}}
///
/// In the order in which they were recorded, 200 at most.
#[utoipa::path(
    get, path = "/{{project-name}}", tag = "{{project-name}}", security(("operator" = []), ("service" = [])), params(Of),
    responses((status = 200, description = "Those of this {{followed}}", body = Vec<{{item | pascal_case}}>))
)]
async fn list(State(db): State<Database>, Query(of): Query<Of>) -> Result<Json<Vec<{{item | pascal_case}}>>, Problem> {
    let found = db.read(move |rows| store::find_of(rows, of.{{followed | snake_case}}_id)).await?;
    Ok(Json(found))
}

fn known(rows: &Connection, id: Uuid) -> Result<{{item | pascal_case}}, Problem> {
    let missing = || Problem::new(codes::NOT_FOUND, format!("there is no {{item}} {id}"));
    store::find(rows, id)?.ok_or_else(missing)
}
