-- The library's own tables, version 1. Final; what came later is in the next file. Services never write to them with SQL of their own.

-- Whose file this is. One row, written when the file is created.
create table relay_identity (
    one            integer primary key check (one = 1),
    schema_version integer not null check (schema_version >= 1), -- of the tables in this file
    service        text    not null,                             -- the only program that may open it
    stream         text    not null,                             -- the stream its outbox is copied to
    database_id    text    not null,                             -- drawn once; the stream carries it too
    epoch          integer not null check (epoch >= 1)           -- one unforked life of this database
) strict;

-- The last place taken in the log. A counter row, because AUTOINCREMENT burns numbers on ignored inserts.
create table relay_head (
    one      integer primary key check (one = 1),
    seq      integer not null check (seq >= 0),
    event_id text, -- the next event names it in `prev`; null only before the first event
    check ((seq = 0) = (event_id is null))
) strict;

-- The log: append-only and gapless. Publishing changes nothing here.
create table relay_outbox (
    seq           integer primary key check (seq >= 1),
    event_id      text    not null,
    subject       text    not null, -- `users.created`
    envelope      blob    not null, -- byte for byte what the stream stores
    emitted_at_ms integer not null  -- Unix time; only for the age of the oldest unpublished event
) strict;

create trigger relay_outbox_is_final before update on relay_outbox
begin
    select raise(abort, 'an event never changes');
end;

-- How far each consumer of this database has applied its stream: stream, sequence and event id, with the epoch for people.
create table relay_offset (
    consumer text    primary key,
    stream   text    not null,
    seq      integer not null check (seq >= 1),
    event_id text    not null,
    epoch    integer not null
) strict;

-- Events set aside. A dead one was rejected; a parked one waits behind a dead one of the same key.
create table relay_dead_letter (
    consumer   text    not null,
    seq        integer not null,
    event_id   text    not null,
    key        text    not null, -- the aggregate's id: later events of this key queue up here
    event_type text    not null,
    state      text    not null check (state in ('dead', 'parked')),
    reason     text    not null,
    attempts   integer not null check (attempts >= 0),
    since_ms   integer not null,
    envelope   blob    not null,
    primary key (consumer, seq)
) strict;

create index relay_dead_letter_by_key on relay_dead_letter (consumer, key, seq);

-- What people did with dead letters. A discarded event keeps its bytes here: nothing is dropped silently.
create table relay_dead_letter_audit (
    id       integer primary key,
    at_ms    integer not null,
    consumer text    not null,
    seq      integer not null,
    event_id text    not null,
    action   text    not null check (action in ('retried', 'discarded')),
    note     text    not null,
    envelope blob    not null
) strict;
