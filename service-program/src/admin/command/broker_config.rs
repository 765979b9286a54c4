//! The account file of a service: what nats.conf includes for it, generated from the program's declaration.

use relay::nats::account_file;
use serde_json::json;

use crate::admin::command::answer::Answer;
use crate::admin::setup::Setup;

/// Needs neither the broker nor a password.
pub(super) fn print(setup: &Setup) -> Answer {
    let about = &setup.about;
    let follows = setup.consumers.iter().map(|consumer| consumer.stream());
    let room = setup.common.max_stream_bytes;
    let text = account_file(about.name, &about.stream, &follows.collect(), room);
    let json = json!({"account": about.stream, "file": text});
    Answer::plain(json, text.trim_end())
}
