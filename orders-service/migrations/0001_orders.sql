-- The orders. Their past is the outbox; this is what they are now.
create table orders (
    id            text    primary key,                      -- UUIDv7: sorts by the time of placing, which is the order of lists
    user_id       text    not null,                         -- no foreign key: the user lives in another service and may be gone
    amount_minor  integer not null check (amount_minor >= 1), -- in the currency's smallest unit
    currency      text    not null check (length(currency) = 3),
    status        text    not null,                         -- 'placed'; no check lists the values, since more will come
    version       integer not null check (version >= 1),    -- changes so far; the events of an order are numbered by it
    created_at_ms integer not null                          -- Unix time
) strict, without rowid;

-- A user's orders, in the order of lists.
create index orders_by_user on orders (user_id, id);

-- What we need to know of user-service's users. A projection of stream USERS: nothing else writes here, and it can be
-- emptied and filled again from the stream.
create table user_cache (
    id      text    primary key,
    name    text    not null,
    version integer not null check (version >= 1) -- of the user, so that only newer news is applied
) strict, without rowid;
