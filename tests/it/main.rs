//! End to end: a real broker, the real services, real files, real kills.

#![expect(
    clippy::print_stdout,
    reason = "a test prints its seed and what it counted"
)]

mod access;
mod account_files;
mod any_services;
mod applied;
mod broker;
mod canaries;
mod causal;
mod circles;
mod clients;
mod conflicts;
mod databases;
mod days;
mod disk;
mod docs;
mod drivers;
mod following;
mod footprint;
mod forks;
mod fuzz;
mod hostile;
mod hostile_devices;
mod house;
mod in_process;
mod kills;
mod ledger;
mod logs;
mod lost_acks;
mod lost_databases;
mod machines;
mod new_service;
mod old_streams;
mod older;
mod operators;
mod output;
mod own_service;
mod owner;
mod page;
mod page_states;
mod pages;
mod poison;
mod power_cuts;
mod readme;
mod reconciliations;
mod restores;
mod retention;
mod rivals;
mod rotten_files;
mod snapshots;
mod starts;
mod states;
mod stops;
mod stores;
mod story;
mod strangers;
mod stream_size;
mod up;
mod upgrades;
mod verifies;
mod wipes;
mod world;
