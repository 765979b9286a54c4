//! Sealed parts on their way: into the outbox, through the stream, and home; and what a lost key costs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use relay::database::Gate;
use relay::error::{OpenError, Refusal};
use relay::log::{AppendLog, Connect, Record, Stream};
use relay::publish::Case;
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Database, EmitError, Fold, Keys, Options, Received, Rows, WriteError};

use crate::support::{Front, Image, Scratch, Weighed, follow, meet, outbox_rows, totals, weighed};

const ADDRESSES: &[&str] = &[
    "create table addresses (parcel text primary key, address text not null) strict;
     create table totals (
       parcel text primary key, version integer not null, times integer not null, total_g integer not null
     ) strict;",
];

/// The parcel service; only it may know where each parcel goes.
fn options(keys: Option<Keys>) -> Options {
    let fold = Fold::new(&["addresses"], |rows, event: &Received<Weighed>| {
        let Some(sealed) = &event.sealed else {
            return Err(ApplyError::Fatal("no address".to_owned()));
        };
        // The recording of the first version is no JSON.
        let recorded = |_| String::from_utf8_lossy(sealed).into_owned();
        let address: String = serde_json::from_slice(sealed).unwrap_or_else(recorded);
        Ok(store(rows, &event.event.parcel, &address)?)
    });
    Options {
        keys,
        ..Options::new("parcel-service", "PARCELS", ADDRESSES).fold(fold)
    }
}

fn store(rows: &Rows<'_>, parcel: &str, address: &str) -> relay::rusqlite::Result<()> {
    let sql = "insert or replace into addresses values (?1, ?2)";
    rows.execute(sql, (parcel, address)).map(drop)
}

async fn send(
    db: &Database,
    parcel: &'static str,
    address: &'static str,
) -> Result<u64, WriteError<EmitError>> {
    db.write(move |tx| {
        store(tx.rows(), parcel, address)?;
        tx.emit_sealed(&weighed(parcel, 1, 1), Some(&address))
    })
    .await
}

async fn addresses(db: &Database) -> Vec<String> {
    let read = db.read(|rows| {
        let mut all =
            rows.prepare("select parcel || ': ' || address from addresses order by parcel")?;
        all.query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()
    });
    read.await.unwrap()
}

/// The options that the service is started with.
type FindKeys = fn(&World) -> Option<Keys>;

const SENT: [(&str, &str); 3] = [("a", "12 Elm Street"), ("b", ""), ("c", "Nørrebrogade 7")];

/// A service that has sealed three addresses and published them. The image is of before that.
struct World {
    scratch: Scratch,
    broker: MemoryBroker,
    db: Database,
    before: Image,
}

impl World {
    async fn new() -> Self {
        let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
        let keys = Keys::open_or_create(&scratch.path("parcels.keys")).unwrap();
        let db = Database::open(scratch.path("parcels.db"), options(Some(keys)))
            .await
            .unwrap();
        let before = Image::take(db.path());
        for (parcel, address) in SENT {
            send(&db, parcel, address).await.unwrap();
        }
        meet(&db, &broker).await;
        Self {
            scratch,
            broker,
            db,
            before,
        }
    }

    fn keys(&self) -> Keys {
        Keys::open(&self.scratch.path("parcels.keys")).unwrap()
    }

    async fn reopen(&mut self, keys: Option<Keys>) {
        self.db.close().await;
        self.db = Database::open(self.scratch.path("parcels.db"), options(keys))
            .await
            .unwrap();
    }

