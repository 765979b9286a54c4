//! `status`: the file, its stream, the running service, and what was done to the file by hand.

use relay::{Report, ReportedReader};
use serde_json::{Value, json};

use super::answer::{Answer, count, moment, place};
use super::stream::StreamSeen;
use crate::admin::door;
use crate::admin::operator_api::{ConsumerState, State, StreamRoom};
use crate::program::Parts;
use crate::program::exit::Outcome;

pub(super) async fn status(parts: &Parts) -> anyhow::Result<Answer> {
    let file = parts.look().await?;
    let running = door::find(parts.database()).await;
    let report = file.report().await?;
    let seen = Seen {
        path: file.path().display().to_string(),
        now_ms: parts.options.environment.now_ms(),
        stream: StreamSeen::look(parts, &file, &report).await,
        service: match running {
            Ok(running) => Service::from(running.map(|(_, state)| state)),
            Err(error) => Service::Silent(relay::chain(error.as_ref())),
        },
        report,
    };
    Ok(seen.answer(parts))
}

struct Seen {
    path: String,
    report: Report,
    now_ms: u64,
    stream: StreamSeen,
    service: Service,
}

/// The service that has the file open.
enum Service {
    Runs(State),
    /// It runs and gives no answer.
    Silent(String),
    Stopped,
}

impl From<Option<State>> for Service {
    fn from(state: Option<State>) -> Self {
        state.map_or(Self::Stopped, Self::Runs)
    }
}

impl Service {
    fn consumer(&self, name: &str) -> Option<&ConsumerState> {
        let Self::Runs(state) = self else { return None };
        state.consumers.iter().find(|known| known.name == name)
    }

    /// Whether each of its consumers has looked at its stream.
    fn is_known(&self) -> bool {
        let Self::Runs(state) = self else { return true };
        let mut consumers = state.consumers.iter();
        consumers.all(|consumer| consumer.stream_head.is_some())
    }

    fn is_well(&self) -> bool {
        match self {
            Self::Runs(state) => {
                let fares = |consumer: &ConsumerState| consumer.trouble.is_none();
                let publishes = state.relay.as_deref() == Some("publishing");
                let writes = state.refuses_writes.as_ref().or(state.disk.as_ref());
                let room = state.stream_room.as_ref();
                publishes
                    && writes.is_none()
                    && state.trouble.is_none()
                    && room.is_none_or(|room| !room.nearly_full)
                    && state.consumers.iter().all(fares)
            }
            Self::Silent(_) => false,
            Self::Stopped => true,
        }
    }
}

impl Seen {
    fn is_well(&self) -> bool {
        self.service.is_well()
            && self.stream.is_well()
            && self.report.must_import.is_none()
            && self.report.dead_letters == 0
    }

    fn is_known(&self) -> bool {
        self.stream.is_known() && self.service.is_known()
    }

    fn answer(&self, parts: &Parts) -> Answer {
        let (report, about) = (&self.report, &parts.about);
        let mut answer = Answer::new(self.json(parts))
            .line("service", self.service_line(about.name))
            .line("file", &self.path)
            .line(
                "database",
                format!(
                    "{}, epoch {}",
                    report.origin.database_id, report.origin.epoch
                ),
            )
            .line("writes", self.writes_line())
            .line(
                "events",
                match report.last {
                    Some(last) => {
                        format!("{} to {}, the last is {}", report.first, last.seq, last.id)
                    }
                    None => "none yet".to_owned(),
                },
            )
            .line("stream", format!("{}: {}", about.stream, self.stream.text));
        if let Service::Runs(state) = &self.service {
            if let Some(why) = &state.trouble {
                answer = answer.line("trouble", why);
            }
            if let Some(room) = &state.stream_room {
                answer = answer.line("stream size", size_of(room));
            }
        }
        for consumer in &parts.consumers {
            answer = answer.line(
                "consumer",
                self.consumer_line(consumer.name(), consumer.stream()),
            );
        }
        for reader in &report.readers {
            answer = answer.line("reader", self.reader_line(reader));
        }
        answer = answer
            .line("dead letters", report.dead_letters)
            .line("set aside", report.set_aside);
        for entry in &report.audit {
            let text = format!(
                "{}  {}: {}",
                moment(entry.at_ms),
                entry.action,
                entry.detail
            );
            answer = answer.line("audit", text);
        }
        answer.ends(match (self.is_well(), self.is_known()) {
            (false, _) => Outcome::Differs,
            (true, false) => Outcome::Unknown,
            (true, true) => Outcome::Done,
        })
    }

