-- Every token that a device has had. One opens nothing once another has taken its place, but it still proves that the device
-- which enrols again is the one that was enrolled before. Filled from the log.
create table device_tokens (
    token_hash text primary key,                                        -- SHA-256, as in `devices`
    device_id  text not null
) strict, without rowid;

insert into device_tokens (token_hash, device_id) select token_hash, id from devices;
