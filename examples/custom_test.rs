//! A test of a real program with a real broker, both killed: `freehold-harness` starts them, and checks at the end that all is in order.
//!
//!     cargo test -p freehold-examples --test custom_test

use freehold_harness::{Part, World, eventually, seconds};
use serde_json::json;
use visits::{VisitEvent, Visited};

const AWARDS: &str = env!("CARGO_BIN_EXE_awards-service");

#[tokio::test]
async fn ten_visits_are_one_award_whatever_is_killed() {
    let mut world = World::builder().service(AWARDS).plays::<VisitEvent>().start().await;
    for count in 1..=12 {
        world.emit(&VisitEvent::Visited(Visited { page: "welcome".to_owned(), count })).await;
        match count {
            8 => world.broker.kill(),
            10 => world.service_mut("awards-service").kill(),
            _ => {}
        }
    }
    world.broker.start().await.expect("the broker starts again");
    world.service_mut("awards-service").start().await.expect("the service starts again");

    let (api, award) = (world.api("awards-service"), json!([{"page": "welcome", "visits": 10}]));
    eventually("the award", seconds(20), async || match api.get("/awards").await.body {
        found if found == award => Ok(()),
        other => Err(other),
    })
    .await;
    world.check().await; // every event is applied by now, byte for byte, and none is a dead letter
    assert_eq!(api.get("/awards").await.body, award, "one, and not two");
}
