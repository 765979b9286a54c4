-- Orders that live. An order's past is the log; this is what it is now.
alter table orders add column driver_id text;                          -- who is to deliver it, or has; null while nobody
alter table orders add column note text;                               -- what the driver or the office wrote when it ended
alter table orders add column cancel_reason text;                      -- null unless cancelled
alter table orders add column problems integer not null default 0;     -- reported on the way
alter table orders add column office_version integer not null default 1; -- the last change that no device asked for
alter table orders add column changed_at_ms integer not null default 0;  -- Unix time
update orders set changed_at_ms = created_at_ms;

-- The orders that a driver has open, for the day they are revoked.
create index orders_by_driver on orders (driver_id, id) where driver_id is not null;
create index orders_by_status on orders (status, id);

-- Where in the log each change of an order or a driver lies: version 1, 2, 3 … without a gap.
create table history (
    aggregate text    not null,                                        -- the order or the driver
    version   integer not null check (version >= 1),                   -- of it, after the change
    seq       integer not null check (seq >= 1),                       -- the event's place in the log
    primary key (aggregate, version)
) strict, without rowid;

-- What was placed before there was this table.
insert into history (aggregate, version, seq)
  select json_extract(cast(envelope as text), '$.subject'), json_extract(cast(envelope as text), '$.data.version'), seq
  from relay_outbox where json_extract(cast(envelope as text), '$.subject') in (select id from orders);

create table drivers (
    id             text    primary key,
    name           text    not null,
    revoked_at_ms  integer,                                            -- null while they may deliver
    version        integer not null check (version >= 1),
    enrolled_at_ms integer not null
) strict, without rowid;

-- A device speaks for one driver. One that enrols again has a new token, and perhaps another driver.
create table devices (
    id             text    primary key,                                -- drawn by the device itself
    driver_id      text    not null,
    token_hash     text    not null unique,                            -- SHA-256 of its token, in hexadecimal digits; the token is nowhere
    revoked        integer not null check (revoked in (0, 1)),
    enrolled_at_ms integer not null,
    expires_at_ms  integer not null                                    -- by this service's clock
) strict, without rowid;

create index devices_by_driver on devices (driver_id, id);

-- What each driver may know: a row for every order they have or had. A device asks for what changed after a place in the
-- log. Filled from the log, like all the tables above.
create table scopes (
    driver_id text    not null,
    order_id  text    not null,
    seq       integer not null check (seq >= 1),                       -- the place of the last change that concerns them
    gone      integer not null check (gone in (0, 1)),                 -- 1: it is not theirs any more, and leaves the device
    primary key (driver_id, order_id)
) strict, without rowid;

create unique index scopes_by_place on scopes (driver_id, seq, order_id);

-- Every intent that was judged, once. What a device sends twice is answered from here.
create table intents (
    id             text    primary key,                                -- drawn by the device
    device_id      text    not null,
    driver_id      text    not null,
    incarnation    text    not null,                                   -- one life of the device's database
    place          integer not null,                                   -- among the intents of that incarnation
    lane           text    not null,                                   -- the order, or what the device took for one
    kind           text    not null,
    wanted         text,                                               -- JSON, as the device said it; null where the event of its effect says it all
    verdict        text    not null,                                   -- 'applied', 'superseded', 'rejected', 'conflict'
    code           text,                                               -- why it was refused; null when applied
    status         text,                                               -- the order's, when it was refused
    seq            integer not null,                                   -- the place of the event that says so
    device_time_ms integer not null,                                   -- by the device's clock, which may be wrong
    judged_at_ms   integer not null,
    decision       text,                                               -- of a conflict: null while nobody has said anything
    decided_by     text,
    decided_seq    integer,                                            -- the place of the event that says so
    decided_at_ms  integer
) strict, without rowid;

-- Two intents at one place: somebody copied the device.
create unique index intents_by_place on intents (device_id, incarnation, place);
create unique index intents_by_seq on intents (seq);
create index intents_by_driver on intents (driver_id, seq);
create index intents_by_verdict on intents (verdict, seq);
create index intents_open on intents (seq) where verdict = 'conflict' and (decision is null or decision = 'insisted');
create index intents_decided on intents (driver_id, decided_seq) where decided_seq is not null;

-- One-time codes with which a device gets its token. They live for minutes and are not in the log.
create table enrolment_codes (
    code_hash     text    primary key,                                 -- SHA-256; the code is nowhere
    driver_id     text    not null,
    device_id     text,                                                -- who has used it; only that device may use it again, its answer may have got lost
    expires_at_ms integer not null
) strict, without rowid;

-- Users who are gone. Written by the reaction that cancels their open orders, and asked when one is placed: an order is
-- either there in time to be cancelled, or refused.
create table deleted_users (
    id text primary key
) strict, without rowid;
