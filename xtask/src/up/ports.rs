//! Which ports: the stated one or a clear refusal; else the usual one when it is free, else any.

use anyhow::{Result, anyhow};
use freehold_tests::Port;

/// `flag` is what the caller could have said, for the refusal.
pub(super) fn choose(flag: &str, stated: Option<u16>, usual: u16) -> Result<Port> {
    match stated {
        None => Ok(Port::preferably(usual)?),
        Some(number) => Port::exactly(number).map_err(|why| {
            anyhow!(
                "{flag} {number}: {why}. Name another one, or leave {flag} out to get a free one"
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stated_port_that_is_taken_is_refused_and_an_usual_one_replaced() {
        let taken = Port::any().unwrap();
        let refusal = choose("--users-port", Some(taken.number()), 7101)
            .expect_err("taken")
            .to_string();
        assert!(
            refusal.starts_with(&format!("--users-port {taken}: "))
                && refusal.contains("leave --users-port out"),
            "{refusal}"
        );
        assert_ne!(
            choose("--users-port", None, taken.number())
                .unwrap()
                .number(),
            taken.number()
        );
    }
}
