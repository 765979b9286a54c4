//! How a device becomes a driver's: a code for one device, and a token that is shown once.

use std::sync::{Arc, Mutex, mpsc};

use axum::Router;
use axum::routing::get;
use event_schema::DeviceId;
use orders_service::domain::{Driver, OwnEvent};
use orders_service::events::{MakeError, make};
use orders_service::store::drivers;
use orders_service::{codes, service};
use relay::rusqlite::types::Value as Cell;
use relay::{Database, Options};
use serde_json::json;
use service_kit::testing::{TestApi, request, rows};
use service_kit::{Limits, Monitor, Routes, TokenHash};
use tokio::task::JoinHandle;

use crate::office::Device;
use crate::world::{FakeUsers, World, database, testers};

async fn world() -> World {
    World::start(FakeUsers::Know).await
}

#[tokio::test]
async fn a_code_makes_a_device_its_drivers() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let (code, id) = (world.code(&mia).await, DeviceId::new());
    let enrolled = world.enrol(&code, id).await;
    let told = enrolled.json();
    assert_eq!(enrolled.status, 201);
    assert_eq!(told["driver_id"], *mia);
    assert_eq!(
        (&told["driver_name"], &told["device_id"]),
        (&json!("Mia"), &json!(id))
    );
    let device = Device::with(&world, id, &enrolled);
    assert_eq!(device.feed("").await.status, 200);

    let (event_type, data) = world.events().await.pop().unwrap();
    assert_eq!(event_type, "orders.device_enrolled.v1");
    assert_eq!(data["device_id"], json!(id));
    assert_eq!(data["expires_at_ms"], told["expires_at_ms"]);
    let in_90_days = data["at_ms"].as_i64().unwrap() + 90 * 86_400_000;
    assert_eq!(data["expires_at_ms"], in_90_days);
}

#[tokio::test]
async fn neither_the_database_nor_the_log_reveals_a_code_or_a_token() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let (code, id) = (world.code(&mia).await, DeviceId::new());
    let token = Device::with(&world, id, &world.enrol(&code, id).await).token;
    let bare = code.replace('-', "");
    let everything = "select cast(envelope as text) from relay_outbox
        union all select token_hash from devices union all select code_hash from enrolment_codes
        union all select cast(body as text) from kit_reply";
    let everything = everything_of(&world, everything).await;
    for secret in [&token, &code, &bare] {
        assert!(!everything.contains(secret.as_str()), "{everything}");
    }
    assert!(everything.contains(&TokenHash::of(&token).to_string()));
    let public = everything_of(&world, "select cast(envelope as text) from relay_outbox").await;
    let why = "the hash is sealed";
    assert!(
        !public.contains(&TokenHash::of(&token).to_string()),
        "{why}"
    );
}

async fn everything_of(world: &World, sql: &'static str) -> String {
    let found = rows(&world.db, sql).await.into_iter().flatten();
    let text = found.filter_map(|cell| match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    });
    text.collect()
}

#[tokio::test]
async fn a_code_is_for_one_device_which_may_use_it_again_when_the_answer_got_lost() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let (code, id) = (world.code(&mia).await, DeviceId::new());
    let first = Device::with(&world, id, &world.enrol(&code, id).await);
    let stolen = world.enrol(&code, DeviceId::new()).await;
    assert_eq!(stolen.problem(), "422 invalid_code");
    assert_eq!(stolen.json()["errors"][0]["field"], "code");
    let second = Device::with(&world, id, &world.enrol(&code, id).await);
    assert_ne!(first.token, second.token);
    assert_eq!(first.feed("").await.problem(), "401 unauthorized");
    assert_eq!(second.feed("").await.status, 200);
    let shown = world.show(&format!("/drivers/{mia}")).await;
    assert_eq!(shown["devices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn case_dashes_and_blanks_of_a_code_do_not_count() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    for write in [
        |code: &str| code.to_lowercase(),
        |code: &str| code.replace('-', ""),
        |code: &str| format!(" {} ", code.replace('-', " ")),
    ] {
        let code = world.code(&mia).await;
        assert_eq!(
            world.enrol(&write(&code), DeviceId::new()).await.status,
            201
        );
    }
}

