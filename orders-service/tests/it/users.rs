//! Stream USERS, as user-service writes it, on a broker in memory.

use event_schema::{Event, UserCreated, UserDeleted, UserEvent, UserId, Version};
use relay::publish::Step;
use relay::testing::memory::MemoryBroker;
use relay::{Consumer, Database, Options, Relay};

pub struct Users {
    db: Database,
    pub stream: MemoryBroker,
    _folder: tempfile::TempDir,
}

impl Users {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new("user-service", UserEvent::STREAM, &[]);
        let db = Database::open(folder.path().join("users.db"), options).await;
        Self {
            db: db.unwrap(),
            stream: MemoryBroker::new(1),
            _folder: folder,
        }
    }

    /// Registers a user and publishes the event.
    pub async fn register(&self, name: &str) -> UserId {
        let user_id = UserId::new();
        let created = UserCreated {
            user_id,
            name: name.to_owned(),
            version: Version::FIRST,
        };
        self.tell(UserEvent::Created(created)).await;
        user_id
    }

    pub async fn delete(&self, user_id: UserId) {
        let version = Version::FIRST.next();
        self.tell(UserEvent::Deleted(UserDeleted { user_id, version }))
            .await;
    }

    /// Lets a consumer of `of` apply all that was told.
    pub async fn arrive(&self, consumer: &Consumer, of: &Database) {
        let told = self.db.outbox().committed();
        let mut follower = consumer.follow(of, self.stream.reader());
        while consumer.status().borrow().offset < told {
            follower.step().await.unwrap();
        }
    }

    async fn tell(&self, event: UserEvent) {
        let write = self.db.write(move |tx| tx.emit(&event));
        let place = write.await.unwrap();
        let mut relay = Relay::new(&self.db, self.stream.clone());
        while self.stream.records().len() < usize::try_from(place).unwrap() {
            let _step: Step = relay.step().await.unwrap();
        }
    }
}
