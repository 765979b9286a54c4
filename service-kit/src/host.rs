//! Whom a request believes to talk to. Services listen on loopback, and a browser on the same machine can be led there by
//! a page whose own name resolves to 127.0.0.1 (DNS rebinding). It still sends that page's name as the host, so a name that
//! is not this machine's is refused.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::{Problem, codes};

/// A proxy in front of a service must name the address it calls, not the one it was called by.
pub(crate) async fn refuse_foreign(request: Request, next: Next) -> Response {
    if is_local(&request) {
        return next.run(request).await;
    }
    let detail =
        "the Host header must be one loopback address or localhost, with or without a port";
    Problem::new(codes::FOREIGN_HOST, detail).into_response()
}

/// Old clients may send no host at all; a browser always does.
fn is_local(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let header = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() <= Version::HTTP_10,
        (Some(host), None) => names_this_machine(host),
        (Some(_), Some(_)) => false,
    };
    // `GET http://HOST/path` names its host twice.
    header && request.uri().authority().is_none_or(is_loopback)
}

fn names_this_machine(host: &HeaderValue) -> bool {
    Authority::try_from(host.as_bytes()).is_ok_and(|host| is_loopback(&host))
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_and_localhost_are_this_machine() {
        let local = |host: &'static str| names_this_machine(&HeaderValue::from_static(host));
        for here in [
            "127.0.0.1",
            "127.0.0.1:7101",
            "127.9.9.9",
            "[::1]",
            "[::1]:7101",
            "localhost",
            "LocalHost:7101",
        ] {
            assert!(local(here), "{here}");
        }
        for foreign in [
            "",
            ":7101",
            "evil.example",
            "evil.example:7101",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "0.0.0.0",
            "192.168.1.5:7101",
            "[::2]",
        ] {
            assert!(!local(foreign), "{foreign}");
        }
    }
}
