-- Of service-kit: the replies to requests that carried an Idempotency-Key. Sent again, such a request gets its first reply
-- and has no second effect. Written in the transaction of the effect. It follows from no event, so no fold knows it: an
-- import leaves it as it is, and a restored file answers what it had answered when it was copied.
create table kit_reply (
    id           integer primary key, -- in the order of storing: the oldest have the smallest
    caller       text    not null,    -- who chose the key; two callers may choose the same. Never a token
    route        text    not null,    -- `POST /users`: method, path as declared, and the values in it
    key          text    not null,
    request      blob    not null check (length(request) = 32), -- SHA-256 of path, query and body: is it the same request?
    status       integer not null check (status between 200 and 299), -- after a refusal nothing has happened, so none is kept
    headers      text    not null,    -- JSON, [[name, value], ...]: what the reply said of its body and of its place in the log
    body         blob    not null,    -- byte for byte
    stored_at_ms integer not null,    -- Unix time; replies are kept for a day
    unique (caller, route, key)
) strict;

-- The ones to forget are found without looking at those to keep.
create index kit_reply_by_age on kit_reply (stored_at_ms);
