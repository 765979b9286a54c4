//! Reading a log by three calls: where it ends, batches from any sequence on, and live copies of what it stores.
//!
//! Live copies arrive first and promise nothing: they may skip, repeat, come late, or come from a log that has been replaced
//! since. So a reader uses them only where they continue what it has read; everything else it reads from the log itself.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::{Head, Log, Record};
use crate::error::LogError;

/// What one connection of a reader can call. An error of any of them ends the connection.
pub trait ReadApi: Send + Sync + 'static {
    /// Where the log ends, and which log it is. `None`: there is no log here.
    fn head(&mut self) -> impl Future<Output = Result<Option<Head>, LogError>> + Send;

    /// Up to `limit` events from `first` on, oldest first; fewer when they are large. A replica that is behind may answer:
    /// an empty list means "not yet", never "the end".
    fn get(&self, first: u64, limit: usize) -> BoxFuture<'static, Result<Vec<Record>, LogError>>;

    /// The next live copy. Dropping the future loses none.
    fn live(&mut self) -> impl Future<Output = Result<Record, LogError>> + Send;
}

/// A reader's session, as a log.
pub struct Reader<A> {
    api: A,
    ahead: Ahead,
    /// Where the log ended when this session first looked, or the last event it handed out since. Up to there it reads
    /// from the log itself, so that no repeated copy confirms itself.
    begins: Option<u64>,
    /// The highest sequence that is known to be stored.
    known: u64,
    /// The batch that is read while the caller works on the one before it, and where it begins.
    prefetch: Option<(u64, Batch)>,
    /// Whether the last large read was full: then another one is worth a prefetch.
    was_full: bool,
}

type Batch = AbortOnDropHandle<Result<Vec<Record>, LogError>>;

/// Live copies that are buffered, at most; the others are read from the log when their turn comes.
const MAX_AHEAD: usize = 4096;
/// Bytes that are buffered likewise, and that one read hands out, at most (one event is always handed out).
pub(crate) const MAX_READ_BYTES: usize = 8 * 1024 * 1024;
/// From this many events on, a read is part of catching up, and the next one begins before this one is worked on.
const LARGE: usize = 100;
/// How long a read collects copies that have arrived, before it hands out the first.
const MOMENT: Duration = Duration::from_millis(1);
/// A replica that is behind is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// When nothing arrives for this long, the reader asks where the log ends: live copies may have been lost.
const QUIET: Duration = Duration::from_secs(2);

impl<A: ReadApi> Reader<A> {
    /// `api` receives live copies already: what is stored from now on arrives or is known to be missing.
    pub fn new(api: A) -> Self {
        Self {
            api,
            ahead: Ahead::default(),
            begins: None,
            known: 0,
            prefetch: None,
            was_full: false,
        }
    }

    /// Takes the live copies that have arrived, for a moment at most. Unconstrained: tokio's budget would stop it after 128.
    fn take_live(&mut self, after: u64) -> Result<(), LogError> {
        let until = Instant::now() + MOMENT;
        while Instant::now() < until {
            match unconstrained(self.api.live()).now_or_never() {
                Some(copy) => self.note(copy?, after),
                None => break,
            }
        }
        Ok(())
    }

    fn note(&mut self, copy: Record, after: u64) {
        self.known = self.known.max(copy.seq);
        let is_ahead = |begins: u64| copy.seq > begins.max(after);
        if self.begins.is_some_and(is_ahead) {
            self.ahead.put(copy);
        }
    }

    /// Reads from the log itself, and begins to read what follows.
    async fn fetch(&mut self, first: u64, limit: usize) -> Result<Vec<Record>, LogError> {
        let ahead = self.ahead.first().unwrap_or(u64::MAX);
        let limit = match usize::try_from(ahead.saturating_sub(first)) {
            Ok(gap) if gap > 0 => limit.min(gap),
            _ => limit,
        };
        if limit < LARGE {
            return self.api.get(first, limit).await; // its caller wants to know what is there now
        }
        let batch = self.prefetch.take().filter(|(at, _)| *at == first);
        let next = first + limit as u64;
        if self.was_full && self.known >= next && ahead > next {
            let batch = tokio::spawn(self.api.get(next, limit));
            self.prefetch = Some((next, AbortOnDropHandle::new(batch)));
        }
        let mut records = match batch {
            Some((_, batch)) => batch
                .await
                .map_err(|error| LogError::disconnected_by("a read ended early", error))??,
            None => self.api.get(first, limit).await?,
        };
        records.truncate(limit);
        self.was_full = records.len() == limit;
        Ok(records)
    }
}

impl<A: ReadApi> Log for Reader<A> {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let head = self.api.head().await?;
        self.known = head.as_ref().map_or(0, |head| head.seq);
        self.begins.get_or_insert(self.known);
        Ok(head)
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let records = self.next_after(after, limit, wait).await?;
        if let (Some(begins), Some(last)) = (&mut self.begins, records.last()) {
            *begins = last.seq.max(*begins);
        }
        Ok(records)
    }
}

