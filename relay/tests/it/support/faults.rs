//! What can happen to files and brokers: copies, kills, and a broker that goes away at a chosen moment.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use relay::error::{LogError, OpenError, Refusal};
use relay::log::{AppendLog, Connect, Head, Log, Origin, Record, Stream};
use relay::testing::memory::MemoryBroker;
use relay::{Database, Options};

/// What lies on the disk, WAL and lock included: as a kill would leave it, or a snapshot of the volume keep it.
#[derive(Clone)]
pub struct Image {
    file: Vec<u8>,
    wal: Option<Vec<u8>>,
    lock: Vec<u8>,
}

impl Image {
    /// No process may be writing.
    pub fn take(path: &Path) -> Self {
        Self {
            file: std::fs::read(path).unwrap(),
            wal: std::fs::read(beside(path, "-wal")).ok(),
            lock: std::fs::read(beside(path, ".lock")).unwrap(),
        }
    }

    pub fn lock(&self) -> &[u8] {
        &self.lock
    }

    /// The volume as it was: the same files with older bytes. Nothing local can see it.
    pub fn roll_back(&self, path: &Path) {
        self.write_over(path);
        std::fs::write(beside(path, ".lock"), &self.lock).unwrap();
    }

    /// The bytes written into the file that is there. Its lock file stays as it is.
    pub fn write_over(&self, path: &Path) {
        std::fs::write(path, &self.file).unwrap();
        for stray in ["-wal", "-shm"] {
            let _none = std::fs::remove_file(beside(path, stray));
        }
        if let Some(wal) = &self.wal {
            std::fs::write(beside(path, "-wal"), wal).unwrap();
        }
    }

    /// A copy in the file's place, as `cp` makes one where nothing is.
    pub fn copy_to(&self, path: &Path) {
        let _none = std::fs::remove_file(path);
        self.write_over(path);
    }
}

pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Ends a process as `kill -9` does: the file and its WAL stay as they lie.
pub async fn kill(db: Database) {
    let path = db.path().to_owned();
    let image = Image::take(&path);
    db.close().await;
    image.roll_back(&path);
}

/// Opens a file whose last owner was dropped and may just be ending.
pub async fn reopen(path: &Path, options: Options) -> Database {
    for _ in 0..5_000 {
        match Database::open(path, options.clone()).await {
            Err(OpenError {
                why: Refusal::InUse { .. },
                ..
            }) => {}
            opened => return opened.unwrap(),
        }
        let a_moment = || std::thread::sleep(Duration::from_millis(1)); // of real time, whatever the clock says
        tokio::task::spawn_blocking(a_moment).await.unwrap();
    }
    panic!("{} is still in use", path.display());
}

/// While this lives the clock of a test stands still, also while everybody waits for the disk.
pub struct StillClock {
    _ends_with_this: std::sync::mpsc::Sender<()>,
}

impl StillClock {
    pub fn new() -> Self {
        let (sender, ended) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || ended.recv());
        Self {
            _ends_with_this: sender,
        }
    }

    /// Lets real time pass until the fact, or for a tenth of a second.
    pub async fn moments(fact: impl Fn() -> bool) {
        for _ in 0..100 {
            if fact() {
                return;
            }
            let a_moment = || std::thread::sleep(Duration::from_millis(1));
            tokio::task::spawn_blocking(a_moment).await.unwrap();
        }
    }
}

/// A broker that is gone for good after so many operations: the last of them is done, and its answer never comes. So it
/// looks to a process that is killed there.
#[derive(Clone)]
pub struct Mortal {
    broker: MemoryBroker,
    left: Arc<AtomicU64>,
    meanwhile: Option<Meanwhile>,
    asked: Asked,
    about: About,
}

/// What it was asked, oldest first.
type Asked = Arc<Mutex<Vec<String>>>;

/// What it says of its size, and whether it can be brought up to date.
#[derive(Clone, Default)]
pub struct About(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    room: Option<(u64, u64)>,
    refuses: bool,
}

impl About {
    pub fn room(&self, used: u64, limit: u64) {
        self.0.lock().unwrap().room = Some((used, limit));
    }

