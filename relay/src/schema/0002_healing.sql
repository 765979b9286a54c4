-- Version 2: is this file the one it was, and what became of events that no log holds any more.

-- Why this file may be an older copy of itself; null while nothing says so. A marked file imports before it writes.
alter table relay_identity add column must_import text;
-- How the file is known again at its next opening: inode and creation time, and a word that also lies in the
-- lock's side file. A copy differs in the one, an older copy put back over the same file in the other.
alter table relay_identity add column file_id text;
alter table relay_identity add column nonce text;
-- 1: this database was made where another one had been, which is gone. It may take over that one's log.
alter table relay_identity add column successor integer not null default 0 check (successor in (0, 1));
-- The incarnation of another database's stream that a person has decided to replace with this log.
alter table relay_identity add column replaces text;

-- Events that were in a log and are in none any more: nothing is dropped before it lies here.
create table relay_set_aside (
    id       integer primary key,
    at_ms    integer not null,
    found_in text    not null check (found_in in ('outbox', 'stream', 'consumer')),
    log      text    not null, -- the stream's name
    seq      integer not null,
    event_id text    not null,
    subject  text,             -- null with the envelope: a consumer keeps the ids it has applied, not the bytes
    envelope blob,
    reason   text    not null,
    digest   text    not null, -- of the envelope: what was found twice is kept once, and what differs is kept
    unique (found_in, log, seq, event_id, digest)
) strict;

-- Events whose answers by a reaction came home with the log before the reaction itself had come so far again: it passes
-- them by, once.
create table relay_answered (
    consumer text    not null,
    seq      integer not null,
    event_id text    not null,
    primary key (consumer, seq)
) strict, without rowid;

-- What was done to this database other than by its service: marks, imports, replaced streams, people's decisions.
create table relay_audit (
    id     integer primary key,
    at_ms  integer not null,
    action text    not null,
    detail text    not null
) strict;

-- A producer's snapshot on its way in: rows wait here until all have come, then replace the cache in one transaction.
create table relay_snapshot (
    consumer text    not null,
    n        integer not null,
    line     blob    not null,
    primary key (consumer, n)
) strict, without rowid;