#[tokio::test]
async fn a_code_that_is_wrong_or_has_expired_opens_nothing() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let code = world.code(&mia).await;
    for wrong in [
        "",
        "-",
        "AAAA-AAAA-AAAA",
        &code[..13],
        &format!("{code}A"),
        &"x".repeat(9_000),
    ] {
        let refused = world.enrol(wrong, DeviceId::new()).await;
        assert_eq!(refused.problem(), "422 invalid_code", "{wrong:?}");
    }
    expire(&world, &code).await;
    let late = world.enrol(&code, DeviceId::new()).await;
    assert_eq!(late.problem(), "422 invalid_code");
    assert_eq!(world.head(), 1, "no device was enrolled");

    for body in [
        json!({"code": code}),
        json!({"code": code, "device_id": "7"}),
        json!([]),
    ] {
        let refused = world.api.sending(None).post("/devices", &body).await;
        assert_eq!(refused.problem(), "422 invalid_body", "{body}");
    }
}

/// As if a quarter of an hour had passed.
async fn expire(world: &World, code: &str) {
    let hash = codes::hash(code);
    let write = world.db.write(move |tx| {
        tx.execute(
            "update enrolment_codes set expires_at_ms = expires_at_ms - ?2 where code_hash = ?1",
            (hash, codes::LIFE_MS),
        )
    });
    let changed: Result<usize, relay::WriteError<relay::rusqlite::Error>> = write.await;
    assert_eq!(changed.map_err(|error| error.to_string()), Ok(1));
}

#[tokio::test]
async fn a_code_of_a_driver_who_was_revoked_meanwhile_is_invalid() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let code = world.code(&mia).await;
    world
        .change(&format!("/drivers/{mia}/revoke"), "*", &json!({}))
        .await;
    let late = world.enrol(&code, DeviceId::new()).await;
    assert_eq!(late.problem(), "422 invalid_code");
    let draw = world
        .api
        .post(&format!("/drivers/{mia}/codes"), &json!({}))
        .await;
    assert_eq!(draw.problem(), "409 driver_revoked");
    assert_eq!(world.head(), 2);
}

/// A thief of a device also has the code that enrolled it.
#[tokio::test]
async fn a_device_that_is_revoked_does_not_come_back_with_the_code_it_used() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let (code, id) = (world.code(&mia).await, DeviceId::new());
    world.enrol(&code, id).await;
    world
        .api
        .post(&format!("/devices/{id}/revoke"), &json!({}))
        .await;
    assert_eq!(world.enrol(&code, id).await.problem(), "422 invalid_code");
}

#[tokio::test]
async fn a_device_that_enrols_for_another_driver_is_theirs_and_leaves_the_first() {
    let world = world().await;
    let (mia, noor) = (world.driver("Mia").await, world.driver("Noor").await);
    let (mias, noors) = (world.assigned(&mia).await, world.assigned(&noor).await);
    let device = world.device(&mia).await;
    assert_eq!(device.read_on("", 50).await.told(), [format!("+{mias}")]);
    let code = world.code(&noor).await;
    let enrolled = world.enrol_again(&code, device.id, &device.token).await;
    let moved = Device::with(&world, device.id, &enrolled);
    assert_eq!(moved.read_on("", 50).await.told(), [format!("+{noors}")]);
    assert_eq!(device.feed("").await.problem(), "401 unauthorized");
}

#[tokio::test]
async fn a_token_that_has_expired_opens_nothing() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let (id, token) = (DeviceId::new(), "fhd_a-token-of-long-ago");
    let (driver, hash) = (mia.parse().unwrap(), TokenHash::of(token).to_string());
    let write = world.db.write(move |tx| {
        let enrolled: Driver = drivers::find(tx, driver).unwrap().unwrap();
        let event = enrolled.enrol_device(id, 99, 7).unwrap();
        let token_hash = Some(hash);
        make(tx, OwnEvent { event, token_hash })
    });
    let made: Result<u64, relay::WriteError<MakeError>> = write.await;
    made.map_err(|error| error.to_string()).unwrap();
    let refused = world.api.sending(token).get("/sync/feed").await;
    assert_eq!(refused.problem(), "401 unauthorized");
}