    async fn assert_home(&self) {
        assert_eq!(
            addresses(&self.db).await,
            SENT.map(|(parcel, address)| format!("{parcel}: {address}"))
        );
        assert_eq!(outbox_rows(&self.db).await, self.broker.records());
        assert_eq!(self.db.gate(), Gate::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn sealed_parts_come_home_with_the_log() {
    let mut world = World::new().await;
    let keys = world.scratch.path("parcels.keys");
    Keys::rotate(&keys).unwrap(); // every key ever used still opens
    world.db.close().await;
    std::fs::remove_file(world.db.path()).unwrap();
    world.db = Database::open(
        world.scratch.path("parcels.db"),
        options(Some(world.keys())),
    )
    .await
    .unwrap();
    let cases = meet(&world.db, &world.broker).await;
    assert_eq!(
        cases,
        [Case::DatabaseLost, Case::AheadAtFirstContact, Case::Equal]
    );
    world.assert_home().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_right_key_nothing_is_taken_over_and_with_it_everything_is() {
    let another =
        |world: &World| Some(Keys::open_or_create(&world.scratch.path("other.keys")).unwrap());
    let cures: [(FindKeys, &str); 2] = [
        (|_| None, "has no key file"),
        (another, "put the old key file back"),
    ];
    for (keys, cure) in cures {
        let mut world = World::new().await;
        world.db.close().await;
        world.before.roll_back(&world.scratch.path("parcels.db"));
        let (stream, keys) = (world.broker.store(), keys(&world));
        world.db = Database::open(world.scratch.path("parcels.db"), options(keys))
            .await
            .unwrap();
        assert_eq!(
            meet(&world.db, &world.broker).await,
            [Case::AheadAtFirstContact]
        );
        let refused = send(&world.db, "d", "1 Oak Lane").await;
        assert!(
            matches!(&refused, Err(WriteError::Halted(why)) if why.contains(cure)),
            "{refused:?}"
        );
        assert_eq!(world.broker.store(), stream, "nothing is touched");
        assert!(outbox_rows(&world.db).await.is_empty());
        assert!(addresses(&world.db).await.is_empty());

        world.reopen(Some(world.keys())).await;
        meet(&world.db, &world.broker).await;
        world.assert_home().await;
    }
}

#[tokio::test]
async fn a_lost_key_file_is_noticed_before_anything_is_sealed_with_a_new_one() {
    let world = World::new().await;
    world.db.close().await;
    let path = world.scratch.path("parcels.db");
    let new = Keys::open_or_create(&world.scratch.path("new.keys")).unwrap();
    let refused = Database::open(&path, options(Some(new)))
        .await
        .err()
        .unwrap();
    let old = world.keys().ids().next().unwrap().to_owned();
    assert!(
        matches!(&refused, OpenError { why: Refusal::KeyLost { key, .. }, .. } if *key == old),
        "{refused}"
    );
    assert!(
        refused
            .to_string()
            .contains("put the copy of the key file back"),
        "{refused}"
    );
    let db = Database::open(&path, options(Some(world.keys())))
        .await
        .unwrap();
    send(&db, "d", "1 Oak Lane").await.unwrap();
}

#[tokio::test]
async fn without_keys_nothing_is_sealed_and_nothing_is_said() {
    let scratch = Scratch::new();
    let db = Database::open(scratch.path("parcels.db"), options(None))
        .await
        .unwrap();
    let refused = send(&db, "a", "12 Elm Street").await;
    assert!(
        matches!(refused, Err(WriteError::Work(EmitError::NoKeys { .. }))),
        "{refused:?}"
    );
    assert!(outbox_rows(&db).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_byte_of_it_is_told_to_anybody_else() {
    let world = World::new().await;
    let reader = world.scratch.reader().await;
    follow(&totals(Front::of(&world.db)), &reader, &world.broker).await;
    let (front, snapshot) = (Front::of(&world.db), totals(Front::of(&world.db)));
    drop(front);
    snapshot.rebuild();
    let _rebuilt = snapshot.follow(&reader, world.broker.reader()).step().await;
    reader.close().await;
    let mut places: Vec<(&str, Vec<u8>)> = vec![(
        "the consumer's file",
        read(&world.scratch.path("scales.db")),
    )];
    for event in world.broker.records() {
        places.push(("the stream", event.bytes.to_vec()));
    }
    for event in outbox_rows(&world.db).await {
        places.push(("the outbox", event.bytes.to_vec()));
    }
    for (_, address) in SENT.iter().filter(|(_, address)| !address.is_empty()) {
        for (place, bytes) in &places {
            let told = bytes
                .windows(address.len())
                .any(|some| some == address.as_bytes());
            assert!(!told, "{place} tells {address}");
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Who can write to a stream gives no parcel another one's address: two events that trade their data or their subjects are
/// not opened, and what was there halts.
#[tokio::test(start_paused = true)]
async fn events_that_traded_what_is_open_in_them_do_not_open() {
    for traded in ["data", "subject"] {
        let mut world = World::new().await;
        let mut events: Vec<serde_json::Value> = world
            .broker
            .records()
            .iter()
            .map(|event| serde_json::from_slice(&event.bytes).unwrap())
            .collect();
        let second = events[1][traded].clone();
        events[1][traded] = std::mem::replace(&mut events[0][traded], second);
        let forged: Vec<Record> = world
            .broker
            .records()
            .into_iter()
            .zip(events)
            .map(|(record, event)| Record {
                bytes: serde_json::to_vec(&event).unwrap().into(),
                ..record
            })
            .collect();
        let forger = MemoryBroker::new(2);
        let mut session = forger.connect().await.unwrap();
        let origin = crate::support::origin(&world.db).await;
        let head = session.create(1, &origin, "forged").await.unwrap();
        session.append_after(&head, &forged).await.unwrap();

        world.db.close().await;
        std::fs::remove_file(world.db.path()).unwrap();
        let keys = Some(world.keys());
        world.reopen(keys).await;
        meet(&world.db, &forger).await;
        let why = world.db.gate().reason().expect(traded).to_owned();
        assert!(why.contains("sealed part does not open"), "{traded}: {why}");
        assert!(addresses(&world.db).await.is_empty(), "{traded}");
    }
}

/// An event of the library's first version, whose sealed part was bound to its id alone. Recorded, not made here.
#[tokio::test(start_paused = true)]
async fn an_event_sealed_by_the_first_version_opens_for_ever() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let key = "1a2b3c4d 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let path = scratch.path("parcels.keys");
    std::fs::write(&path, format!("{key}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let open = || Database::open(scratch.path("parcels.db"), options(Keys::open(&path).ok()));
    let db = open().await.unwrap();
    let recorded = r#"{"specversion":"1.0","id":"0190a5f0-1234-7abc-8def-0123456789ab","source":"/parcels","type":"parcels.weighed.v1","subject":"a","time":"2026-11-22T18:38:03.575348028Z","sequence":"00000000000000000001","epoch":1,"datacontenttype":"application/json","dataschema":"urn:freehold:schema:parcels.weighed.v1","sealedkey":"1a2b3c4d","sealed":"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXrxtgHbGJFTS11ubaztwA6vPX3ah2dzzoDROAxQkEI5AW+QJuVZKEEP+y9EwK2trxm2t96G+FtJy2/Aj0E7JMVCByhs4YechP0tOji93jRUE=","data":{"parcel":"a","weight_g":1,"version":1}}"#;
    let event = Record {
        seq: 1,
        subject: "parcels.weighed".to_owned(),
        bytes: recorded.into(),
    };
    let mut session = broker.connect().await.unwrap();
    let origin = crate::support::origin(&db).await;
    let head = session.create(1, &origin, "recorded").await.unwrap();
    session.append_after(&head, &[event]).await.unwrap();
    meet(&db, &broker).await;
    assert_eq!(addresses(&db).await, [r#"a: {"email":"ada@example.org"}"#]);
    assert_eq!(outbox_rows(&db).await, broker.records());
}
