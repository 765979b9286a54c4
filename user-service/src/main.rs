//! user-service: parse the settings, open the file, publish its events, answer HTTP until told to stop.

use std::process::ExitCode;

use event_schema::UserEvent;
use relay::Database;
use service_kit::Service;
use user_service::config::{self, ABOUT, Config, READERS};
use user_service::http;

#[tokio::main]
async fn main() -> ExitCode {
    service_kit::exit(run(service_kit::parse(&ABOUT)).await)
}

async fn run(Config { common }: Config) -> anyhow::Result<()> {
    service_kit::keep_files_private();
    service_kit::start_logs()?;
    let stop = service_kit::stop_on_signal();
    let nats = common.nats(&ABOUT)?;
    let listener = common.bind().await?;
    let db = Database::open(&common.database, config::database()).await?;

    let service = Service::new(&db).publish(nats.stream(UserEvent::STREAM, READERS));
    service.serve(http::routes(db), listener, stop).await
}
