//! The version that a nats-server reports, and the oldest one that is supported.

use std::fmt;

/// `2.15.1`. What follows the numbers ("-RC.1") does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

/// Atomic batches, with which the relay publishes a backlog, came with 2.12 and can be relied on since 2.12.2.
pub const OLDEST: Version = Version(2, 12, 2);
/// The version that we test with and fetch.
pub const PINNED: Version = Version(2, 15, 1);

impl Version {
    /// From `nats-server: v2.15.1`.
    pub fn parse(output: &str) -> Option<Version> {
        let (_, version) = output.trim().rsplit_once([' ', ':'])?;
        let mut numbers = version
            .strip_prefix('v')?
            .splitn(3, '.')
            .map(leading_number);
        Some(Version(
            numbers.next()??,
            numbers.next()??,
            numbers.next()??,
        ))
    }
}

fn leading_number(text: &str) -> Option<u16> {
    let end = text
        .find(|sign: char| !sign.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_servers_print() {
        assert_eq!(Version::parse("nats-server: v2.15.1\n"), Some(PINNED));
        assert_eq!(
            Version::parse("nats-server: v2.9.10"),
            Some(Version(2, 9, 10))
        );
        assert_eq!(
            Version::parse("nats-server: v2.14.0-RC.2"),
            Some(Version(2, 14, 0))
        );
        assert_eq!(
            Version::parse("nats-server: v2.15.0-dev.3+dirty"),
            Some(Version(2, 15, 0))
        );
        for odd in [
            "",
            "2.15.1",
            "nats-server: 2.15.1",
            "nats-server: v2.15",
            "nats-server: vx.y.z",
            "v2.15.1",
        ] {
            assert_eq!(Version::parse(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(
            Version(2, 9, 10) < OLDEST,
            "Debian's server, which text order would put above 2.12"
        );
        assert!(OLDEST <= PINNED);
        assert!(Version(3, 0, 0) > PINNED);
    }
}
