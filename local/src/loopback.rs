//! Loopback addresses: whether a URL names this machine.

use std::net::IpAddr;

use axum::http::Uri;

/// Whether the host of an `http` or `https` URL is this machine: `localhost`, an address in 127.0.0.0/8,
/// or `[::1]`. Other names are not resolved, so a name in `/etc/hosts` counts as another machine.
pub(crate) fn is_loopback_url(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else {
        return false;
    };
    matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(is_loopback_host)
}

/// As [`is_loopback_url`], for a host as URLs contain it: an IPv6 address is in brackets.
fn is_loopback_host(host: &str) -> bool {
    let ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address: Result<IpAddr, _> = ipv6.unwrap_or(host).parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_with_a_loopback_host_are_on_this_machine() {
        for url in [
            "http://localhost",
            "https://localhost:8000/",
            "http://LOCALHOST:5173",
            "http://127.0.0.1:8000",
            "http://127.8.7.6",
            "http://[::1]:8000",
        ] {
            assert!(is_loopback_url(url), "{url}");
        }
        for url in [
            "https://dynamodb.eu-central-1.amazonaws.com",
            "http://172.17.0.1:8000",
            "http://0.0.0.0:8000",
            "http://[::]:8000",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
            "http://127.0.0.1.evil.example",
            "http://127.1",
            "ftp://localhost",
            "localhost:8000",
            "null",
            "",
        ] {
            assert!(!is_loopback_url(url), "{url}");
        }
    }
}
