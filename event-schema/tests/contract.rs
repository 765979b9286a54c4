//! The contract's promises: the published schemas are the code's, and what was ever recorded still decodes.
//!
//! After a change that only grows the contract: `FREEHOLD_WRITE_SCHEMAS=1 cargo test -p event-schema`, then read the
//! difference before committing it. Fixtures are recordings and are never rewritten; a change adds a new one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use event_schema::sync::{FeedPage, Upload, Verdicts};
use event_schema::{
    CancelReason, OrderEvent, OrderSnapshot, UserEvent, UserSnapshot, schemas, snapshot_schemas,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[test]
fn the_published_schemas_are_those_of_the_code() {
    let of_events = schemas().into_iter().map(|of| ("schemas", of));
    let of_rows = snapshot_schemas()
        .into_iter()
        .map(|of| ("snapshots/schemas", of));
    for (at, (event_type, schema)) in of_events.chain(of_rows) {
        let generated = format!("{:#}\n", schema.to_value());
        let path = folder(at).join(format!("{event_type}.json"));
        if std::env::var_os("FREEHOLD_WRITE_SCHEMAS").is_some() {
            fs::write(&path, &generated).unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            published, generated,
            "{event_type}: see the top of this file"
        );
    }
}

#[test]
fn every_type_has_a_schema_and_a_fixture_and_nothing_else_lies_there() {
    let mut types: Vec<_> = schemas()
        .iter()
        .map(|(event_type, _)| event_type.to_string())
        .collect();
    types.sort();
    assert_eq!(names("schemas"), types);
    let mut recorded: Vec<_> = fixtures().iter().map(|of| parts(of).0.to_owned()).collect();
    recorded.dedup();
    assert_eq!(recorded, types);
}

#[test]
fn a_fixture_is_named_after_its_type_and_what_it_adds() {
    for (name, recorded) in names("fixtures").iter().zip(fixtures()) {
        let added = name.strip_prefix(parts(&recorded).0);
        let added = added.unwrap_or_else(|| panic!("{name} is of another type"));
        let field = added.strip_prefix('.').unwrap_or("data");
        assert!(
            recorded
                .get(field)
                .or(recorded["data"].get(field))
                .is_some(),
            "{name} has no {field}"
        );
    }
}

#[test]
fn every_recorded_event_decodes_and_encodes_to_the_same_data() {
    for recorded in fixtures() {
        let (event_type, data) = parts(&recorded);
        let (event, again) = decode(event_type, data);
        assert_eq!(again, *data, "{event_type}");
        assert_eq!(event, [event_type, recorded["subject"].as_str().unwrap()]);
    }
}

#[test]
fn every_recorded_event_satisfies_its_schema_and_a_maimed_one_does_not() {
    let schemas = schemas();
    for recorded in fixtures() {
        let (event_type, data) = parts(&recorded);
        let (_, schema) = schemas.iter().find(|(of, _)| *of == event_type).unwrap();
        let required = &schema.as_value()["required"];
        let schema = jsonschema::options()
            .should_validate_formats(true)
            .build(schema.as_value())
            .unwrap();
        schema
            .validate(data)
            .unwrap_or_else(|error| panic!("{event_type}: {error}"));
        let required = required.as_array().unwrap();
        for field in data.as_object().unwrap().keys() {
            let mut maimed = data.clone();
            maimed.as_object_mut().unwrap().remove(field);
            let optional = !required.contains(&json!(field));
            assert_eq!(
                schema.is_valid(&maimed),
                optional,
                "{event_type} without {field}"
            );
            maimed[field] = json!(["of another type"]);
            assert!(
                !schema.is_valid(&maimed),
                "{event_type} with another {field}"
            );
        }
    }
}

#[test]
fn every_recorded_envelope_is_as_it_lies_in_the_stream() {
    for recorded in fixtures() {
        let event_type = recorded["type"].as_str().unwrap();
        let root = event_type.split('.').next().unwrap();
        assert_eq!(recorded["specversion"], "1.0");
        assert_eq!(recorded["source"], format!("/{root}"));
        assert_eq!(
            recorded["dataschema"],
            format!("urn:freehold:schema:{event_type}")
        );
        assert_eq!(recorded["datacontenttype"], "application/json");
        assert_eq!(recorded["sequence"].as_str().unwrap().len(), 20);
    }
}

#[test]
fn a_field_that_a_later_writer_adds_is_no_trouble() {
    for recorded in fixtures() {
        let (event_type, data) = parts(&recorded);
        let mut later = data.clone();
        later["added_later"] = json!({"anything": [1, 2, 3]});
        let (_, known) = decode(event_type, &later);
        assert_eq!(known, *data, "{event_type}");
    }
}

#[test]
fn an_unknown_type_is_none_and_not_an_error() {
    for unknown in [
        "users.created.v2",
        "users.merged.v1",
        "users.created",
        "",
        "orders.placed.v1",
    ] {
        assert_eq!(
            UserEvent::decode(unknown, b"not even JSON").unwrap(),
            None,
            "{unknown}"
        );
    }
    assert_eq!(OrderEvent::decode("orders.eaten.v1", b"{}").unwrap(), None);
}

#[test]
fn a_known_type_with_unreadable_data_is_an_error() {
    assert!(UserEvent::decode(UserEvent::CREATED, b"{}").is_err());
    assert!(OrderEvent::decode(OrderEvent::PLACED, b"[]").is_err());
}

#[test]
fn no_event_of_a_user_has_room_for_an_email_address() {
    for (event_type, schema) in schemas() {
        let properties = schema.as_value()["properties"].as_object().unwrap();
        let private = properties.keys().find(|name| name.contains("mail"));
        assert_eq!(private, None, "{event_type}");
    }
}

#[test]
fn what_devices_and_their_owner_once_said_is_understood_and_said_again_the_same() {
    for (name, again) in [
        (
            "upload.first-devices",
            again::<Upload> as fn(&str) -> String,
        ),
        ("upload", again::<Upload>),
        ("verdicts", again::<Verdicts>),
        ("feed", again::<FeedPage>),
        ("feed.snapshot", again::<FeedPage>),
    ] {
        let said = fs::read_to_string(folder("sync").join(format!("{name}.json"))).unwrap();
        assert_eq!(again(&said), said.trim_end(), "{name}");
    }
    assert_eq!(names("sync").len(), 5);
}

#[test]
fn a_word_of_a_later_writer_is_kept_as_it_is() {
    let reason: CancelReason = serde_json::from_str("\"eaten\"").unwrap();
    assert_eq!(reason, CancelReason::Other("eaten".to_owned()));
    assert_eq!(serde_json::to_string(&reason).unwrap(), "\"eaten\"");
}

#[test]
fn every_recorded_row_of_a_snapshot_decodes_and_encodes_to_the_same_line_and_satisfies_its_schema()
{
    let schemas = snapshot_schemas();
    let types: Vec<_> = schemas.iter().map(|(of, _)| *of).collect();
    assert_eq!(types, [UserSnapshot::TYPE, OrderSnapshot::TYPE]);
    assert_eq!(names("snapshots/fixtures").len(), types.len());
    assert_eq!(names("snapshots/schemas").len(), types.len());
    for (of, schema) in schemas {
        let line =
            fs::read_to_string(folder("snapshots/fixtures").join(format!("{of}.json"))).unwrap();
        let again = match of {
            UserSnapshot::TYPE => again::<UserSnapshot>(&line),
            _ => again::<OrderSnapshot>(&line),
        };
        // Byte for byte: a cache is compared with its owner line by line.
        assert_eq!(again, line.trim_end(), "{of}");
        let row: Value = serde_json::from_str(&line).unwrap();
        let valid = jsonschema::validator_for(schema.as_value()).unwrap();
        assert!(valid.is_valid(&row), "{of}");
        assert!(!valid.is_valid(&json!({})), "{of}");
        let properties = schema.as_value()["properties"].as_object().unwrap();
        assert!(!properties.keys().any(|name| name.contains("mail")), "{of}");
    }
}

fn again<T: Serialize + DeserializeOwned>(line: &str) -> String {
    serde_json::to_string(&serde_json::from_str::<T>(line).unwrap()).unwrap()
}

/// Decodes with the stream's own enum; answers the event's type and aggregate, and its data written again.
fn decode(event_type: &str, data: &Value) -> ([String; 2], Value) {
    let bytes = data.to_string().into_bytes();
    if event_type.starts_with("users.") {
        let event = UserEvent::decode(event_type, &bytes).unwrap().unwrap();
        assert_eq!(data["version"], event.version().get());
        let facts = [event.event_type().to_owned(), event.aggregate().to_string()];
        (facts, serde_json::to_value(event).unwrap())
    } else {
        let event = OrderEvent::decode(event_type, &bytes).unwrap().unwrap();
        assert_eq!(data["version"], event.version().get());
        let facts = [event.event_type().to_owned(), event.aggregate().to_string()];
        (facts, serde_json::to_value(event).unwrap())
    }
}

fn parts(envelope: &Value) -> (&str, &Value) {
    (envelope["type"].as_str().unwrap(), &envelope["data"])
}

fn fixtures() -> Vec<Value> {
    let read = |name: &String| fs::read(folder("fixtures").join(format!("{name}.json"))).unwrap();
    let fixtures = names("fixtures");
    assert!(!fixtures.is_empty());
    fixtures
        .iter()
        .map(|name| serde_json::from_slice(&read(name)).unwrap())
        .collect()
}

/// The file names in a folder, without `.json`, sorted.
fn names(of: &str) -> Vec<String> {
    let files = fs::read_dir(folder(of)).unwrap();
    let name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    let mut names: Vec<_> = files
        .map(|file| name(file.unwrap()).replace(".json", ""))
        .collect();
    names.sort();
    names
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