    pub fn refuse(&self, refuses: bool) {
        self.0.lock().unwrap().refuses = refuses;
    }
}

/// What others do while the answer about the stream's head is on its way.
type Meanwhile = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

pub struct MortalSession {
    session: <MemoryBroker as Connect>::Session,
    way: Mortal,
}

impl Mortal {
    pub fn after(operations: u64, broker: &MemoryBroker) -> Self {
        Self {
            broker: broker.clone(),
            left: Arc::new(AtomicU64::new(operations)),
            meanwhile: None,
            asked: Asked::default(),
            about: About::default(),
        }
    }

    /// One that stays, and notes what it is asked.
    pub fn watched(broker: &MemoryBroker) -> Self {
        Self::after(u64::MAX, broker)
    }

    /// What it was asked since this was called last.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    /// One that stays, and answers about the stream's head after this work only.
    pub fn slow(
        broker: &MemoryBroker,
        meanwhile: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            meanwhile: Some(Arc::new(meanwhile)),
            ..Self::after(u64::MAX, broker)
        }
    }

    fn note(&self, question: String) {
        self.asked.lock().unwrap().push(question);
    }

    pub fn is_gone(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

/// Does the operation, if there is one left; the last one answers no more.
async fn until_gone<T>(
    left: &AtomicU64,
    operation: impl Future<Output = Result<T, LogError>>,
) -> Result<T, LogError> {
    let gone = || LogError::Disconnected("killed here".to_owned(), None);
    let before = left.load(Ordering::Relaxed);
    if before == 0 {
        return Err(gone());
    }
    left.store(before - 1, Ordering::Relaxed);
    let done = operation.await;
    match before {
        1 => Err(gone()),
        _ => done,
    }
}

impl Connect for Mortal {
    type Session = MortalSession;

    async fn connect(&self) -> Result<MortalSession, LogError> {
        let session = until_gone(&self.left, self.broker.connect()).await?;
        Ok(MortalSession {
            session,
            way: self.clone(),
        })
    }

    fn stream(&self) -> &str {
        self.broker.stream()
    }
}

impl Log for MortalSession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        self.way.note("head".to_owned());
        let head = until_gone(&self.way.left, self.session.head()).await;
        if let Some(meanwhile) = &self.way.meanwhile {
            meanwhile().await;
        }
        head
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        self.way.note(format!("read {limit}"));
        until_gone(&self.way.left, self.session.read_after(after, limit, wait)).await
    }
}

impl AppendLog for MortalSession {
    async fn append_after(&mut self, head: &Head, records: &[Record]) -> Result<Head, LogError> {
        self.way.note(format!("append {}", records.len()));
        until_gone(&self.way.left, self.session.append_after(head, records)).await
    }
}

impl Stream for MortalSession {
    async fn create(
        &mut self,
        first: u64,
        origin: &Origin,
        incarnation: &str,
    ) -> Result<Head, LogError> {
        until_gone(
            &self.way.left,
            self.session.create(first, origin, incarnation),
        )
        .await
    }

    async fn close(&mut self, epoch: u32, incarnation: &str) -> Result<Head, LogError> {
        until_gone(&self.way.left, self.session.close(epoch, incarnation)).await
    }

    async fn delete(&mut self, incarnation: &str) -> Result<(), LogError> {
        until_gone(&self.way.left, self.session.delete(incarnation)).await
    }

    async fn trim(&mut self, first: u64) -> Result<(), LogError> {
        self.way.note(format!("trim {first}"));
        until_gone(&self.way.left, self.session.trim(first)).await
    }

    async fn refresh(&mut self) -> Result<(), LogError> {
        match self.way.about.0.lock().unwrap().refuses {
            true => Err(LogError::Disconnected(
                "the broker says no".to_owned(),
                None,
            )),
            false => Ok(()),
        }
    }

    fn room(&self) -> Option<(u64, u64)> {
        self.way.about.0.lock().unwrap().room
    }
}

/// A relay began to replace the stream and did not finish.
pub async fn close_stream(broker: &MemoryBroker, epoch: u32) {
    let mut session = broker.connect().await.unwrap();
    let door = session.head().await.unwrap().unwrap().incarnation;
    session.close(epoch, &door).await.unwrap();
}
