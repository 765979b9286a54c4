//! Every SQL statement of this service, one function each.

use relay::ApplyError;
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use serde::Serialize;
use serde_json::Value;
use service_kit::parsed;
use utoipa::ToSchema;
use uuid::Uuid;
use {{project-name | snake_case}}_events::{Event, {{item | pascal_case}}Event, {{item | pascal_case}}Recorded};

/// One {{item}}, as rows and callers have it.
#[derive(Serialize, ToSchema)]
pub struct {{item | pascal_case}} {
    #[schema(value_type = String, format = Uuid, example = "01985b3e-a100-7c31-b0aa-11d05e7fc001")]
    pub id: Uuid,
    #[schema(value_type = String, format = Uuid, example = "01985b3e-90aa-7c31-b0aa-11d05e7fc0de")]
    pub {{followed | snake_case}}_id: Uuid,
    pub reason: String,
    /// The sequence of its event. It is the `ETag` too.
    #[schema(minimum = 1, example = 1)]
    pub seq: u64,
    /// What its event said about the {{followed}}; null until that event is here.
    pub {{followed | snake_case}}: Value,
}

const SELECT: &str = "select {{project-name | snake_case}}.id, {{followed | snake_case}}_id, reason, seq, coalesce({{followed | snake_case}}_cache.data, 'null')
    from {{project-name | snake_case}} left join {{followed | snake_case}}_cache on {{followed | snake_case}}_cache.id = {{followed | snake_case}}_id where";

/// Makes the change of the event at `seq`, when it is emitted and again when it is imported. No other function writes this table.
pub fn apply(rows: &Connection, event: &{{item | pascal_case}}Event, seq: u64) -> Result<(), ApplyError> {
    match event {
        {{item | pascal_case}}Event::Recorded(new) => Ok(insert(rows, new, seq)?),
        other => Err(ApplyError::Fatal(format!("{} changes no row: add it to `store::apply`", other.event_type()))),
    }
}

pub fn find(rows: &Connection, id: Uuid) -> rusqlite::Result<Option<{{item | pascal_case}}>> {
    let mut found = rows.prepare_cached(&format!("{SELECT} {{project-name | snake_case}}.id = ?1"))?;
    found.query_row([id.to_string()], row).optional()
}

/// Those of one {{followed}}, in the order of their events.
pub fn find_of(rows: &Connection, {{followed | snake_case}}_id: Uuid) -> rusqlite::Result<Vec<{{item | pascal_case}}>> {
    let mut found = rows.prepare_cached(&format!("{SELECT} {{followed | snake_case}}_id = ?1 order by seq limit 200"))?;
    found.query_map([{{followed | snake_case}}_id.to_string()], row)?.collect()
}

/// What is known of one {{followed}}: the data of its event.
pub fn keep_{{followed | snake_case}}(rows: &Connection, id: &str, data: &impl Serialize) -> Result<(), ApplyError> {
    let data = serde_json::to_string(data).map_err(|error| ApplyError::Rejected(error.to_string()))?;
    rows.prepare_cached("insert into {{followed | snake_case}}_cache (id, data) values (?1, ?2) on conflict do update set data = excluded.data")?
        .execute((id, data))?;
    Ok(())
}

fn insert(rows: &Connection, new: &{{item | pascal_case}}Recorded, seq: u64) -> rusqlite::Result<()> {
    let (id, of) = (new.{{item | snake_case}}_id.to_string(), new.{{followed | snake_case}}_id.to_string());
    rows.prepare_cached("insert into {{project-name | snake_case}} (id, {{followed | snake_case}}_id, reason, seq) values (?1, ?2, ?3, ?4)")?
        .execute((id, of, &new.reason, seq))?;
    Ok(())
}

fn row(row: &Row<'_>) -> rusqlite::Result<{{item | pascal_case}}> {
    Ok({{item | pascal_case}} {
        id: parsed(row, 0)?,
        {{followed | snake_case}}_id: parsed(row, 1)?,
        reason: row.get(2)?,
        seq: row.get(3)?,
        {{followed | snake_case}}: parsed(row, 4)?,
    })
}
