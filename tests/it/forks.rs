//! Forks: a disk that was rolled back, a machine that was cloned. The database that is not on the stream's line halts, an operator
//! decides with a command, and all readers follow.

use std::time::Duration;

use freehold_tests::UserApi;
use freehold_tests::{Part, Service, World, eventually, seconds};

use crate::applied::{count_every_application, everything_arrived_once, register};
use crate::states::{
    cache_is_its_owners, is_halted, is_publishing, is_ready, kept, logged, rebuilt, set_aside, tail,
};

const NOWHERE: &str = "nats://127.0.0.1:1";
/// Events of both lines, of the stream's line, and of the other one.
const COMMON: u64 = 20;
const STREAMS: u64 = 40;
const OTHERS: u64 = 30;

/// `--dry-run` reports what it would do, and changes nothing.
async fn only_planned(service: &Service, decision: &str, set_aside_of: &str, count: u64) {
    let before = kept(&service.database);
    let said = service
        .command(&[decision, "--dry-run", "--json"])
        .await
        .expect_code(0)
        .json();
    assert_eq!(said["done"], false);
    assert_eq!(
        (&said["common"], &said["set_aside"]),
        (&COMMON.into(), &count.into())
    );
    assert_eq!(said["set_aside_of"], set_aside_of);
    assert!(
        before == kept(&service.database),
        "the plan changed something"
    );
    assert_eq!(set_aside(service).await, []);
}

/// The broker is away while a rolled back service starts and accepts writes: no file on its disk shows the rollback.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_disk_forks_and_adopt_stream_follows_the_stream() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..COMMON).await;
    world.check().await;
    let then = world.folder().join("then");
    world.user_service.stop().await.expect("it stops");
    world.user_service.copy_disk(&then).expect("copied");
    world.user_service.start().await.expect("it starts");
    register(&world, COMMON..STREAMS).await;
    world.until_applied(STREAMS).await;
    let stream = world.observer().read_all("USERS").await.expect("read");
    world.user_service.kill();
    world.broker.kill();
    world
        .user_service
        .roll_back_disk(&then)
        .expect("rolled back");
    world.user_service.start().await.expect("it starts");
    let own = register(&world, 100..100 + OTHERS - COMMON).await;

    world.broker.start().await.expect("it starts");
    let said = is_halted(&world.user_service).await;
    assert!(
        said.contains("both went on after a fork") && said.contains("at 30"),
        "{said}"
    );
    let refused = world
        .users()
        .register("Eve", "eve@example.org")
        .await
        .expect_status(503);
    assert_eq!(refused.problem(), Some("writes_halted"));
    let refused = world
        .user_service
        .command(&["adopt-stream"])
        .await
        .expect_code(1);
    assert!(
        refused.stderr.contains("stop user-service first"),
        "{}",
        refused.stderr
    );
    world.user_service.stop().await.expect("it stops");
    let others = tail("outbox", &world.user_service.database, COMMON);
    only_planned(
        &world.user_service,
        "adopt-stream",
        "outbox",
        OTHERS - COMMON,
    )
    .await;
    let _adopted = world
        .user_service
        .command(&["adopt-stream"])
        .await
        .expect_code(0);
    world.user_service.start().await.expect("it starts");
    is_ready(&world.user_service).await;
    assert_eq!(
        set_aside(&world.user_service).await,
        others,
        "every event of the other line"
    );
    for id in &own {
        world.users().user(id).await.expect_status(404);
    }
    register(&world, 200..210).await;
    everything_arrived_once(&mut world).await;
    let after = world.observer().read_all("USERS").await.expect("read");
    assert_eq!(
        after[..stream.len()],
        stream,
        "the stream's line is untouched"
    );
    assert_eq!(
        rebuilt(&world).await,
        0,
        "orders-service followed it all the time"
    );
}

