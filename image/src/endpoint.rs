//! Where a registry is, and how it is spoken to.
//!
//! Registries speak HTTPS, verified. Two cases may be plain HTTP, or HTTPS with any certificate: a loopback address
//! (Docker's rule too: whoever could sit between is on this machine already), and `--tls-verify=false`.
//! `--tls-verify=true` takes the exception from loopback.
//!
//! Which of the two it is, is asked by one request for `/v2/` that carries no secret:
//!
//! - with a port in the name, in plain HTTP first. Docker tries HTTPS first; but a plain HTTP server may wait for
//!   ever for the end of what it takes for a request line, while a TLS server sees at the first byte that no record
//!   begins with `G`, and either closes, sends an alert, or (Go, nginx) answers 400 in plain words. So this order
//!   costs no time in either case;
//! - without a port, HTTPS on 443 first, then HTTP on 80.

use std::net::IpAddr;

use ureq::http::{Method, StatusCode};

use crate::{
    Error,
    resolver::is_localhost,
    transport::{Call, Transport, discard},
};

/// A registry that has been found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `https://registry-1.docker.io`, no slash at the end.
    pub(crate) base: String,
    /// Host and port, for messages.
    pub(crate) host: String,
    /// Whether its certificate is verified.
    pub(crate) verify_tls: bool,
}

impl Endpoint {
    fn new(scheme: &str, host: &str, verify_tls: bool) -> Self {
        Self { base: format!("{scheme}://{host}"), host: host.to_owned(), verify_tls }
    }
}

/// Finds the registry of an image's name, as `docker.io` or `127.0.0.1:5000`.
pub(crate) fn find(transport: &Transport, registry: &str, tls_verify: Option<bool>) -> Result<Endpoint, Error> {
    let host = api_host(registry);
    let strict = match tls_verify {
        Some(strict) => strict,
        None => !is_loopback(without_port(host)),
    };
    if strict {
        return Ok(Endpoint::new("https", host, true));
    }
    let http = Endpoint::new("http", host, false);
    let https = Endpoint::new("https", host, false);
    let has_port = without_port(host).len() != host.len();
    if has_port {
        // What a TLS server makes of plain HTTP, and also what a broken plain server does.
        let doubtful = match probe(transport, &http) {
            Ok(StatusCode::BAD_REQUEST) => None,
            Ok(_) => return Ok(http),
            Err(error @ (Error::Protocol { .. } | Error::Broken { .. })) => Some(error),
            Err(error) => return Err(error),
        };
        return match (probe(transport, &https), doubtful) {
            (Ok(_), _) => Ok(https),
            (Err(_), None) => Ok(http),
            (Err(_), Some(error)) => Err(error),
        };
    }
    match probe(transport, &https) {
        Ok(_) => Ok(https),
        Err(error @ Error::UnknownHost { .. }) => Err(error),
        Err(error) => match probe(transport, &http) {
            Ok(_) => Ok(http),
            Err(_) => Err(error),
        },
    }
}

/// Docker Hub's API is not at the name it goes by.
fn api_host(registry: &str) -> &str {
    if registry == "docker.io" { "registry-1.docker.io" } else { registry }
}

fn probe(transport: &Transport, endpoint: &Endpoint) -> Result<StatusCode, Error> {
    let call = Call {
        method: Method::GET,
        url: &format!("{}/v2/", endpoint.base),
        headers: &[],
        authorization: None,
        verify_tls: false,
        verify_tls_elsewhere: true,
    };
    let response = transport.send(&call)?;
    let status = response.status();
    discard(response);
    Ok(status)
}

/// `localhost`, 127.0.0.0/8, `::1`; IPv6 with or without brackets.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => is_localhost(host),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proxy::Proxies;

    #[test]
    fn only_loopback_and_the_insecure_are_asked() {
        // No server is there: whoever would be asked fails.
        let transport = Transport::new(Proxies::default(), Duration::from_secs(1));
        let found = |registry, tls_verify| find(&transport, registry, tls_verify);
        assert_eq!(
            found("docker.io", None).expect("not asked"),
            Endpoint {
                base: "https://registry-1.docker.io".into(),
                host: "registry-1.docker.io".into(),
                verify_tls: true
            }
        );
        assert!(found("10.0.0.1:5000", None).expect("not asked").verify_tls);
        assert!(found("127.0.0.1:1", Some(true)).expect("not asked").verify_tls);
        assert!(matches!(found("127.0.0.1:1", None), Err(Error::Connect { .. })));
    }

    #[test]
    fn loopback() {
        for host in ["localhost", "127.0.0.1", "127.8.0.9", "::1", "[::1]", "[::ffff:127.0.0.1]", "a.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["128.0.0.1", "localhost.io", "127.0.0.1.nip.io", "[::2]", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn ports() {
        for (host, bare) in [("a:1", "a"), ("a", "a"), ("[::1]", "[::1]"), ("[::1]:5", "[::1]")] {
            assert_eq!(without_port(host), bare);
        }
    }
}
