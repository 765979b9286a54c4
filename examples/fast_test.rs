//! A fast test: three services in one process, with real files and brokers in memory. Nothing waits, no port is opened.
//!
//!     cargo test -p freehold-examples --test fast_test

#[path = "reaction.rs"]
#[expect(dead_code, reason = "its main")]
mod reaction;
#[path = "service.rs"]
#[expect(dead_code, reason = "its main")]
mod service;
#[path = "snapshot.rs"]
#[expect(dead_code, reason = "its main")]
mod snapshot;

use serde_json::json;
use service_kit::testing::rows;
use service_program::testing::InProcess;

#[tokio::test]
async fn the_tenth_visit_is_worth_an_award_although_every_third_operation_of_a_broker_fails() {
    let mut world = InProcess::new();
    let visits = world.start(service::service()).await;
    let awards = world.start(reaction::service()).await;
    world.broker("VISITS").fail(0.33);
    for _ in 0..12 {
        visits.api.post("/visits", &json!({"page": "welcome"})).await;
    }
    world.settle().await;
    assert_eq!(awards.api.get("/awards").await.json(), json!([{"page": "welcome", "visits": 10}]));
}

#[tokio::test]
async fn a_cache_that_starts_late_has_what_its_producer_has() {
    let mut world = InProcess::new();
    let visits = world.start(service::service()).await;
    for page in ["old", "new"] {
        visits.api.post("/visits", &json!({"page": page})).await;
    }
    world.settle().await;
    world.broker("VISITS").trim(1); // only a snapshot has the first one now
    let reports = world.start(snapshot::service()).await;
    world.settle().await;
    let popular = rows(&reports.db, "select page from popular order by page");
    assert_eq!(popular.await, [["new".to_owned().into()], ["old".to_owned().into()]]);
}
