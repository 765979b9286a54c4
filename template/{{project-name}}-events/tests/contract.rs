//! What was written once can still be read: every recording decodes, and nothing of it is lost.
//!
//! A recording never changes. A new field gets one of its own.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use {{project-name | snake_case}}_events::{Event, {{item | pascal_case}}Event};

#[test]
fn every_type_has_a_recording_and_every_recording_decodes() {
    for (event_type, _) in {{item | pascal_case}}Event::schemas() {
        let recordings = recordings(event_type);
        assert!(!recordings.is_empty(), "{event_type} has no recording in fixtures/");
        for text in recordings {
            let event = {{item | pascal_case}}Event::decode(event_type, text.as_bytes());
            let event = event.expect(event_type).expect(event_type);
            let read = serde_json::to_value(&event).expect("JSON");
            let recorded: Map<String, Value> = serde_json::from_str(&text).expect("JSON");
            for (field, value) in recorded {
                assert_eq!(read[&field], value, "{event_type} has lost its {field}");
            }
        }
    }
}

/// `recorded.v1.json` and `recorded.v1.FIELD.json` of `{{project-name | snake_case}}.recorded.v1`.
fn recordings(event_type: &str) -> Vec<String> {
    let (_, name) = event_type.split_once('.').expect("STREAM.NAME.VERSION");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let files = fs::read_dir(folder).expect("fixtures").map(|file| file.expect("a file").path());
    let of_type = |path: &Path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name));
    let read = |path| fs::read_to_string(path).expect("a text");
    files.filter(|path| of_type(path)).map(read).collect()
}
