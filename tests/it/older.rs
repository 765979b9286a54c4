//! A part is restored from an older copy under load: copies are taken at one time and restored at another, and events that were
//! only in the destroyed file are reported one by one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_tests::observer::StoredEvent;
use freehold_tests::{Part, Service, World, chance, eventually, outbox, seconds};

use crate::clients::Losses;
use crate::states::is_ready;

/// Which part it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    UserService,
    OrdersService,
    Broker,
}

/// How the older file is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By hand.
    Swapped,
    /// By hand, and the service is killed again and again while it recovers.
    SwappedAndKilled,
    /// By the command `restore`, from a copy that `backup` has made.
    Restored,
}

/// At once, and some way into it.
const KILLED_AFTER_MS: [u64; 3] = [0, 15, 60];

/// Takes a copy of it as it is now. The broker's store can only be copied while it is down, so it is killed and started.
pub(crate) async fn copy_of(world: &mut World, whose: Whose, how: How, name: &str) -> PathBuf {
    let to = world.folder().join(name);
    match whose {
        Whose::Broker => {
            world.broker.kill();
            world.broker.copy_store(&to).expect("copied");
            world.broker.start().await.expect("it starts");
        }
        _ if how == How::Restored => {
            let said = service(world, whose).command(&["backup", text(&to)]).await;
            let _taken = said.expect_code(0);
        }
        _ => service(world, whose).copy_database(&to).expect("copied"),
    }
    to
}

/// Kills it, puts the copy in its place and starts it. Returns how many events were only in the destroyed file; the clients
/// learn of each one.
pub(crate) async fn put_back(
    world: &mut World,
    whose: Whose,
    how: How,
    copy: &Path,
    losses: &Losses,
) -> usize {
    if whose == Whose::Broker {
        world.broker.kill();
        world.broker.swap_store(copy).expect("swapped");
        world.broker.start().await.expect("it starts");
        return 0; // the outboxes hold it all
    }
    service(world, whose).kill();
    put_back_killed(world, whose, how, copy, losses).await
}

/// The same with a service that is already killed.
pub(crate) async fn put_back_killed(
    world: &mut World,
    whose: Whose,
    how: How,
    copy: &Path,
    losses: &Losses,
) -> usize {
    let published = stream_head(world, whose).await;
    let destroyed = format!("destroyed-{:x}.db", chance::number());
    let destroyed = world.folder().join(destroyed);
    let service = service(world, whose);
    service.copy_database(&destroyed).expect("copied");
    match how {
        How::Swapped | How::SwappedAndKilled => service.swap_database(copy).expect("swapped"),
        How::Restored => restored_by_command(service, copy).await,
    }
    if how == How::SwappedAndKilled {
        kill_while_it_recovers(service, published).await;
    }
    service.start().await.expect("it starts");
    is_ready(service).await;
    let lost = left_behind(&destroyed, &service.database);
    assert!(
        lost.first().is_none_or(|event| event.seq > published),
        "event {:?} was in the stream, which ended at {published}",
        lost.first().map(|event| event.seq)
    );
    losses.report(&destroyed, &lost);
    lost.len()
}

async fn kill_while_it_recovers(service: &mut Service, published: u64) {
    for after_ms in KILLED_AFTER_MS {
        service.start().await.expect("it starts");
        tokio::time::sleep(Duration::from_millis(after_ms)).await; // the fault itself, not a wait for a result
        service.kill();
        let head = outbox::head(&service.database).expect("read");
        println!(
            "killed again {after_ms} ms after its start: its log ends at {head}, the stream ended at {published}"
        );
    }
}

async fn restored_by_command(service: &Service, copy: &Path) {
    let last = outbox::head(&service.database).expect("read");
    let said = service.command(&["restore", text(copy), "--json"]).await;
    let json = said.expect_code(0).json();
    let head = json["head"].as_u64().expect("a number");
    let unknown = json["unknown"].as_str().expect("a text");
    let named = format!("events {} to {last} are only in ", head + 1);
    assert_eq!(last > head, unknown.contains(&named), "{unknown}");
}

/// The events that the destroyed file held and the present one, which has seen its stream, does not.
fn left_behind(destroyed: &Path, present: &Path) -> Vec<StoredEvent> {
    let mut left = outbox::read_all(destroyed).expect("read");
    let present = outbox::read_all(present).expect("read");
    let same = left
        .iter()
        .zip(&present)
        .take_while(|(then, now)| then == now);
    left.split_off(same.count())
}

/// Waits until the stream holds every event that the outbox holds now: two disasters at once could destroy both.
pub(crate) async fn until_published(world: &World) {
    let head = outbox::head(&world.user_service.database).expect("read");
    eventually("the stream is filled", seconds(60), async || {
        match world.observer().stream_info("USERS").await {
            Ok(info) if info.last_seq >= head => Ok(()),
            Ok(info) => Err(format!("it ends at {}, not {head}", info.last_seq)),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await;
}

async fn stream_head(world: &World, whose: Whose) -> u64 {
    let stream = match whose {
        Whose::OrdersService => "ORDERS",
        Whose::UserService | Whose::Broker => "USERS",
    };
    eventually("the broker answers", seconds(60), async || {
        world
            .observer()
            .stream_info(stream)
            .await
            .map(|info| info.last_seq)
            .map_err(|error| format!("{error:#}"))
    })
    .await
}

fn service(world: &mut World, whose: Whose) -> &mut Service {
    match whose {
        Whose::UserService => &mut world.user_service,
        Whose::OrdersService => &mut world.orders_service,
        Whose::Broker => unreachable!("the broker is no service"),
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a text")
}
