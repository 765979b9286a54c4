//! The contract's promises: the published schemas are those of the code, and every recording still decodes.
//!
//! After a change that only grows the contract, run `FREEHOLD_WRITE_SCHEMAS=1 cargo test -p freehold-event-schema` and read the
//! difference before you commit it. Fixtures are recordings and never change: a change of the contract adds one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use event_schema::sync::{FeedPage, Upload, Verdicts};
use event_schema::{CancelReason, Event, OrderEvent, OrderSnapshot, UserEvent, UserSnapshot};
use freehold_event::schema;
use schemars::Schema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A recorded event, as it is in the stream.
struct Fixture {
    /// The file's name after the type: the field that this recording adds. Empty for the first of a type.
    adds: String,
    envelope: Value,
}

#[test]
fn every_event_of_a_user_keeps_the_contract() {
    keeps_the_contract::<UserEvent>();
}

#[test]
fn every_event_of_an_order_keeps_the_contract() {
    keeps_the_contract::<OrderEvent>();
}

/// What holds for each type of a stream follows from its declaration, so that no list has to name it.
fn keeps_the_contract<E: Event>() {
    for (event_type, schema) in E::schemas() {
        assert_published("schemas", event_type, &schema);
        assert_no_address(event_type, &schema);
        let fixtures = fixtures(event_type);
        assert!(!fixtures.is_empty(), "{event_type} has no fixture");
        for fixture in fixtures {
            assert_envelope::<E>(event_type, &fixture.envelope);
            assert_adds(event_type, &fixture);
            let data = &fixture.envelope["data"];
            assert_decodes::<E>(&fixture.envelope, data);
            assert_ignores_later_fields::<E>(&fixture.envelope, data);
            assert_valid(event_type, &schema, data);
        }
    }
}

fn assert_published(folder_name: &str, name: &str, schema: &Schema) {
    let generated = format!("{:#}\n", schema.as_value());
    let path = folder(folder_name).join(format!("{name}.json"));
    if std::env::var_os("FREEHOLD_WRITE_SCHEMAS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(published, generated, "{name}: see the top of this file");
}

fn assert_no_address(name: &str, schema: &Schema) {
    let properties = schema.as_value()["properties"].as_object().unwrap();
    let private = properties.keys().find(|name| name.contains("mail"));
    assert_eq!(private, None, "{name}");
}

fn assert_envelope<E: Event>(event_type: &str, envelope: &Value) {
    let root = E::STREAM.to_lowercase();
    assert!(event_type.starts_with(&format!("{root}.")), "{event_type}");
    assert_eq!(envelope["specversion"], "1.0");
    assert_eq!(envelope["source"], format!("/{root}"));
    assert_eq!(
        envelope["dataschema"],
        freehold_event::schema_id(event_type)
    );
    assert_eq!(envelope["datacontenttype"], "application/json");
    assert_eq!(envelope["sequence"].as_str().unwrap().len(), 20);
}

fn assert_adds(event_type: &str, fixture: &Fixture) {
    let field = match fixture.adds.as_str() {
        "" => "data",
        field => field,
    };
    let envelope = &fixture.envelope;
    let added = envelope.get(field).or(envelope["data"].get(field));
    assert!(added.is_some(), "{event_type}.{field} has no {field}");
}

/// The recording decodes, names what its envelope names, and encodes to the same data.
fn assert_decodes<E: Event>(envelope: &Value, data: &Value) {
    let event = decode::<E>(envelope, data);
    assert_eq!(envelope["type"], event.event_type());
    assert_eq!(envelope["subject"], event.aggregate());
    assert_eq!(serde_json::to_value(&event).unwrap(), *data);
}

fn assert_ignores_later_fields<E: Event>(envelope: &Value, data: &Value) {
    let mut later = data.clone();
    later["added_later"] = json!({"anything": [1, 2, 3]});
    let event = decode::<E>(envelope, &later);
    assert_eq!(serde_json::to_value(&event).unwrap(), *data);
}

/// The schema accepts the recording, and refuses it without a required field or with a field of another type.
fn assert_valid(event_type: &str, schema: &Schema, data: &Value) {
    let required = schema.as_value()["required"].as_array().unwrap();
    let schema = jsonschema::options()
        .should_validate_formats(true)
        .build(schema.as_value())
        .unwrap();
    if let Err(error) = schema.validate(data) {
        panic!("{event_type}: {error}");
    }
    for field in data.as_object().unwrap().keys() {
        let mut maimed = data.clone();
        maimed.as_object_mut().unwrap().remove(field);
        let optional = !required.contains(&json!(field));
        let valid = schema.is_valid(&maimed);
        assert_eq!(valid, optional, "{event_type} without {field}");
        maimed[field] = json!(["of another type"]);
        let valid = schema.is_valid(&maimed);
        assert!(!valid, "{event_type} with another {field}");
    }
}

#[test]
fn only_types_of_the_contract_have_files() {
    let types = UserEvent::schemas()
        .into_iter()
        .chain(OrderEvent::schemas());
    let mut types: Vec<_> = types.map(|(name, _)| name.to_owned()).collect();
    types.sort();
    assert_eq!(names("schemas"), types);
    let recorded: usize = types.iter().map(|of| fixtures(of).len()).sum();
    assert_eq!(names("fixtures").len(), recorded);
}

#[test]
fn the_versions_and_times_of_events_are_those_of_their_data() {
    for of in names("fixtures") {
        let envelope = json_of(&format!("fixtures/{of}"));
        let data = &envelope["data"];
        let version = match of.starts_with("users.") {
            true => decode::<UserEvent>(&envelope, data).version(),
            false => {
                let event = decode::<OrderEvent>(&envelope, data);
                let at = data.get("at_ms").or(data.get("created_at_ms"));
                assert_eq!(event.at_ms(), at.and_then(Value::as_i64), "{of}");
                event.version()
            }
        };
        assert_eq!(data["version"], version.get(), "{of}");
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
        let decoded = UserEvent::decode(unknown, b"not even JSON").unwrap();
        assert_eq!(decoded, None, "{unknown}");
    }
    assert_eq!(OrderEvent::decode("orders.eaten.v1", b"{}").unwrap(), None);
}

#[test]
fn a_known_type_with_unreadable_data_is_an_error() {
    assert!(UserEvent::decode("users.created.v1", b"{}").is_err());
    assert!(OrderEvent::decode("orders.placed.v1", b"[]").is_err());
}

#[test]
fn every_recorded_message_of_the_sync_contract_decodes_and_encodes_to_the_same_text() {
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
        let recorded = read(&format!("sync/{name}"));
        assert_eq!(again(&recorded), recorded.trim_end(), "{name}");
    }
    assert_eq!(names("sync").len(), 5);
}

