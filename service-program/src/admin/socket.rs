//! The admin socket: while a service runs, its operator's commands reach it through `<database>.admin`, a Unix socket that
//! only the service's own user can open (mode 0600). The lock of the database excludes a second process on the same file.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use relay::Stop;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use crate::admin::api::State;
use crate::process::files::sibling;
use service_kit::limits::MAX_DRAIN_TIME;
use service_kit::{http_client, refusal};

/// The service's end. A service that cannot bind its socket serves HTTP all the same.
pub(crate) struct Socket {
    path: PathBuf,
    bound: io::Result<UnixListener>,
}

/// The command's end: a client of the running service.
pub(crate) struct Running(Client);

/// Longer than a service takes for any request.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(15);
/// How long a service waits before it tries to bind again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

impl Socket {
    /// Call it while the database is open.
    pub(crate) fn bind(database: &Path) -> Self {
        let _of_earlier_versions = fs::remove_file(sibling(database, "door"));
        let path = sibling(database, "admin");
        let bound = bind(&path);
        if let Err(error) = &bound {
            let path = path.display();
            tracing::error!(%error, %path, "the operator's commands cannot reach this service until it can bind its admin socket");
        }
        Self { path, bound }
    }

    /// Serves until the stop and removes the socket. A disk that was full at the start has room later.
    pub(crate) async fn serve(self, api: Router, stop: Stop) {
        let Self { path, mut bound } = self;
        let listener = loop {
            match bound {
                Ok(listener) => break listener,
                Err(_) => match stop.run_until_cancelled(sleep(TRY_AGAIN)).await {
                    Some(()) => bound = bind(&path),
                    None => return,
                },
            }
        };
        let serve =
            axum::serve(listener, api).with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::select! {
            _ = serve => {}
            () = async { stop.cancelled().await; sleep(MAX_DRAIN_TIME).await } => {}
        }
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove the admin socket");
        }
    }
}

/// Replaces the socket of a process that crashed.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The service that has this database open, and its state. `None`: it does not run, or it has no socket.
pub(crate) async fn find(database: &Path) -> anyhow::Result<Option<(Running, State)>> {
    let path = sibling(database, "admin");
    match UnixStream::connect(&path).await {
        Ok(_) => {}
        // There is no socket; a crash has left it; its path is too long for one.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::InvalidInput
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot connect to {}", path.display()));
        }
    }
    let client = http_client().timeout(MAX_ANSWER_TIME).unix_socket(path);
    let running = Running(client.build()?);
    let state = running.state().await?;
    Ok(Some((running, state)))
}

impl Running {
    pub(crate) async fn state(&self) -> anyhow::Result<State> {
        send(self.0.get("http://admin/state")).await
    }

    /// `consumers/orders-user-cache/rebuild`
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        send(self.0.post(format!("http://admin/{path}")).json(body)).await
    }
}

async fn send<T: DeserializeOwned>(request: RequestBuilder) -> anyhow::Result<T> {
    let answer = request.send().await.map_err(reqwest::Error::without_url);
    let answer = answer.context("the running service does not answer")?;
    match answer.status() {
        StatusCode::OK => {
            let answer = answer.json().await;
            answer.context("cannot read the answer of the running service; is it another version?")
        }
        _ => bail!("the running service answered {}", refusal(answer).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves an API that a command can ask, until dropped.
    fn serve(socket: Socket) -> (tokio::task::JoinHandle<()>, Stop) {
        let stop = Stop::new();
        (
            tokio::spawn(socket.serve(Router::new(), stop.clone())),
            stop,
        )
    }

    #[tokio::test]
    async fn the_socket_is_its_users_own_and_goes_with_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let (database, path) = (folder.path().join("a.db"), folder.path().join("a.db.admin"));
        fs::write(folder.path().join("a.db.door"), "of an earlier version").unwrap();
        drop(UnixListener::bind(&path).unwrap()); // as a crash leaves it
        assert!(find(&database).await.unwrap().is_none());
        let (served, stop) = serve(Socket::bind(&database));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refused = find(&database).await.err().unwrap().to_string();
        assert!(refused.contains("404"), "{refused}");
        stop.cancel();
        served.await.unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_could_not_be_bound_is_bound_later() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("not yet").join("a.db");
        let (served, stop) = serve(Socket::bind(&database));
        fs::create_dir(database.parent().unwrap()).unwrap();
        while !sibling(&database, "admin").exists() {
            sleep(TRY_AGAIN).await;
        }
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_leaves_the_service_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("x".repeat(200));
        let refused = Socket::bind(&database).bound.unwrap_err().to_string();
        assert!(refused.contains("SUN_LEN"), "{refused}");
        assert!(find(&database).await.unwrap().is_none());
    }
}
