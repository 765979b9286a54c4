-- The users. Their past is the outbox; this is what they are now.
create table users (
    id      text    primary key,                 -- UUIDv7: sorts by the time of registration, which is the order of lists
    name    text    not null check (name <> ''), -- as given, byte for byte; the domain checks its length and characters
    email   text    not null unique              -- one user per address
                    collate nocase,              -- ASCII case does not make another mailbox anywhere in practice
    version integer not null check (version >= 1) -- changes so far; the events of a user are numbered by it
) strict, without rowid;
