//! Whole services around a few routes made up for the tests, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod in_process;
mod operator;
mod serve;

use axum::Router;
use axum::routing::{get, post};
use relay::{Database, Options};
use serde::Deserialize;
use service_kit::{Json, Path, Routes};

/// A database of its own, removed with the folder.
async fn database() -> (Database, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kit.db");
    let db = Database::open(path, Options::new("kit", "KIT", &[]))
        .await
        .unwrap();
    (db, folder)
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
        .route("/forever", get(std::future::pending::<()>));
    kit(router)
}