impl<A: ReadApi> Reader<A> {
    async fn next_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let (deadline, mut quiet) = (Instant::now() + wait, Instant::now() + QUIET);
        loop {
            self.take_live(after)?;
            let ready = self.ahead.take(after, limit);
            if !ready.is_empty() {
                return Ok(ready);
            }
            if self.known > after {
                let found = self.fetch(after + 1, limit).await?;
                if !found.is_empty() || Instant::now() >= deadline {
                    return Ok(found);
                }
                sleep_until(deadline.min(Instant::now() + ASK_AGAIN)).await;
                continue;
            }
            match timeout_at(deadline.min(quiet), self.api.live()).await {
                Ok(copy) => self.note(copy?, after),
                Err(_) if Instant::now() >= deadline => return Ok(Vec::new()),
                Err(_) => {
                    self.head().await?;
                    quiet = Instant::now() + QUIET;
                }
            }
        }
    }
}

/// Live copies that continue each other.
#[derive(Default)]
struct Ahead {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Ahead {
    fn first(&self) -> Option<u64> {
        self.records.front().map(|record| record.seq)
    }

    /// Keeps the copy if it is the next one and there is room. One before all others starts over: after a gap, the reader
    /// reads from the log.
    fn put(&mut self, copy: Record) {
        if self.first().is_some_and(|first| copy.seq < first) {
            *self = Self::default();
        }
        let last = self.records.back();
        let continues = last.is_none_or(|last| copy.seq == last.seq + 1);
        if continues && self.records.len() < MAX_AHEAD && self.bytes < MAX_READ_BYTES {
            self.bytes += copy.bytes.len();
            self.records.push_back(copy);
        }
    }

    /// Takes up to `limit` records right after `after`; what lies before them is dropped.
    fn take(&mut self, after: u64, limit: usize) -> Vec<Record> {
        while self.first().is_some_and(|first| first <= after) {
            self.pop();
        }
        let mut taken = Vec::new();
        while taken.len() < limit && self.first() == Some(after + 1 + taken.len() as u64) {
            taken.extend(self.pop());
        }
        taken
    }

    fn pop(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.bytes -= record.bytes.len();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::log::Origin;

    /// A log, and live copies that have nothing to do with it.
    struct Told {
        log: Vec<Record>,
        live: VecDeque<Record>,
    }

    impl ReadApi for Told {
        async fn head(&mut self) -> Result<Option<Head>, LogError> {
            Ok(Some(Head {
                seq: self.log.len() as u64,
                first: 1,
                holes: 0,
                incarnation: String::new(),
                origin: Origin {
                    database_id: Uuid::nil(),
                    epoch: 1,
                },
                closed_by: None,
            }))
        }

        fn get(
            &self,
            first: u64,
            limit: usize,
        ) -> BoxFuture<'static, Result<Vec<Record>, LogError>> {
            let kept = self.log.iter().filter(|record| record.seq >= first);
            ready(Ok(kept.take(limit).cloned().collect())).boxed()
        }

        async fn live(&mut self) -> Result<Record, LogError> {
            match self.live.pop_front() {
                Some(copy) => Ok(copy),
                None => pending().await,
            }
        }
    }

    fn record(seq: u64, text: &'static str) -> Record {
        Record {
            seq,
            subject: "users.created".to_owned(),
            bytes: Bytes::from_static(text.as_bytes()),
        }
    }

    async fn read(reader: &mut Reader<Told>, after: u64) -> Vec<Record> {
        let read = reader.read_after(after, 10, Duration::ZERO).await;
        read.expect("no door fails")
    }

    #[tokio::test]
    async fn what_was_handed_out_is_read_again_from_the_log_and_never_from_a_copy() {
        let (log, live) = (Vec::new(), VecDeque::from([record(1, "late")]));
        let mut reader = Reader::new(Told { log, live });
        reader.head().await.expect("it is shown");
        assert_eq!(read(&mut reader, 0).await, [record(1, "late")]);
        reader.api.log = vec![record(1, "true")];
        reader.api.live.push_back(record(1, "late"));
        reader.head().await.expect("it is shown");
        assert_eq!(read(&mut reader, 0).await, [record(1, "true")]);
    }

    #[tokio::test]
    async fn a_gap_between_copies_is_read_from_the_log() {
        let log: Vec<_> = (1..=5).map(|seq| record(seq, "true")).collect();
        let mut reader = Reader::new(Told {
            log: Vec::new(),
            live: VecDeque::new(),
        });
        reader.head().await.expect("it is shown");
        let copies = [2, 1, 5].map(|seq| log[seq - 1].clone());
        reader.api.live.extend(copies);
        reader.api.log = log.clone();
        let mut found = Vec::new();
        while found.len() < 5 {
            let at = found.len() as u64;
            found.extend(read(&mut reader, at).await);
        }
        assert_eq!(found, log);
    }
}