/// What the devices are answered: one that is enrolled, one that was revoked, one that is not known, and one with a code.
async fn answers(world: &World, devices: [&Device; 2], code: &str) -> [String; 4] {
    let feed = async |token: &str| world.api.sending(token).get("/sync/feed").await;
    let answers = [
        feed(&devices[0].token).await,
        feed(&devices[1].token).await,
        feed("fhd_a-token-from-another-file").await,
        world.enrol(code, DeviceId::new()).await,
    ];
    answers.map(|answer| match answer.status {
        200 | 201 => "taken".to_owned(),
        503 => format!(
            "{} for {} s",
            answer.problem(),
            answer.header("retry-after")
        ),
        _ => answer.problem(),
    })
}

#[tokio::test]
async fn a_file_that_may_be_an_older_copy_neither_serves_a_device_nor_turns_one_away() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let (here, gone) = (world.device(&mia).await, world.device(&mia).await);
    let revoke = format!("/devices/{}/revoke", gone.id);
    world.api.post(&revoke, &json!({})).await;
    let code = world.code(&mia).await;
    let (devices, not_yet) = ([&here, &gone], "503 not_ready for 1 s");

    let restored = world.restored().await;
    assert_eq!(answers(&restored, devices, &code).await, [not_yet; 4]);
    restored.meet_stream().await;
    let known = ["taken", "401 revoked", "401 unauthorized", "taken"];
    assert_eq!(answers(&restored, devices, &code).await, known);

    restored.db.halt("a rival publishes");
    assert_eq!(answers(&restored, devices, &code).await, [not_yet; 4]);
}

#[tokio::test]
async fn an_empty_database_that_has_not_reached_its_stream_refuses_no_device_for_good() {
    let world = world().await;
    let (_, mias) = world.mia().await;
    let empty = world.bereft().await;
    let stranger = mias.at(&empty).feed("").await;
    assert_eq!(stranger.problem(), "503 not_ready");
    assert_eq!(stranger.header("retry-after"), "1");
    empty.meet_stream().await;
    assert_eq!(mias.at(&empty).feed("").await.problem(), "401 unauthorized");
}

/// A volume that was rolled back looks like the file of before: only the stream knows whom it has revoked since.
#[tokio::test]
async fn no_start_serves_a_device_before_it_has_met_its_stream_and_then_no_broker_is_needed() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let (device, gone) = (world.device(&mia).await, world.device(&mia).await);
    let revoke = format!("/devices/{}/revoke", gone.id);
    world.api.post(&revoke, &json!({})).await;
    let code = world.code(&mia).await;
    let again = world.restarted().await;
    assert_eq!(again.db.gate(), relay::database::Gate::Open);
    let devices = [&device, &gone];
    let not_yet = ["503 not_ready for 1 s"; 4];
    assert_eq!(answers(&again, devices, &code).await, not_yet);
    again.meet_stream().await; // and the broker goes away again
    let known = ["taken", "401 revoked", "401 unauthorized", "taken"];
    assert_eq!(answers(&again, devices, &code).await, known);
}

#[tokio::test]
async fn a_code_alone_takes_no_device_over() {
    let world = world().await;
    let (mia, noor) = (world.driver("Mia").await, world.driver("Noor").await);
    let (mias, noors) = (world.device(&mia).await, world.device(&noor).await);
    for driver in [&noor, &mia] {
        let code = world.code(driver).await;
        let head = world.head();
        for refused in [
            world.enrol(&code, mias.id).await,
            world.enrol_again(&code, mias.id, &noors.token).await,
            world
                .enrol_again(&code, mias.id, "fhd_a-token-that-was-never-drawn")
                .await,
        ] {
            assert_eq!(refused.problem(), "409 device_enrolled");
        }
        assert_eq!(world.head(), head, "nothing has happened");
        assert_eq!(mias.feed("").await.status, 200);
        let new = world.enrol(&code, DeviceId::new()).await;
        assert_eq!(new.status, 201, "the code is not used up");
    }
}

