//! orders-service: parse the settings, open the file, publish its events, apply those of the users, answer HTTP until
//! told to stop.

use std::process::ExitCode;

use event_schema::{OrderEvent, UserEvent};
use orders_service::cache::users;
use orders_service::config::{self, ABOUT, Config, READERS};
use orders_service::http;
use orders_service::user_api::UserApi;
use relay::Database;
use service_kit::Service;

#[tokio::main]
async fn main() -> ExitCode {
    service_kit::exit(run(service_kit::parse(&ABOUT)).await)
}

async fn run(Config { common, users_url }: Config) -> anyhow::Result<()> {
    service_kit::keep_files_private();
    service_kit::start_logs()?;
    let stop = service_kit::stop_on_signal();
    let nats = common.nats(&ABOUT)?;
    let user_api = UserApi::new(users_url.read("--users-url")?)?;
    let listener = common.bind().await?;
    let db = Database::open(&common.database, config::database()).await?;

    let service = Service::new(&db)
        .publish(nats.stream(OrderEvent::STREAM, READERS))
        .apply(
            users::consumer(),
            nats.reader(UserEvent::STREAM, users::CONSUMER),
        );
    service
        .serve(http::routes(db, user_api), listener, stop)
        .await
}
