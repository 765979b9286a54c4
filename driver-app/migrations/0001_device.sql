-- The device itself. One row, written at the first start.
create table device (
    one                 integer primary key check (one = 1),
    device_id           text    not null,                      -- drawn once, by the device; a copy of the file has it, too
    incarnation         text    not null,                      -- one unforked life of this file: a copy draws another
    next_seq            integer not null check (next_seq >= 1), -- the place of the next intent of this incarnation
    marks_seen          integer not null,                      -- `marked` rows of relay_audit that this incarnation accounts for: one more means that the file is a copy
    forks               integer not null default 0,            -- incarnations before this one
    fork_reason         text,                                  -- why the last one ended, for people
    forked_at_ms        integer,                               -- by the device's clock
    enrolment           text    not null default 'none' check (enrolment in ('none', 'valid', 'expired_or_revoked')),
    driver_id           text,                                  -- who uses the device; null before the first enrolment
    driver_name         text,
    token               text,                                  -- what orders-service knows the device by; the file is its user's own
    token_expires_at_ms integer,                               -- by the owner's clock, so never compared with ours
    feed_token          text,                                  -- where the next checkpoint begins; null: from scratch
    feed_at             integer,                               -- place in the owner's log that the deliveries are as of; null before the first checkpoint
    last_contact_ms     integer,                               -- by the device's clock; written along with what a contact brought
    check ((enrolment = 'none') = (token is null)),
    check ((driver_id is null) = (token is null))
) strict;

-- The driver's deliveries as orders-service told them, as of `device.feed_at`. What the driver did since is in `intents`.
create table deliveries (
    order_id text primary key,   -- UUIDv7: lists are in the order of placing
    body     text not null check (json_valid(body)) -- a Delivery of event-schema, whole
) strict, without rowid;

-- Pages of a checkpoint that is not complete. They wait here through restarts, and are applied together or not at all.
create table staged (
    n    integer primary key check (n >= 1),
    next text    not null,       -- where the page after this one begins
    page text    not null check (json_valid(page))
) strict;

-- What the driver wanted to have happened, and what became of it. Nothing unanswered is ever removed.
create table intents (
    intent_id      text    primary key,                  -- stays the same however often it is sent: the owner knows it again
    incarnation    text    not null,                     -- whose numbers `seq` counts
    seq            integer not null check (seq >= 1),
    driver_id      text    not null,                     -- who wanted it: nobody else sends it or sees it
    order_id       text    not null,                     -- the lane
    kind           text    not null,
    schema_version integer not null check (schema_version >= 1), -- of the arguments
    arguments      text    not null check (json_valid(arguments)),
    about          text,                                 -- of a decision: the intent in conflict
    base_version   integer not null check (base_version >= 1), -- of the order, as the owner had last told it
    seen           text,                                 -- feed token applied when the driver acted
    seen_at        integer,                              -- the place in the owner's log that this was
    device_time_ms integer not null,                     -- said, never compared
    state          text    not null check (state in ('unsent', 'sent', 'answered', 'gave_up')), -- sent: it may have arrived
    tries          integer not null default 0,           -- answers that said "later", to what was asked when its time had come; a network that is down does not count
    asked_again    integer not null default 0 check (asked_again in (0, 1)), -- 1: the owner has lost its verdict, so its effect may be there or not
    verdict        text check (verdict in ('applied', 'superseded', 'rejected', 'conflict')),
    at             integer,                              -- place of the verdict in the owner's log: the overlay ends there
    code           text,                                 -- why not, as a name
    detail         text,                                 -- why not, in words; also of the last "later"
    current        text check (json_valid(current)),     -- of a conflict: the owner's side, a Delivery
    decision       text,                                 -- of a conflict: what somebody decided; may be known before the verdict
    decided_by     text,
    open           integer not null default 1 check (open in (0, 1)), -- 0: nobody needs to see it any more
    unique (incarnation, seq),
    check ((state = 'answered') = (verdict is not null))
) strict;

-- The queue of each driver, in order.
create index intents_waiting on intents (driver_id, seq) where state in ('unsent', 'sent');
-- Which one comes before another in its lane.
create index intents_by_lane on intents (order_id, seq);
-- What is shown: the overlay and the rows for the driver.
create index intents_shown on intents (seq) where open = 1;
-- Decisions by what they are about.
create index intents_about on intents (about) where about is not null;
