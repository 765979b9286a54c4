//! What the service declares, for a program that starts it: `cargo xtask up --with`, the test harness.

use std::collections::BTreeSet;

use relay::Consumer;
use serde_json::json;

use crate::admin::command::answer::Answer;
use crate::admin::setup::Setup;

/// Needs neither the broker nor a password.
pub(super) fn describe(setup: &Setup) -> Answer {
    let about = &setup.about;
    let follows: BTreeSet<&str> = setup.consumers.iter().map(Consumer::stream).collect();
    let json = json!({
        "name": about.name,
        "version": about.version,
        "port": about.port,
        "stream": about.stream,
        "follows": follows,
    });
    Answer::plain(json.clone(), &json.to_string())
}
