-- A device's and a driver's intents that moved no order, by the time they were judged at: what their budgets are counted
-- from. Each index holds all that is asked for.
create index intents_spent_by_device on intents (device_id, judged_at_ms, verdict, kind)
  where (verdict <> 'applied' or kind not in ('pick_up', 'deliver'));
create index intents_spent_by_driver on intents (driver_id, judged_at_ms, verdict, kind)
  where (verdict <> 'applied' or kind not in ('pick_up', 'deliver'));