#[tokio::test]
async fn a_device_proves_itself_with_any_token_that_it_has_or_had() {
    let world = world().await;
    let (mia, noor) = (world.driver("Mia").await, world.driver("Noor").await);
    let first = world.device(&mia).await;
    let again = async |driver: &str, token: &str| {
        let enrolled = world
            .enrol_again(&world.code(driver).await, first.id, token)
            .await;
        assert_eq!(enrolled.status, 201, "{enrolled:?}");
        Device::with(&world, first.id, &enrolled)
    };
    let second = again(&mia, &first.token).await;
    let third = again(&noor, &first.token).await; // the answer with the second was lost
    assert_eq!(second.feed("").await.problem(), "401 unauthorized");
    let revoke = format!("/devices/{}/revoke", first.id);
    world.api.post(&revoke, &json!({})).await;
    let fourth = again(&mia, &third.token).await;
    assert_eq!(fourth.feed("").await.status, 200);

    let write = world
        .db
        .write(|tx| tx.execute("update devices set expires_at_ms = 1", []));
    let ended: Result<usize, relay::WriteError<relay::rusqlite::Error>> = write.await;
    assert_eq!(ended.map_err(|error| error.to_string()), Ok(1));
    assert_eq!(fourth.feed("").await.problem(), "401 unauthorized");
    assert_eq!(again(&mia, &fourth.token).await.feed("").await.status, 200);
}

#[tokio::test]
async fn a_code_that_was_drawn_for_a_device_is_for_that_one_alone_and_needs_no_token() {
    let world = world().await;
    let (mia, device) = world.mia().await;
    let drawn = world.code_for(&mia, device.id).await;
    assert_eq!(drawn.status, 201, "{drawn:?}");
    let code = drawn.json()["code"].as_str().unwrap().to_owned();
    let other = world.enrol(&code, DeviceId::new()).await;
    assert_eq!(other.problem(), "422 invalid_code");
    let enrolled = world.enrol(&code, device.id).await;
    assert_eq!(enrolled.status, 201, "{enrolled:?}");
    let unknown = world.code_for(&mia, DeviceId::new()).await;
    assert_eq!(unknown.problem(), "404 device_not_found");
}

/// A device enrols again with the token that the version before gave it.
#[tokio::test]
async fn tokens_of_the_version_before_prove_their_devices() {
    let folder = tempfile::tempdir().unwrap();
    let before = Options {
        migrations: service().options().migrations[..3].to_vec(),
        fold: None, // it writes to tables of today
        ..service().options()
    };
    let (id, hash) = (DeviceId::new(), TokenHash::of("fhd_of-before").to_string());
    let row = (id.to_string(), hash.clone());
    let db = database(folder.path(), before).await;
    let write = db.write(|tx| {
        let sql = "insert into devices values (?1, 'mia', ?2, 0, 1, 2)";
        tx.execute(sql, row)
    });
    let written: Result<usize, relay::WriteError<relay::rusqlite::Error>> = write.await;
    assert_eq!(written.map_err(|error| error.to_string()), Ok(1));
    db.close().await;
    let db = database(folder.path(), service().options()).await;
    let proves = db
        .read(move |rows| drivers::had_token(rows, id, &hash))
        .await;
    assert!(proves.unwrap());
}

