-- Lists are in the order of the log: a clock that jumps draws ids in another one.
alter table orders add column seq integer not null default 0;          -- of the event that placed it
alter table drivers add column seq integer not null default 0;         -- of the event that enrolled them
alter table devices add column seq integer not null default 0;         -- of the event that first enrolled it

update orders set seq = made.seq from history as made where made.aggregate = orders.id and made.version = 1;
update drivers set seq = made.seq from history as made where made.aggregate = drivers.id and made.version = 1;
update devices set seq = made.seq from (
  select json_extract(cast(envelope as text), '$.data.device_id') as id, min(seq) as seq from relay_outbox
  where json_extract(cast(envelope as text), '$.type') = 'orders.device_enrolled.v1' group by 1
) as made where made.id = devices.id;

-- Older than the log is kept: before all others, in the order of their ids, as until now.
update orders set seq = older.seq from (
  select id, row_number() over (order by id) - count(*) over () as seq from orders where seq = 0
) as older where older.id = orders.id;
update drivers set seq = older.seq from (
  select id, row_number() over (order by id) - count(*) over () as seq from drivers where seq = 0
) as older where older.id = drivers.id;
update devices set seq = older.seq from (
  select id, row_number() over (order by id) - count(*) over () as seq from devices where seq = 0
) as older where older.id = devices.id;

drop index orders_by_user;
drop index orders_by_driver;
drop index orders_by_status;
drop index devices_by_driver;
create unique index orders_by_seq on orders (seq);
create index orders_by_user on orders (user_id, seq);
create index orders_by_driver on orders (driver_id, seq) where driver_id is not null;
create index orders_by_status on orders (status, seq);
create unique index drivers_by_seq on drivers (seq);
create index devices_by_driver on devices (driver_id, seq);

-- A device's and a driver's intents that moved no order, by the time they were judged at: what their budgets are counted
-- from. Each index holds all that is asked for.
create index intents_spent_by_device on intents (device_id, judged_at_ms, verdict, kind)
  where (verdict <> 'applied' or kind not in ('pick_up', 'deliver'));
create index intents_spent_by_driver on intents (driver_id, judged_at_ms, verdict, kind)
  where (verdict <> 'applied' or kind not in ('pick_up', 'deliver'));
