//! `status`: the file, its stream, the running service, and what operators did to the file.

use std::path::Path;

use relay::Consumer;
use relay::operate::Report;
use relay::publish::ReportedReader;
use serde_json::{Value, json};

use crate::admin::api::{State, StreamRoom};
use crate::admin::command::answer::{Answer, count, database, moment, position};
use crate::admin::command::stream::StreamStatus;
use crate::admin::setup::Setup;
use crate::admin::socket;
use crate::process::exit::Outcome;

pub(super) async fn status(setup: &Setup) -> anyhow::Result<Answer> {
    let file = setup.read_only().await?;
    let service = match socket::find(setup.database()).await {
        Ok(Some((_, state))) => Service::Runs(state),
        Ok(None) => Service::Stopped,
        Err(error) => Service::Silent(relay::error::chain(error.as_ref())),
    };
    let report = file.report().await?;
    let status = Status {
        setup,
        path: file.path(),
        now_ms: setup.options.environment.now_ms(),
        stream: StreamStatus::ask(setup, &file, &report).await,
        service,
        report,
    };
    Ok(status.answer())
}

struct Status<'a> {
    setup: &'a Setup,
    path: &'a Path,
    report: Report,
    now_ms: u64,
    stream: StreamStatus,
    service: Service,
}

/// The service that has the file open.
enum Service {
    Runs(State),
    /// It runs but does not answer.
    Silent(String),
    Stopped,
}

impl Service {
    /// `None`: one of its consumers has not looked at its stream yet.
    fn is_well(&self) -> Option<bool> {
        let state = match self {
            Self::Runs(state) => state,
            Self::Silent(_) => return Some(false),
            Self::Stopped => return Some(true),
        };
        let mut consumers = state.consumers.iter().map(|consumer| &consumer.status);
        let room = state.stream_room.as_ref();
        let troubles = [&state.refuses_writes, &state.disk, &state.trouble];
        let well = state.relay.as_deref() == Some("publishing")
            && troubles.iter().all(|trouble| trouble.is_none())
            && room.is_none_or(|room| !room.nearly_full)
            && consumers.clone().all(|consumer| consumer.trouble.is_none());
        let known = consumers.all(|consumer| consumer.stream_head.is_some());
        (known || !well).then_some(well)
    }
}