#[tokio::test]
async fn guesses_cost_the_database_nothing_and_keep_no_newcomer_out() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let guess = async |n: usize| {
        let token = format!("fhd_{n}-is-no-token");
        let by_token = world.api.sending(&*token).get("/sync/feed").await;
        let by_code = world
            .enrol(&format!("AAAA-AAAA-{n:04}"), DeviceId::new())
            .await;
        assert_eq!(by_token.problem(), "401 unauthorized");
        assert_eq!(by_code.problem(), "422 invalid_code");
    };
    guess(0).await;
    let (held, readers) = busy_readers(&world.db);
    tokio::task::yield_now().await;
    tokio::time::pause(); // a look at the database is good for a second, and the readers are all busy
    for n in 1..300 {
        guess(n).await;
    }
    tokio::time::resume();
    drop(held);
    for reader in readers {
        reader.await.unwrap();
    }
    let code = world.code(&mia).await;
    let ((), enrolled) = tokio::join!(
        async {
            for n in 300..400 {
                guess(n).await;
            }
        },
        async {
            let id = DeviceId::new();
            Device::with(&world, id, &world.enrol(&code, id).await)
        }
    );
    assert_eq!(enrolled.feed("").await.status, 200);
}

/// All of them, until what is held is dropped.
fn busy_readers(db: &Database) -> (mpsc::Sender<()>, Vec<JoinHandle<()>>) {
    let (held, busy) = mpsc::channel::<()>();
    let busy = Arc::new(Mutex::new(busy));
    let read = |_| {
        let (db, busy) = (db.clone(), busy.clone());
        tokio::spawn(async move {
            let read = db.read(move |_| {
                let _released = busy.lock().unwrap().recv();
                Ok::<_, relay::rusqlite::Error>(())
            });
            read.await.unwrap();
        })
    };
    (held, (0..64).map(read).collect())
}

#[tokio::test]
async fn a_token_that_comes_too_often_costs_the_database_nothing_good_or_revoked() {
    let world = world().await;
    let (_, good) = world.mia().await;
    let (_, revoked) = world.mia().await;
    let path = format!("/devices/{}/revoke", revoked.id);
    assert_eq!(world.api.post(&path, &json!({})).await.status, 200);
    let any = Router::new().route("/any", get(async || "in"));
    let access = testers(&world.db).limits(Limits::two());
    let routes = Routes::new("any", "Has one route.").undocumented(any);
    let api = TestApi::new(service_kit::api(routes, Monitor::new(&world.db), access));
    let ask = async |device: &Device| {
        let answer = api.sending(&*device.token).get("/any").await;
        match answer.status {
            200 => answer.text,
            _ => answer.problem(),
        }
    };
    for (device, answer) in [(&good, "in"), (&revoked, "401 revoked")] {
        for answer in [answer, answer, "429 rate_limited"] {
            assert_eq!(ask(device).await, answer);
        }
    }
    let (held, readers) = busy_readers(&world.db);
    tokio::task::yield_now().await;
    for device in [&good, &revoked] {
        for _ in 0..100 {
            assert_eq!(ask(device).await, "429 rate_limited");
        }
    }
    drop(held);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_code_that_opens_nothing_any_more_makes_no_write_wait() {
    let world = world().await;
    let (mia, device) = world.mia().await;
    let (bob, spent) = (world.driver("Bob").await, world.code(&mia).await);
    let (expired, burnt, good) = (
        world.code(&mia).await,
        world.code(&bob).await,
        world.code(&mia).await,
    );
    world.enrol(&spent, DeviceId::new()).await;
    expire(&world, &expired).await;
    let path = format!("/drivers/{bob}/revoke");
    let revoke = request("POST", &path)
        .header("if-match", "*")
        .header("content-type", "application/json");
    let revoked = world.api.send(revoke.body("{}".into())).await;
    assert_eq!(revoked.status, 200, "{revoked:?}");

    let (held, busy) = mpsc::channel::<()>();
    let db = world.db.clone();
    let writer = tokio::spawn(async move {
        let write = db.write(move |_| {
            let _released = busy.recv();
            Ok::<_, relay::rusqlite::Error>(())
        });
        write.await.unwrap();
    });
    tokio::task::yield_now().await;
    for code in [&spent, &expired, &burnt] {
        let refused = world.enrol(code, DeviceId::new()).await;
        assert_eq!(refused.problem(), "422 invalid_code");
    }
    let taken = world.enrol(&good, device.id).await;
    assert_eq!(taken.problem(), "409 device_enrolled");
    drop(held);
    writer.await.unwrap();
    assert_eq!(world.enrol(&good, DeviceId::new()).await.status, 201);
}
