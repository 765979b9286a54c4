//! Reading by three doors: where the log ends, batches from any sequence on, and live copies of what it stores.
//!
//! Live copies arrive first and promise nothing: they may skip, repeat, come late, or come from a log that has been replaced
//! since. So they are only taken where they continue what the caller has read; everything else is read from the log itself.

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

/// What one connection of a reader can ask for. An error of any of them ends the connection.
pub trait Doors: Send + Sync + 'static {
    /// Where the log ends, and which log it is. `None`: there is no log here.
    fn head(&mut self) -> impl Future<Output = Result<Option<Head>, LogError>> + Send;

    /// Up to `limit` events from `first` on, oldest first; fewer when they are large. A copy of the log that is behind may
    /// answer: an empty list means "not yet", never "the end".
    fn get(&self, first: u64, limit: usize) -> BoxFuture<'static, Result<Vec<Record>, LogError>>;

    /// The next live copy. Dropping the future loses none.
    fn live(&mut self) -> impl Future<Output = Result<Record, LogError>> + Send;
}

/// A reader's session: a log that is read through its doors.
pub struct Reader<D> {
    doors: D,
    ahead: Ahead,
    /// Where the log ended when this session first looked, or the last event it handed out since: what lies up to there is
    /// read from the log itself, so that no copy that comes again confirms itself.
    begins: Option<u64>,
    /// The highest sequence that is known to be stored.
    known: u64,
    /// The batch that is read while the caller works on the one before it, and where it begins.
    asked: Option<(u64, Batch)>,
    /// Whether the last large read came whole: then the one after the next is worth asking for, too.
    flows: bool,
}

type Batch = AbortOnDropHandle<Result<Vec<Record>, LogError>>;

/// Live copies that wait for their turn, at most: beyond, they are read from the log when their turn comes.
const MAX_AHEAD: usize = 4096;
/// Bytes that wait likewise, and that one read hands out, at most (one event is always handed out).
pub(crate) const MAX_READ_BYTES: usize = 8 * 1024 * 1024;
/// From this many events on, a read is part of catching up, and the next one begins before this one is worked on.
const LARGE: usize = 100;
/// How long copies that have arrived are taken before the first of them is handed out.
const MOMENT: Duration = Duration::from_millis(1);
/// A copy of the log that is behind is asked again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// When nothing arrives for this long, the log is asked where it ends: live copies may have been lost.
const QUIET: Duration = Duration::from_secs(2);

impl<D: Doors> Reader<D> {
    /// `doors` receive live copies already: what is stored from now on arrives or is known to be missing.
    pub fn new(doors: D) -> Self {
        Self {
            doors,
            ahead: Ahead::default(),
            begins: None,
            known: 0,
            asked: None,
            flows: false,
        }
    }

    /// Takes the live copies that have arrived, for a moment at most. Without a budget: tokio's would end the taking after 128.
    fn take_live(&mut self, after: u64) -> Result<(), LogError> {
        let until = Instant::now() + MOMENT;
        while Instant::now() < until {
            match unconstrained(self.doors.live()).now_or_never() {
                Some(copy) => self.note(copy?, after),
                None => break,
            }
        }
        Ok(())
    }

    fn note(&mut self, copy: Record, after: u64) {
        self.known = self.known.max(copy.seq);
        if self
            .begins
            .is_some_and(|begins| copy.seq > begins.max(after))
        {
            self.ahead.put(copy);
        }
    }

    /// Reads from the log itself, and begins to read what follows.
    async fn fetch(&mut self, first: u64, limit: usize) -> Result<Vec<Record>, LogError> {
        let limit = match self.ahead.first() {
            Some(next) if next > first => limit.min(usize::try_from(next - first).unwrap_or(limit)),
            _ => limit,
        };
        if limit < LARGE {
            return self.doors.get(first, limit).await; // a look, which wants to know what is there now
        }
        let asked = self.asked.take().filter(|(at, _)| *at == first);
        let next = first + limit as u64;
        let more = self.known >= next && self.ahead.first().is_none_or(|ahead| ahead > next);
        if more && self.flows {
            let batch = tokio::spawn(self.doors.get(next, limit));
            self.asked = Some((next, AbortOnDropHandle::new(batch)));
        }
        let mut records = match asked {
            Some((_, batch)) => batch
                .await
                .map_err(|error| LogError::lost_because("a read ended early", error))??,
            None => self.doors.get(first, limit).await?,
        };
        records.truncate(limit);
        self.flows = records.len() == limit;
        Ok(records)
    }
}

impl<D: Doors> Log for Reader<D> {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let head = self.doors.head().await?;
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

impl<D: Doors> Reader<D> {
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
                let is_over = Instant::now() >= deadline;
                if is_over || !found.is_empty() {
                    return Ok(found);
                }
                sleep_until(deadline.min(Instant::now() + ASK_AGAIN)).await;
                continue;
            }
            match timeout_at(deadline.min(quiet), self.doors.live()).await {
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

    /// Keeps the copy if it is the next one and there is room. One that lies before all others begins again: what comes
    /// after a gap is read from the log.
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

    impl Doors for Told {
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
        reader.doors.log = vec![record(1, "true")];
        reader.doors.live.push_back(record(1, "late"));
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
        reader.doors.live.extend(copies);
        reader.doors.log = log.clone();
        let mut found = Vec::new();
        while found.len() < 5 {
            let at = found.len() as u64;
            found.extend(read(&mut reader, at).await);
        }
        assert_eq!(found, log);
    }
}
