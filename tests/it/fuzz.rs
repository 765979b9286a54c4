//! schemathesis generates requests of all kinds from every program's own documentation: no answer is a server error, and every
//! answer matches the documentation.

use std::path::Path;

use freehold_tests::http::Api;
use freehold_tests::schemathesis::{self, Run};
use freehold_tests::{Part, Password, Service, World, seconds};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

/// How long all runs together send requests; `FREEHOLD_FUZZ_SECONDS` overrides it.
const SECONDS: u64 = 40;
/// The promises of the documents. Left out: that every valid request is accepted (one with a used e-mail address is valid, too).
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,allow_header_conformance,\
use_after_free,ensure_resource_availability,ignored_auth";

/// One kind of caller at one program.
struct Caller<'a> {
    name: &'a str,
    service: &'a Service,
    token: Option<String>,
    /// Which operations, as arguments of the command line.
    operations: [&'a str; 2],
    /// Its share of the time.
    share: f64,
}

#[tokio::test]
async fn every_program_answers_any_request_as_documented() {
    let found = schemathesis::find().expect("a required tool is here");
    let Some(program) = found.or_skip("fuzz tests") else {
        return;
    };
    let mut world = World::builder().with_drivers(1).start().await;
    often(&mut world).await;
    let device = device_token(&world).await;
    let operator = world.orders_service.operator.reveal().to_owned();
    let reader = read_token(&world.orders_service);
    let (users, orders) = (&world.user_service, &world.orders_service);
    let caller = |name, service, token, operations, share| Caller {
        name,
        service,
        token,
        operations,
        share,
    };
    let ours = ["--exclude-path-regex", "^/(sync|snapshot|log)"];
    let callers = [
        caller("operator", users, Some(operator.clone()), ours, 0.2),
        caller("operator", orders, Some(operator), ours, 0.4),
        caller(
            "device",
            orders,
            Some(device),
            ["--include-path-regex", "^/sync"],
            0.15,
        ),
        caller(
            "service",
            orders,
            Some(reader),
            ["--include-path-regex", "^/(snapshot|log)"],
            0.05,
        ),
        caller(
            "public",
            &world.drivers[0].app,
            None,
            ["--rate-limit", "90/s"],
            0.2,
        ),
    ];
    let mut faults = Vec::new();
    for caller in callers {
        faults.extend(caller.run(&program, &world.folder().join("fuzz")).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// Faults that the test above found, tested here by name, also on a machine without its tool.
#[tokio::test]
async fn faults_found_once_stay_fixed() {
    let mut world = World::builder().with_drivers(1).start().await;
    often(&mut world).await;
    let orders = Api::of(&world.orders_service);
    let document = orders.get("/openapi.json").await.expect_status(200).body;
    let assign = &document["paths"]["/orders/{id}/assign"]["post"];
    assert!(assign["responses"]["428"].is_object(), "{assign}");

    let device = orders.sending(Some(Password::known(&device_token(&world).await)));
    let too_far = 1u64 << 63;
    let intent = json!({"intent_id": Uuid::now_v7(), "seq": too_far, "order_id": "x", "kind": "pick_up",
        "schema_version": 1, "arguments": {}, "base_version": 1, "device_time_ms": 0});
    let upload = json!({"incarnation": Uuid::now_v7(), "intents": [intent]});
    let refused = device.send(Method::POST, "/sync/intents", &upload).await;
    assert_eq!(refused.problem(), Some("invalid_body"), "{}", refused.body);

    let reader = orders.sending(Some(Password::known(&read_token(&world.orders_service))));
    let id = Uuid::now_v7();
    for path in [
        format!("/log/{too_far}?id={id}"),
        format!("/snapshot?seq={too_far}&id={id}"),
    ] {
        let refused = reader.get(&path).await;
        assert_eq!(refused.status, 400, "{path}: {}", refused.body);
    }
}

impl Caller<'_> {
    /// The faults found, if any.
    async fn run(&self, program: &Path, folder: &Path) -> Option<String> {
        let seconds_of_all = std::env::var("FREEHOLD_FUZZ_SECONDS").ok();
        let all = seconds_of_all.map_or(SECONDS, |text| text.parse().expect("a number"));
        let time = (all as f64 * self.share).ceil();
        let run = Run {
            program,
            url: &self.service.url(),
            headers: self
                .token
                .iter()
                .map(|token| format!("Authorization: Bearer {token}"))
                .collect(),
            arguments: self.arguments(time),
            folder: &folder.join(format!("{}-{}", self.service.name(), self.name)),
            limit: seconds(60 + 3 * time as u64),
        };
        let (satisfied, said) = run.go().await.expect("it runs");
        println!("{} as {}:\n{said}", self.service.name(), self.name);
        (!satisfied).then(|| format!("{} as {}:\n{said}", self.service.name(), self.name))
    }

    fn arguments(&self, time: f64) -> Vec<String> {
        let time = time.to_string();
        let words = [
            "--checks",
            CHECKS,
            "--max-time",
            &time,
            "--request-timeout",
            "15",
            "--continue-on-failure",
            "--generation-database",
            "none",
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
            "--phases",
            "examples,coverage,fuzzing,stateful",
            "--output-truncate",
            "false",
            "--no-shrink",
        ];
        words
            .iter()
            .chain(&self.operations)
            .map(|word| (*word).to_owned())
            .collect()
    }
}

/// Raises the limit to as many requests as the tool sends.
async fn often(world: &mut World) {
    for service in [&mut world.user_service, &mut world.orders_service] {
        service.stop().await.expect("in time");
        let often = ["--max-requests-per-second", "1000000"];
        service.args.extend(often.map(str::to_owned));
        service
            .start()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

async fn device_token(world: &World) -> String {
    let code = world
        .orders()
        .code(&world.drivers[0].id)
        .await
        .expect_status(201);
    let enrolment = json!({"code": code.body["code"], "device_id": Uuid::now_v7()});
    let api = Api::new(world.orders_service.url(), None);
    let enrolled = api.send(Method::POST, "/devices", &enrolment).await;
    let token = enrolled.expect_status(201).body["token"].clone();
    token.as_str().expect("text").to_owned()
}

fn read_token(service: &Service) -> String {
    let found = service
        .env
        .iter()
        .find(|(name, _)| name == "FREEHOLD_ORDERS_READ_TOKEN");
    found.expect("the harness gives it one").1.clone()
}
