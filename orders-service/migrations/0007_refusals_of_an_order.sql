-- A day's budget counts refusals about what is no order of the driver's, which have no status. Those about an order are
-- counted by their order.
drop index intents_spent_by_device;
drop index intents_spent_by_driver;
create index intents_spent_by_device on intents (device_id, judged_at_ms) where verdict <> 'applied' and status is null;
create index intents_spent_by_driver on intents (driver_id, judged_at_ms, device_id) where verdict <> 'applied' and status is null;
create index intents_by_lane on intents (lane, seq);