#[test]
fn an_unknown_word_is_kept_as_it_is() {
    let reason: CancelReason = serde_json::from_str("\"eaten\"").unwrap();
    assert_eq!(reason, CancelReason::Other("eaten".to_owned()));
    assert_eq!(serde_json::to_string(&reason).unwrap(), "\"eaten\"");
}

#[test]
fn every_row_of_a_snapshot_keeps_the_contract() {
    row_keeps_the_contract::<UserSnapshot>(UserSnapshot::TYPE);
    row_keeps_the_contract::<OrderSnapshot>(OrderSnapshot::TYPE);
    assert_eq!(names("snapshots/fixtures").len(), 2);
    assert_eq!(names("snapshots/schemas").len(), 2);
}

fn row_keeps_the_contract<T>(name: &str)
where
    T: Serialize + DeserializeOwned + schemars::JsonSchema,
{
    let schema = schema::<T>(name);
    assert_published("snapshots/schemas", name, &schema);
    assert_no_address(name, &schema);
    let line = read(&format!("snapshots/fixtures/{name}"));
    // Byte for byte: a cache is compared with its owner line by line.
    assert_eq!(again::<T>(&line), line.trim_end(), "{name}");
    let valid = jsonschema::validator_for(schema.as_value()).unwrap();
    assert!(
        valid.is_valid(&serde_json::from_str(&line).unwrap()),
        "{name}"
    );
    assert!(!valid.is_valid(&json!({})), "{name}");
}

fn again<T: Serialize + DeserializeOwned>(line: &str) -> String {
    serde_json::to_string(&serde_json::from_str::<T>(line).unwrap()).unwrap()
}

fn decode<E: Event>(envelope: &Value, data: &Value) -> E {
    let event_type = envelope["type"].as_str().unwrap();
    let event = E::decode(event_type, data.to_string().as_bytes()).unwrap();
    event.unwrap_or_else(|| panic!("{event_type} is no type of {}", E::STREAM))
}

/// The recordings of a type: `orders.placed.v1` and `orders.placed.v1.created_at_ms`.
fn fixtures(event_type: &str) -> Vec<Fixture> {
    let fixture = |name: &String| {
        let adds = name.strip_prefix(event_type)?;
        let adds = adds.strip_prefix('.').or(adds.is_empty().then_some(""))?;
        let (adds, envelope) = (adds.to_owned(), json_of(&format!("fixtures/{name}")));
        Some(Fixture { adds, envelope })
    };
    names("fixtures").iter().filter_map(fixture).collect()
}

fn json_of(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap()
}

fn read(file: &str) -> String {
    fs::read_to_string(folder(&format!("{file}.json"))).unwrap()
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
