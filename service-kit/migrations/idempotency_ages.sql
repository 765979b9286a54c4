-- Of service-kit: replies age while their service runs, on from the newest one. Earlier versions stored the wall clock's time, so
-- one that was kept while that was ahead would make all others old. All of them begin again.
update kit_reply set stored_at_ms = (select max(stored_at_ms) from kit_reply);