/// The clone publishes while its original is cut off from the broker and keeps writing; the original wins.
#[tokio::test(flavor = "multi_thread")]
async fn a_cloned_machine_forks_and_new_epoch_keeps_this_files_line() {
    let mut world = World::start().await;
    register(&world, 0..COMMON).await;
    world.check().await;
    world.user_service.stop().await.expect("it stops");
    let clone = world.folder().join("clone.db");
    let mut clone = world.user_service.clone_machine(&clone).expect("cloned");
    clone.start().await.expect("it starts");
    is_ready(&clone).await;
    write(&clone, COMMON..STREAMS).await;
    world.until_applied(STREAMS).await;
    let broker = std::mem::replace(&mut world.user_service.broker_url, NOWHERE.to_owned());
    world.user_service.start().await.expect("it starts");
    write(&world.user_service, 100..100 + OTHERS - COMMON).await;
    world.user_service.stop().await.expect("it stops");
    world.user_service.broker_url = broker;
    world.user_service.start().await.expect("it starts");
    let said = is_halted(&world.user_service).await;
    assert!(
        said.contains("decide with adopt-stream or new-epoch"),
        "{said}"
    );

    clone.stop().await.expect("it stops"); // the other writer
    world.user_service.stop().await.expect("it stops");
    let others = tail("stream", &clone.database, COMMON);
    only_planned(&world.user_service, "new-epoch", "stream", STREAMS - COMMON).await;
    let decided = world.user_service.command(&["new-epoch", "--json"]).await;
    assert_eq!(decided.expect_code(0).json()["epoch"], 2);
    world.user_service.start().await.expect("it starts");
    is_publishing(&world.user_service).await;
    assert_eq!(
        set_aside(&world.user_service).await,
        others,
        "every event of the other line"
    );
    write(&world.user_service, 200..210).await;
    cache_is_its_owners(&world).await;
    let orphan = set_aside(&world.orders_service).await;
    assert_eq!(
        orphan,
        [("consumer".to_owned(), STREAMS, String::new())],
        "by its id"
    );
    assert_eq!(rebuilt(&world).await, 1);
    world.check().await;

    the_loser_halts_and_may_adopt(&mut clone).await;
    world.check().await;
}

/// The user is deleted on the line that is kept, at a sequence that the reaction had passed on the other one.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_new_epoch_orders_of_a_user_deleted_on_the_kept_line_are_cancelled() {
    let mut world = World::start().await;
    register(&world, 0..COMMON).await;
    let user = world.users().register("Eve", "eve@example.org").await;
    let user = user.expect_status(201).id().to_owned();
    world.until_applied(COMMON + 1).await;
    let order = world.orders().place(&user, 1250, "EUR").await;
    let order = order.expect_status(201).id().to_owned();
    world.user_service.stop().await.expect("it stops");
    let clone = world.folder().join("clone.db");
    let mut clone = world.user_service.clone_machine(&clone).expect("cloned");
    clone.start().await.expect("it starts");
    is_ready(&clone).await;
    write(&clone, COMMON..STREAMS).await;
    world.until_applied(STREAMS + 1).await;
    clone.stop().await.expect("it stops");
    let broker = std::mem::replace(&mut world.user_service.broker_url, NOWHERE.to_owned());
    world.user_service.start().await.expect("it starts");
    let deleted = UserApi::of(&world.user_service).delete(&user).await;
    let _deleted = deleted.expect_status(204);
    world.user_service.stop().await.expect("it stops");
    world.user_service.broker_url = broker;
    let decided = world.user_service.command(&["new-epoch"]).await;
    let _decided = decided.expect_code(0);
    world.user_service.start().await.expect("it starts");
    is_publishing(&world.user_service).await;

    eventually("the order is cancelled", seconds(60), async || {
        let shown = world.orders().order(&order).await;
        let cancelled = shown.body["cancel_reason"] == "user_deleted";
        cancelled.then_some(()).ok_or(shown.body.to_string())
    })
    .await;
    assert!(logged(&world.orders_service).contains("the reaction went back to before a fork"));
    cache_is_its_owners(&world).await;
    it_starts_where_an_operator_says(&mut world).await;
    world.check().await;
}

async fn it_starts_where_an_operator_says(world: &mut World) {
    let now = ["start-at", "orders-of-deleted-users", "now", "--json"];
    let refused = world.orders_service.command(&now).await.expect_code(1);
    let said = refused.stderr;
    assert!(said.contains("stop orders-service first"), "{said}");
    let planned = [&now[..], &["--dry-run"]].concat();
    let planned = world.orders_service.command(&planned).await;
    let planned = planned.expect_code(0).json();
    assert_eq!(
        (&planned["done"], &planned["from"]),
        (&false.into(), &planned["to"])
    );
    world.orders_service.stop().await.expect("it stops");
    let done = world.orders_service.command(&now).await;
    assert_eq!(done.expect_code(0).json()["to"], planned["to"]);
    world.orders_service.start().await.expect("it starts");
}

