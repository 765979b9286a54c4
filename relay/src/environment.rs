//! What comes from outside any database and any broker: time and random bytes. Tests replace both, but for the bytes of keys and
//! nonces, which always come from the operating system.

use std::fmt;

use data_encoding::HEXLOWER;

/// A clock and a source of random bytes.
pub trait Environment: fmt::Debug + Send + Sync + 'static {
    /// The time that events, backups and audits carry.
    fn now(&self) -> jiff::Timestamp;

    /// Fills `bytes` with random bytes: ids and incarnations are drawn from it.
    fn fill_random(&self, bytes: &mut [u8]);

    /// Unix time in milliseconds.
    fn now_ms(&self) -> u64 {
        unix_ms(self.now())
    }

    /// A word that was never drawn before: sixteen hex digits.
    fn draw_word(&self) -> String {
        let mut random = [0; 8];
        self.fill_random(&mut random);
        HEXLOWER.encode(&random)
    }
}

pub(crate) fn unix_ms(at: jiff::Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

/// The operating system's. Bytes are asked of it each time: a generator in memory would be copied with its virtual
/// machine, and both copies would draw the same ids.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Environment for System {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has random bytes");
    }
}
