//! The real program and a real broker, killed in between; then without its database. The test plays the owner of {{follows | shouty_snake_case}}.

use freehold_harness::http::{Api, Reply};
use freehold_harness::{Part, World, eventually, seconds};
use {{followed_crate | snake_case}}::{ {{followed_event}}, Event};
use serde_json::{Value, json};

const SERVICE: &str = env!("CARGO_BIN_EXE_{{project-name}}-service");

#[tokio::test]
async fn kills_lose_nothing_and_repeat_nothing() {
    let mut world = World::builder().service(SERVICE).plays::<{{followed_event}}>().start().await;
    let api = world.api("{{project-name}}-service");
    let {{followed | snake_case}} = {{followed | snake_case}}();
    let new = json!({"{{followed | snake_case}}_id": {{followed | snake_case}}.aggregate(), "reason": "by hand"});

    let first = record(&api, &new).await;
    world.broker.kill();
    world.emit(&{{followed | snake_case}}).await;
    world.service_mut("{{project-name}}-service").kill();
    world.broker.start().await.expect("the broker starts again");
    world.service_mut("{{project-name}}-service").start().await.expect("the service starts again");
    assert_eq!(record(&api, &new).await, first, "one key, one {{item}}");

    let both = eventually("cache and reaction", seconds(20), async || two(&api, &{{followed | snake_case}}).await).await;
    assert_eq!(both[0]["reason"], "by hand");
    assert_eq!(both[1]["reason"], "because of {{followed_type}}");
    assert_eq!(both[0]["{{followed | snake_case}}"], json!({{followed | snake_case}}), "from the cache");
    world.check().await;
    assert_eq!(two(&api, &{{followed | snake_case}}).await, Ok(both.clone()), "the reaction has answered once");

    let service = world.service_mut("{{project-name}}-service");
    service.kill();
    service.delete_database().expect("it is deleted");
    service.start().await.expect("the service starts on its stream alone");
    let again = eventually("all of it again", seconds(20), async || two(&api, &{{followed | snake_case}}).await).await;
    assert_eq!(again, both, "the fold makes what the writes had made");
    world.check().await;
    api.get("/{{project-name}}/01985b3e-0000-7000-8000-000000000000").await.expect_status(404);
}

#[test]
fn broker_config_prints_the_account_file() {
    let printed = std::process::Command::new(SERVICE).arg("broker-config").output().expect("it runs");
    let printed = String::from_utf8(printed.stdout).expect("a text");
    assert_eq!(printed, include_str!("../nats-account.conf"));
}

fn {{followed | snake_case}}() -> {{followed_event}} {
    let data = r#"{{followed_data}}"#;
    let event = {{followed_event}}::decode("{{followed_type}}", data.as_bytes());
    event.expect("its data").expect("a known type")
}

/// Always with the same key. The id, which the second answer repeats.
async fn record(api: &Api, new: &Value) -> String {
    let post = api.request("POST".parse().expect("a method"), "/{{project-name}}").json(new);
    let reply = Reply::of(post.header("Idempotency-Key", "the-one-key")).await;
    reply.expect_status(201).id().to_owned()
}

/// Both, once the cache has their {{followed}}: cache and reaction are two consumers, and either may come first.
async fn two(api: &Api, of: &{{followed_event}}) -> Result<Value, String> {
    let found = api.get(&format!("/{{project-name}}?{{followed | snake_case}}_id={}", of.aggregate())).await;
    let all = found.body.as_array().map(Vec::as_slice);
    match all {
        Some([first, _]) if !first["{{followed | snake_case}}"].is_null() => Ok(found.body),
        _ => Err(format!("{} {}", found.status, found.body)),
    }
}
