//! Events out and in: what this service emits follows from its changes, its tables follow from what it emits, and the events of
//! {{follows | shouty_snake_case}} become rows and reactions here.

use {{followed_crate | snake_case}}::{{followed_event}};
use relay::{ApplyError, Consumer, Event, Fold, Received, Rows, Tx};
use uuid::Uuid;
use {{project-name | snake_case}}_events::{ {{item | pascal_case}}Event, {{item | pascal_case}}Recorded};

use crate::store;

/// Emits the event and makes its rows, in one transaction. Returns its sequence.
pub fn make(tx: &Tx<'_>, event: &{{item | pascal_case}}Event) -> Result<u64, ApplyError> {
    let seq = tx.emit(event)?;
    store::apply(tx, event, seq)?;
    Ok(seq)
}

/// How the tables follow from the events, for a database that is restored from the stream: by the function that made them.
pub fn fold() -> Fold {
    Fold::new(&["{{project-name | snake_case}}"], |rows, received: &Received<{{item | pascal_case}}Event>| {
        store::apply(rows, &received.event, received.seq)
    })
}

/// A projection: it keeps rows and cannot emit. Rows and offset are in one transaction, so every event counts once.
pub fn {{followed | snake_case}}_cache() -> Consumer {
    Consumer::projection("{{project-name}}-{{followed}}-cache", |rows: &Rows<'_>, received: &Received<{{followed_event}}>| {
        match &received.event {
            {{followed_event}}::{{followed_variant}}(data) => store::keep_{{followed | snake_case}}(rows, &received.event.aggregate(), data),
            _ => Ok(()), // what else happens to it does not matter here
        }
    })
}

/// A reaction: it may emit. Its events and its offset are in one transaction, so every event is answered once.
pub fn first_{{project-name | snake_case}}() -> Consumer {
    Consumer::reaction("first-{{project-name}}", |tx: &Tx<'_>, received: &Received<{{followed_event}}>| {
        match &received.event {
            {{followed_event}}::{{followed_variant}}(_) => make(tx, &first_of(received)?).map(drop),
            _ => Ok(()),
        }
    })
}

fn first_of(received: &Received<{{followed_event}}>) -> Result<{{item | pascal_case}}Event, ApplyError> {
    let id = received.event.aggregate().parse();
    Ok({{item | pascal_case}}Event::Recorded({{item | pascal_case}}Recorded {
        {{item | snake_case}}_id: Uuid::now_v7(),
        {{followed | snake_case}}_id: id.map_err(|_| ApplyError::Rejected("its id is no UUID".to_owned()))?,
        reason: format!("because of {}", received.event.event_type()),
    }))
}
