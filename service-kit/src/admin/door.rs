//! The door: how a command of the operator speaks with the running service. While a service runs, a file beside its
//! database says where it answers and which token opens `/operator`. Only the service's own user can read that file.

use std::convert::Infallible;
use std::fs::{self, File};
use std::future::pending;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::admin::operator_api::State;
use crate::auth::bearer::{Guard, Token};
use crate::http::base_url::{http_client, refusal};
use crate::program::files::beside;

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Door {
    url: String,
    token: String,
}

/// The file, as long as the service runs.
pub(crate) struct OpenDoor {
    path: PathBuf,
    door: Door,
    written: bool,
}

/// A service that runs, as a command speaks with it.
pub(crate) struct Running {
    client: Client,
    door: Door,
}

/// Longer than a service takes over any request.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(15);

/// How soon a file is tried again that could not be written.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Writes the file, in place of one that a kill has left; answers who gets in, too. A service that cannot write it serves all
/// the same.
pub(crate) fn open(database: &Path, address: SocketAddr) -> (OpenDoor, Guard) {
    let token = Token::draw("");
    let mut open = OpenDoor {
        path: beside(database, "door"),
        door: Door {
            url: format!("http://{address}"),
            token: token.reveal().to_owned(),
        },
        written: false,
    };
    if let Err(error) = open.write() {
        tracing::error!(%error, "the operator's commands do not reach this service until a file for them can be written beside the database");
    }
    (open, Guard(token))
}

impl OpenDoor {
    fn write(&mut self) -> io::Result<()> {
        let aside = self.path.with_extension("door.new");
        let _left_by_a_kill = fs::remove_file(&aside);
        let text = serde_json::to_vec(&self.door).expect("two texts are JSON");
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(&text)
            .and_then(|()| fs::rename(&aside, &self.path))
            .or_else(|error| {
                let _full = fs::remove_file(&aside);
                self.write_over(&text).map_err(|_| error)
            })?;
        self.written = true;
        Ok(())
    }

    /// On a full disk the file that a kill has left has the room that a new one lacks.
    fn write_over(&self, text: &[u8]) -> io::Result<()> {
        let mut file = File::options().write(true).open(&self.path)?;
        file.write_all(text)?;
        file.set_len(text.len() as u64)
    }

    /// Until dropped: a disk that was full at the start has room later.
    pub(crate) async fn keep_trying(&mut self) -> Infallible {
        while !self.written {
            tokio::time::sleep(TRY_AGAIN).await;
            if self.write().is_ok() {
                tracing::info!("the operator's commands reach this service again");
            }
        }
        pending().await
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        if !self.written {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the operator's door file cannot be removed");
        }
    }
}

/// The service that has this database open, and how it fares. `None`: it does not run. A door that a kill has left
/// leads nowhere, or to somebody who does not know its token.
pub(crate) async fn find(database: &Path) -> anyhow::Result<Option<(Running, State)>> {
    let path = beside(database, "door");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let Ok(door) = serde_json::from_slice(&text) else {
        return Ok(None);
    };
    let client = http_client().timeout(MAX_ANSWER_TIME).build()?;
    let running = Running { client, door };
    let asked = running.request(running.client.get(running.url("state")));
    match asked.send().await {
        Ok(answer) if answer.status() == StatusCode::OK => {
            let state = answer
                .json()
                .await
                .context("the service's answer cannot be read")?;
            Ok(Some((running, state)))
        }
        Ok(answer) if answer.status().is_server_error() => {
            bail!(
                "the service at {} answered {}",
                running.door.url,
                refusal(answer).await
            )
        }
        Ok(_) => Ok(None),
        Err(error) if error.is_connect() => Ok(None),
        Err(error) => Err(error.without_url())
            .with_context(|| format!("the service at {} does not answer", running.door.url)),
    }
}

impl Running {
    pub(crate) async fn state(&self) -> anyhow::Result<State> {
        self.send(self.client.get(self.url("state"))).await
    }

    /// `consumers/orders-user-cache/rebuild`
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.send(self.client.post(self.url(path)).json(body)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/operator/{path}", self.door.url)
    }

    fn request(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.door.token)
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let answer = self.request(request).send().await;
        let answer = answer
            .map_err(reqwest::Error::without_url)
            .context("the service does not answer")?;
        match answer.status() {
            StatusCode::OK => answer
                .json()
                .await
                .context("the service's answer cannot be read"),
            _ => bail!("the service answered {}", refusal(answer).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_its_users_own_and_goes_with_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let path = folder.path().join("a.db.door");
        fs::write(&path, "left by a kill").unwrap();
        let (door, _) = open(&database, "127.0.0.1:7101".parse().unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let written: Door = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written.url, "http://127.0.0.1:7101");
        drop(door);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("not yet").join("a.db");
        let (mut door, _) = open(&database, "127.0.0.1:7101".parse().unwrap());
        fs::create_dir(database.parent().unwrap()).unwrap();
        let written = tokio::time::timeout(TRY_AGAIN * 2, door.keep_trying());
        written.await.expect_err("it goes on waiting");
        assert!(beside(&database, "door").exists());
    }

    #[tokio::test]
    async fn a_door_that_leads_nowhere_is_a_service_that_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        assert!(find(&database).await.unwrap().is_none());
        let _door = open(&database, "127.0.0.1:1".parse().unwrap());
        assert!(find(&database).await.unwrap().is_none());
    }
}
