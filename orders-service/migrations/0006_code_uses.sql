-- A code that a device sends again after a lost answer is an event each time, so it may not do so for ever.
alter table enrolment_codes add column uses integer not null default 0;
