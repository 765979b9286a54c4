-- What this service owns. The past is the outbox; this is what is true now, and it follows from the outbox (`events::fold`).
create table {{project-name | snake_case}} (
    id   text    primary key,
    {{followed | snake_case}}_id text not null, -- no foreign key: the {{followed}} lives in another service and may not be known here yet
    reason text    not null,
    seq  integer not null unique -- of its event
) strict, without rowid;

create index {{project-name | snake_case}}_by_{{followed | snake_case}} on {{project-name | snake_case}} ({{followed | snake_case}}_id, seq);

-- What we need to know of another service's {{followed}}. A projection of stream {{follows | shouty_snake_case}}: it can be emptied and filled again from it.
create table {{followed | snake_case}}_cache (
    id   text primary key,
    data text not null -- of the event, as JSON
) strict, without rowid;