/// A clone and its original run at once, both with the broker and clients: the first common sequence with different events decides.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_that_write_at_once_one_halts_and_follows_the_other() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..COMMON).await;
    world.check().await;
    world.user_service.stop().await.expect("it stops");
    let clone = world.folder().join("clone.db");
    let mut clone = world.user_service.clone_machine(&clone).expect("cloned");
    world.user_service.start().await.expect("it starts");
    clone.start().await.expect("it starts");
    is_publishing(&world.user_service).await;
    is_publishing(&clone).await;
    let (original, cloned) = tokio::join!(
        write_until_refused(&world.user_service, 1000),
        write_until_refused(&clone, 2000)
    );
    println!("the original took {original} writes beside its clone, the clone {cloned}");
    let both = original == MANY && cloned == MANY;
    assert!(!both, "no service halted");

    // The clone is stopped either way: only one may go on.
    let halted = UserApi::of(&world.user_service).is_ready().await.is_err();
    clone.stop().await.expect("it stops");
    if halted {
        world.user_service.stop().await.expect("it stops");
        let said = world
            .user_service
            .command(&["adopt-stream", "--json"])
            .await;
        let said = said.expect_code(0).json();
        let own = set_aside(&world.user_service).await.len();
        assert_eq!(said["set_aside"], own);
        world.user_service.start().await.expect("it starts");
        is_ready(&world.user_service).await;
    }
    register(&world, 200..210).await;
    everything_arrived_once(&mut world).await;
    assert_eq!(rebuilt(&world).await, 0, "one line of events");
}

const MANY: u64 = 500;

/// Returns how many it acknowledged.
async fn write_until_refused(service: &Service, from: u64) -> u64 {
    let api = UserApi::of(service);
    for number in 0..MANY {
        let email = format!("user-{}@example.org", from + number);
        let reply = api.register("Ada", &email).await;
        if reply.status == 503 {
            assert_eq!(reply.problem(), Some("writes_halted"), "{}", reply.body);
            return number;
        }
        reply.expect_status(201);
    }
    MANY
}

/// Restarted, it finds a later epoch of itself; and it can adopt that stream.
async fn the_loser_halts_and_may_adopt(clone: &mut Service) {
    clone.start().await.expect("it starts");
    let said = is_halted(clone).await;
    assert!(
        said.contains("it is in epoch 2, this file in epoch 1"),
        "{said}"
    );
    assert!(logged(clone).contains("publishing and writing are halted"));
    clone.stop().await.expect("it stops");
    only_planned(clone, "adopt-stream", "outbox", STREAMS - COMMON).await;
    let own = tail("outbox", &clone.database, COMMON);
    let _adopted = clone.command(&["adopt-stream"]).await.expect_code(0);
    assert_eq!(set_aside(clone).await, own);
}

async fn write(service: &Service, numbers: std::ops::Range<u64>) {
    let api = UserApi::of(service);
    for number in numbers {
        let email = format!("user-{number}@example.org");
        api.register("Ada", &email).await.expect_status(201);
    }
}

/// The broker is there, and clients write from the first moment on, again and again: every acknowledged event follows the ones that
/// the file lacked.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_disk_with_retrying_clients_never_forks() {
    let mut world = World::start().await;
    register(&world, 0..5).await;
    world.check().await;
    for round in 0..8 {
        let first = 100 + round * 100;
        let then = world.folder().join(format!("then-{round}"));
        world.user_service.stop().await.expect("it stops");
        world.user_service.copy_disk(&then).expect("copied");
        world.user_service.start().await.expect("it starts");
        is_ready(&world.user_service).await;
        register(&world, first..first + 20).await;
        world.check().await;
        world.user_service.kill();
        world
            .user_service
            .roll_back_disk(&then)
            .expect("rolled back");
        let clients: Vec<_> = (first + 20..first + 28)
            .map(|number| tokio::spawn(register_at_last(world.users(), number)))
            .collect();
        world.user_service.start().await.expect("it starts");
        let mut ids = Vec::new();
        for client in clients {
            ids.push(client.await.expect("a client"));
        }
        is_ready(&world.user_service).await;
        world.check().await;
        for id in &ids {
            world.users().user(id).await.expect_status(200);
        }
    }
}

/// Tries again at once, for as long as the service is away or refuses.
async fn register_at_last(users: UserApi, number: u64) -> String {
    let email = format!("user-{number}@example.org");
    let answered = async {
        loop {
            let reply = users.register("Ada", &email).await;
            if reply.status == 201 {
                return reply.id().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(1)).await; // not to take the machine from the service
        }
    };
    let answered = tokio::time::timeout(seconds(60), answered).await;
    answered.expect("it is registered within a minute")
}
