-- Version 3: anyone may follow a log. Each part below belongs to one of the things that changed with it.

-- Readers of this service's log that reported how far they have come; retention holds for those heard lately.
create table relay_reader (
    reader      text    primary key, -- the consumer's name, as its service reports it
    seq         integer not null check (seq >= 0),
    event_id    text,                -- of the event there; null while it has applied none
    heard_at_ms integer not null     -- Unix time
) strict;

-- Why the events that only the stream holds could not be imported at the last try; null while nothing says so. Then, and
-- only then, `new-epoch` may leave them out.
alter table relay_identity add column unfit text;

-- Where a consumer began, once that is decided otherwise than with the first event: it is never taken back to before it.
create table relay_start (
    consumer text    primary key,
    stream   text    not null,
    seq      integer not null check (seq >= 0), -- it applies what comes after; 0 is the beginning
    event_id text,                              -- of the event there; null at 0
    epoch    integer not null
) strict;