impl Status<'_> {
    fn outcome(&self) -> Outcome {
        let file = self.report.must_import.is_none() && self.report.dead_letters == 0;
        match (file, self.service.is_well(), self.stream.is_well()) {
            (true, Some(true), Some(true)) => Outcome::Done,
            (false, ..) | (_, Some(false), _) | (.., Some(false)) => Outcome::Differs,
            _ => Outcome::Unknown,
        }
    }

    fn answer(&self) -> Answer {
        let (report, stream) = (&self.report, &self.setup.about.stream);
        let mut answer = Answer::new(self.json())
            .line("service", self.service_line())
            .line("file", self.path.display())
            .line("database", database(&report.origin))
            .line("writes", self.writes_line())
            .line("events", self.events_line())
            .line("stream", format!("{stream}: {}", self.stream.text));
        if let Service::Runs(state) = &self.service {
            let room = state.stream_room.as_ref().map(size_line);
            answer = answer
                .lines("trouble", &state.trouble)
                .lines("stream size", room);
        }
        let consumers = self.setup.consumers.iter();
        let readers = report.readers.iter();
        let audit = report.audit.iter().map(|entry| {
            let (at, action, detail) = (moment(entry.at_ms), &entry.action, &entry.detail);
            format!("{at}  {action}: {detail}")
        });
        answer
            .lines("consumer", consumers.map(|one| self.consumer_line(one)))
            .lines("reader", readers.map(|one| self.reader_line(one)))
            .line("dead letters", report.dead_letters)
            .line("quarantined", report.quarantined)
            .lines("audit", audit)
            .ends(self.outcome())
    }

    fn service_line(&self) -> String {
        let name = self.setup.about.name;
        match &self.service {
            Service::Runs(State { relay, .. }) => {
                let relay = relay.as_deref().unwrap_or("without a relay");
                format!("{name} runs, {relay}")
            }
            Service::Silent(why) => format!("{name} runs but does not answer: {why}"),
            Service::Stopped => format!("{name} does not run"),
        }
    }

    fn writes_line(&self) -> String {
        match (&self.service, &self.report.must_import) {
            (Service::Runs(state), _) => match (&state.refuses_writes, &state.disk) {
                (Some(why), _) => format!("refused: {why}"),
                (None, Some(trouble)) => format!("in trouble: {trouble}"),
                (None, None) => "accepted".to_owned(),
            },
            (_, Some(why)) => format!(
                "refused after the next start until the file is compared with its stream: {why}"
            ),
            (_, None) => "accepted after the next start".to_owned(),
        }
    }

    fn events_line(&self) -> String {
        let Report { first, last, .. } = &self.report;
        let line = last.map(|last| format!("{first} to {}, the last is {}", last.seq, last.id));
        line.unwrap_or_else(|| "none yet".to_owned())
    }

    fn consumer_line(&self, consumer: &Consumer) -> String {
        let (name, stream) = (consumer.name(), consumer.stream());
        let mut offsets = self.report.consumers.iter();
        let offset = offsets.find(|known| known.consumer == name);
        let line = format!(
            "{name} has applied {stream} up to {}",
            position(offset.map(|known| known.at))
        );
        let Service::Runs(state) = &self.service else {
            return line;
        };
        let Some(known) = state.consumers.iter().find(|known| known.name == name) else {
            return line;
        };
        let status = &known.status;
        match (&status.trouble, status.rebuilding, status.behind()) {
            (Some(why), ..) => format!("{line}; stopped: {why}"),
            (_, Some(rows), _) => {
                format!("{line}; loading a snapshot, {} so far", count(rows, "row"))
            }
            (.., Some(behind)) => format!("{line}; {behind} behind"),
            (.., None) => format!(
                "{line}; how far behind is unknown: it has not read {stream} since the start"
            ),
        }
    }

    fn reader_line(&self, of: &ReportedReader) -> String {
        let ReportedReader { reader, seq, at_ms } = of;
        let (lag, ago_s, at) = (self.lag(of), self.ago_s(of), moment(*at_ms));
        format!("{reader} is at {seq}, {lag} behind; it reported {ago_s} s ago, at {at}")
    }

    fn lag(&self, reader: &ReportedReader) -> u64 {
        let head = self.report.last.map_or(0, |last| last.seq);
        head.saturating_sub(reader.seq)
    }

    fn ago_s(&self, reader: &ReportedReader) -> u64 {
        self.now_ms.saturating_sub(reader.at_ms) / 1_000
    }

    fn json(&self) -> Value {
        let (report, about, stream) = (&self.report, &self.setup.about, &self.stream);
        let state = match &self.service {
            Service::Runs(state) => json!(state),
            Service::Silent(why) => json!({"silent": why}),
            Service::Stopped => Value::Null,
        };
        let readers = report.readers.iter().map(|reader| {
            json!({
                "reader": reader.reader,
                "seq": reader.seq,
                "lag": self.lag(reader),
                "reported_at": moment(reader.at_ms),
                "reported_s_ago": self.ago_s(reader),
            })
        });
        let audit = report.audit.iter().map(
            |entry| json!({"at": moment(entry.at_ms), "action": entry.action, "detail": entry.detail}),
        );
        json!({
            "healthy": self.outcome() == Outcome::Done,
            "service": about.name,
            "file": self.path.display().to_string(),
            "database_id": report.origin.database_id.to_string(),
            "epoch": report.origin.epoch,
            "must_import": report.must_import,
            "first": report.first,
            "last": report.last,
            "stream": {"name": about.stream, "state": stream.state, "text": stream.text, "head": stream.head},
            "running": !matches!(self.service, Service::Stopped),
            "state": state,
            "consumers": report.consumers,
            "readers": readers.collect::<Value>(),
            "dead_letters": report.dead_letters,
            "set_aside": report.quarantined,
            "audit": audit.collect::<Value>(),
        })
    }
}

fn size_line(room: &StreamRoom) -> String {
    let line = format!("{} of {} bytes", room.bytes, room.max_bytes);
    match room.nearly_full {
        true => format!("{line}; nearly full: when it is full nothing more is published"),
        false => line,
    }
}
