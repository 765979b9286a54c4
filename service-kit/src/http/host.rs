//! Protection against pages of other origins. Services listen on loopback, and a page whose own name resolves to 127.0.0.1
//! can lead a browser on the same machine there (DNS rebinding). The browser still sends the page's name as the host, so a
//! foreign host is refused. So is a request of a page of another origin, before it counts towards any limit.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::{Problem, codes};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A proxy in front of a service must send the address it calls as the host.
pub(crate) async fn refuse_foreign(request: Request, next: Next) -> Response {
    if !is_local(&request) {
        let detail =
            "the Host header must be one loopback address or localhost, with or without a port";
        return Problem::new(codes::FOREIGN_HOST, detail).into_response();
    }
    if is_of_foreign_page(request.headers()) {
        let detail = "a page of another origin may not call this service; to open a page of its own, type the address";
        return Problem::new(codes::FOREIGN_ORIGIN, detail).into_response();
    }
    next.run(request).await
}

/// A browser says which page a request comes from. Other clients send neither header, and a page cannot change either.
fn is_of_foreign_page(headers: &HeaderMap) -> bool {
    let own = headers.get(HOST).map(HeaderValue::as_bytes);
    let is_own = |origin: &HeaderValue| {
        let host = origin.as_bytes().strip_prefix(b"http://");
        host.zip(own)
            .is_some_and(|(host, own)| host.eq_ignore_ascii_case(own))
    };
    // `none`: a person typed the address, or opened a bookmark.
    let is_own_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    let mut origins = headers.get_all(ORIGIN).iter();
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    !(origins.all(is_own) && sites.all(is_own_site))
}

/// A browser sends it for the program's own page, other pages being refused.
pub(crate) fn is_of_page(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_FETCH_SITE)
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

    #[test]
    fn only_pages_of_this_very_origin_and_clients_without_pages_may_call() {
        let foreign = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.append(HOST, HeaderValue::from_static("localhost:7103"));
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_of_foreign_page(&headers)
        };
        let own = ("origin", "http://localhost:7103");
        for lines in [
            &[][..],
            &[own],
            &[("sec-fetch-site", "none")],
            &[own, ("sec-fetch-site", "same-origin")],
        ] {
            assert!(!foreign(lines), "{lines:?}");
        }
        for lines in [
            &[("origin", "null")][..],
            &[("origin", "")],
            &[("origin", "https://evil.example")],
            &[("origin", "https://localhost:7103")],
            &[("origin", "http://localhost:7102")],
            &[("origin", "http://127.0.0.1:7103")],
            &[("origin", "http://localhost:7103.evil.example")],
            &[own, ("origin", "http://evil.example")],
            &[own, ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "")],
        ] {
            assert!(foreign(lines), "{lines:?}");
        }
    }
}
