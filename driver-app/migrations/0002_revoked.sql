-- 1: orders-service said that the device or its driver was revoked, which is final until another enrolment. Any other
-- refusal of the token may pass, so the device asks again. Refusals from before this column may have been either.
alter table device add column revoked integer not null default 0 check (revoked in (0, 1));