    fn service_line(&self, name: &str) -> String {
        match &self.service {
            Service::Runs(State { relay, .. }) => {
                let relay = relay.as_deref().unwrap_or("without a relay");
                format!("{name} runs, {relay}")
            }
            Service::Silent(why) => format!("{name} runs and does not answer: {why}"),
            Service::Stopped => format!("{name} does not run"),
        }
    }

    fn writes_line(&self) -> String {
        let refusal = match &self.service {
            Service::Runs(State {
                refuses_writes: None,
                disk: Some(trouble),
                ..
            }) => return format!("in trouble: {trouble}"),
            Service::Runs(state) => state.refuses_writes.as_ref(),
            Service::Silent(_) | Service::Stopped => self.report.must_import.as_ref(),
        };
        match (refusal, &self.service) {
            (None, Service::Runs(_)) => "taken".to_owned(),
            (None, _) => "taken at the next start".to_owned(),
            (Some(why), Service::Runs(_)) => format!("refused: {why}"),
            (Some(why), _) => format!("wait at the next start until the stream was met: {why}"),
        }
    }

    fn consumer_line(&self, name: &str, stream: &str) -> String {
        let offsets = &self.report.consumers;
        let at = offsets.iter().find(|known| known.consumer == name);
        let at = place(at.map(|known| known.at));
        let fares = match self.service.consumer(name) {
            Some(ConsumerState {
                trouble: Some(why), ..
            }) => format!("; stands still: {why}"),
            Some(ConsumerState {
                rebuilding: Some(rows),
                ..
            }) => {
                format!("; loading a snapshot, {} so far", count(*rows, "row"))
            }
            Some(ConsumerState {
                stream_head: Some(head),
                offset,
                ..
            }) => format!("; {} behind", head.saturating_sub(*offset)),
            Some(_) => {
                format!("; how far behind is not known: {stream} was not read since the start")
            }
            None => String::new(),
        };
        format!("{name} has applied {stream} up to {at}{fares}")
    }

    fn reader_line(&self, reader: &ReportedReader) -> String {
        let ReportedReader {
            reader: name,
            seq,
            at_ms,
        } = reader;
        let (lag, ago_s) = (self.lag(reader), self.ago_s(reader));
        format!(
            "{name} is at {seq}, {lag} behind; it reported {ago_s} s ago, at {}",
            moment(*at_ms)
        )
    }

    fn lag(&self, reader: &ReportedReader) -> u64 {
        let head = self.report.last.map_or(0, |last| last.seq);
        head.saturating_sub(reader.seq)
    }

    fn ago_s(&self, reader: &ReportedReader) -> u64 {
        self.now_ms.saturating_sub(reader.at_ms) / 1_000
    }

    fn json(&self, parts: &Parts) -> Value {
        let (report, about) = (&self.report, &parts.about);
        let (running, state) = match &self.service {
            Service::Runs(state) => (json!(true), json!(state)),
            Service::Silent(why) => (json!(true), json!({"silent": why})),
            Service::Stopped => (json!(false), Value::Null),
        };
        json!({
            "healthy": self.is_well() && self.is_known(),
            "service": about.name,
            "file": self.path,
            "database_id": report.origin.database_id.to_string(),
            "epoch": report.origin.epoch,
            "must_import": report.must_import,
            "first": report.first,
            "last": report.last,
            "stream": {
                "name": about.stream,
                "state": self.stream.state,
                "text": self.stream.text,
                "head": self.stream.head,
            },
            "running": running,
            "state": state,
            "consumers": report.consumers.iter().map(|known| json!({
                "consumer": known.consumer,
                "stream": known.stream,
                "at": known.at,
                "epoch": known.epoch,
            })).collect::<Vec<_>>(),
            "readers": report.readers.iter().map(|reader| json!({
                "reader": reader.reader,
                "seq": reader.seq,
                "lag": self.lag(reader),
                "reported_at": moment(reader.at_ms),
                "reported_s_ago": self.ago_s(reader),
            })).collect::<Vec<_>>(),
            "dead_letters": report.dead_letters,
            "set_aside": report.set_aside,
            "audit": report.audit.iter().map(|entry| json!({
                "at": moment(entry.at_ms),
                "action": entry.action,
                "detail": entry.detail,
            })).collect::<Vec<_>>(),
        })
    }
}

fn size_of(room: &StreamRoom) -> String {
    let StreamRoom {
        bytes, max_bytes, ..
    } = room;
    let warning = match room.nearly_full {
        true => "; nearly full: when it is full nothing more is published",
        false => "",
    };
    format!("{bytes} of {max_bytes} bytes{warning}")
}
