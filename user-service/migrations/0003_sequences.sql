-- The list is in the order of the log: a clock that jumps draws ids in another one.
alter table users add column seq integer not null default 0; -- of the event that registered them

update users set seq = made.seq from (
  select json_extract(cast(envelope as text), '$.subject') as id, min(seq) as seq from relay_outbox
  where json_extract(cast(envelope as text), '$.type') = 'users.created.v1' group by 1
) as made where made.id = users.id;

-- Older than the log is kept: before all others, in the order of their ids, as until now.
update users set seq = older.seq from (
  select id, row_number() over (order by id) - count(*) over () as seq from users where seq = 0
) as older where older.id = users.id;

create unique index users_by_seq on users (seq);
