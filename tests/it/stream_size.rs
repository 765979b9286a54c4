//! The size of a stream is a setting: an alarm precedes a full stream, and a stream can be enlarged in place.

use freehold_tests::{Part, World, eventually, seconds};

#[tokio::test]
async fn a_nearly_full_stream_raises_an_alarm_and_is_enlarged_in_place() {
    let mut world = World::start().await;
    give_room(&mut world, 1_000_000).await;
    let (users, long_name) = (world.users(), "🦀".repeat(190));
    let mut count = 0;
    while used(&world).await < 800_000 {
        for _ in 0..50 {
            count += 1;
            let email = format!("person-{count}@example.org");
            let user = users.register(&long_name, &email).await;
            user.expect_status(201);
        }
    }
    eventually("status says nearly full", seconds(30), async || {
        let said = world.user_service.command(&["status"]).await;
        match said.code == Some(3) && said.stdout.contains("nearly full") {
            true => Ok(()),
            false => Err(said.stdout),
        }
    })
    .await;
    let before = world.observer().stream_info("USERS").await.expect("shown");
    give_room(&mut world, 4_000_000).await;
    let after = world.observer().stream_info("USERS").await.expect("shown");
    assert_eq!(after.last_seq, before.last_seq);
    assert_eq!(after.config["metadata"], before.config["metadata"]);
    eventually("status says nothing of it", seconds(30), async || {
        let said = world.user_service.command(&["status"]).await;
        match said.code == Some(0) && !said.stdout.contains("nearly full") {
            true => Ok(()),
            false => Err(said.stdout),
        }
    })
    .await;
}

/// Restarts user-service with this setting, until the stream has it.
async fn give_room(world: &mut World, bytes: u64) {
    world.user_service.stop().await.expect("it stops");
    world.user_service.args = vec!["--max-stream-bytes".to_owned(), bytes.to_string()];
    world.user_service.start().await.expect("it starts");
    eventually("the stream has this limit", seconds(30), async || {
        let info = world.observer().stream_info("USERS").await;
        let info = info.map_err(|error| format!("{error:#}"))?;
        match info.config["max_bytes"] == bytes {
            true => Ok(()),
            false => Err(info.config.to_string()),
        }
    })
    .await;
}

async fn used(world: &World) -> u64 {
    let info = world.observer().stream_info("USERS").await.expect("shown");
    info.all["state"]["bytes"].as_u64().expect("a number")
}
