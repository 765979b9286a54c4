//! What surrounds a service's routes, around a few routes made up for it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod api;
mod causal;
mod idempotency;
mod traces;

use axum::Router;
use axum::routing::{get, post};
use relay::{Database, Options};
use serde::Deserialize;
use service_kit::{Json, Path, Problem, Routes};

/// A database of its own, gone with the folder.
async fn database() -> (Database, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kit.db");
    let db = Database::open(path, Options::new("kit", "KIT", &[]))
        .await
        .unwrap();
    (db, folder)
}

/// One that came without its lock file, as a copy does.
async fn older_copy() -> (Database, tempfile::TempDir) {
    let (db, folder) = database().await;
    db.close().await;
    let path = db.path().to_owned();
    std::fs::remove_file(folder.path().join("kit.db.lock")).unwrap();
    let options = Options::new("kit", "KIT", &[]);
    (Database::open(path, options).await.unwrap(), folder)
}

#[derive(Deserialize)]
struct Word {
    word: String,
}

/// A service of the tests' own.
fn kit(router: Router) -> Routes {
    Routes::new("kit", "Does what a test needs.").undocumented(router)
}

fn routes() -> Routes {
    let router = Router::new()
        .route("/things/{id}", get(async |Path(id): Path<u8>| Json(id)))
        .route("/echo", post(async |Json(Word { word }): Json<Word>| word))
        .route("/panic", get(panics))
        .route("/forever", get(std::future::pending::<()>));
    kit(router)
}

async fn panics() -> Result<(), Problem> {
    panic!("a planted panic")
}
