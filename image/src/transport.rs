//! One HTTP request, its redirects, and what their failures mean.
//!
//! ureq does HTTP/1.1 and pools connections; rustls (with ring) does TLS. Redirects are followed here, not by ureq,
//! for the sake of two rules: an Authorization header goes to the origin it was made for and nowhere else, and
//! nothing goes from https to http.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ureq::{
    Agent, Body, Proxy, Timeout,
    config::Config,
    http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header, uri::Scheme},
    tls::{Certificate, RootCerts, TlsConfig},
    unversioned::transport::DefaultConnector,
};

use crate::{
    Error,
    proxy::Proxies,
    resolver::{HostResolver, LookupFailure},
    verify::BUFFER,
};

const MOST_REDIRECTS: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Connections to any number of hosts.
pub(crate) struct Transport {
    resolver: HostResolver,
    proxies: Proxies,
    idle_timeout: Duration,
    /// ureq takes proxy and trust per agent, so there is one for each pair in use: mostly one in all.
    agents: Mutex<HashMap<Route, Agent>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Route {
    verify_tls: bool,
    proxy: Option<String>,
}

/// A request without a body.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(header::HeaderName, &'a str)],
    /// Sent to the origin of `url` alone.
    pub(crate) authorization: Option<&'a str>,
    /// Whether the certificate of `url`'s host is checked.
    pub(crate) verify_tls: bool,
    /// Whether those of other hosts, which a redirect may lead to, are.
    pub(crate) verify_tls_elsewhere: bool,
}

impl Transport {
    /// A host that sends nothing for `idle_timeout` is given up.
    pub(crate) fn new(proxies: Proxies, idle_timeout: Duration) -> Self {
        Self { resolver: HostResolver::default(), proxies, idle_timeout, agents: Mutex::default() }
    }

    /// The response, of whatever status but a redirect that leads somewhere.
    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Response<Body>, Error> {
        let origin: Uri = parse(call.url)?;
        let mut uri = origin.clone();
        for _ in 0..=MOST_REDIRECTS {
            let at_origin = same_origin(&origin, &uri);
            let mut request = Request::builder().method(call.method.clone()).uri(uri.clone());
            for (name, value) in call.headers {
                request = request.header(name, *value);
            }
            if let Some(authorization) = call.authorization.filter(|_| at_origin) {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let request = request
                .body(())
                .map_err(|error| Error::Protocol { host: host_of(&uri), why: format!("unusable request: {error}") })?;
            let verify_tls = if at_origin { call.verify_tls } else { call.verify_tls_elsewhere };
            let response = self.agent(&uri, verify_tls)?.run(request).map_err(|error| classify(&uri, error))?;
            let Some(next) = redirect(&uri, &response)? else { return Ok(response) };
            discard(response);
            uri = next;
        }
        Err(Error::Protocol { host: host_of(&uri), why: format!("more than {MOST_REDIRECTS} redirects") })
    }

    fn agent(&self, uri: &Uri, verify_tls: bool) -> Result<Agent, Error> {
        let scheme = uri.scheme_str().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        // Without TLS there is nothing to verify, and no roots need be read.
        let verify_tls = verify_tls && scheme == "https";
        let route = Route { verify_tls, proxy: self.proxies.choose(scheme, host).map(str::to_owned) };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&route) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(uri, &route)?;
        agents.insert(route, agent.clone());
        Ok(agent)
    }

    fn new_agent(&self, uri: &Uri, route: &Route) -> Result<Agent, Error> {
        let proxy = match &route.proxy {
            Some(text) => Some(parse_proxy(text)?),
            None => None,
        };
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()));
        let tls = if route.verify_tls { tls.root_certs(roots(uri)?) } else { tls.disable_verification(true) };
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("rbox/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(self.idle_timeout))
            .timeout_per_write(Some(self.idle_timeout))
            .input_buffer_size(BUFFER)
            .max_idle_connections(32)
            .max_idle_connections_per_host(8)
            .proxy(proxy)
            .tls_config(tls.build())
            .build();
        Ok(Agent::with_parts(config, DefaultConnector::new(), self.resolver.clone()))
    }
}

/// The system's certificate authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR.
fn roots(uri: &Uri) -> Result<RootCerts, Error> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = match found.errors.first() {
            Some(error) => format!("no certificate authorities can be read: {error}"),
            None => "there are no certificate authorities (package ca-certificates)".to_owned(),
        };
        return Err(Error::Tls { host: host_of(uri), why });
    }
    let certs: Vec<_> = found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&certs))
}

fn parse_proxy(text: &str) -> Result<Proxy, Error> {
    let refuse = |why: String| {
        let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
        Error::Proxy { proxy: shown.to_owned(), why }
    };
    if text.starts_with("socks") {
        return Err(refuse("SOCKS is not supported; use an HTTP proxy".into()));
    }
    Proxy::new(text).map_err(|error| refuse(error.to_string()))
}

fn parse(url: &str) -> Result<Uri, Error> {
    url.parse().map_err(|error| Error::Protocol { host: url.to_owned(), why: format!("not a URL: {error}") })
}

/// Host and port as people know them, for messages.
pub(crate) fn host_of(uri: &Uri) -> String {
    uri.authority().map_or_else(
        || uri.to_string(),
        |authority| {
            // User and password of a URL are nobody's business.
            authority.as_str().rsplit('@').next().unwrap_or_default().to_owned()
        },
    )
}

/// Scheme, host and port are the same.
fn same_origin(a: &Uri, b: &Uri) -> bool {
    fn port(uri: &Uri) -> Option<u16> {
        uri.port_u16().or(if uri.scheme() == Some(&Scheme::HTTPS) { Some(443) } else { Some(80) })
    }
    let same_host = match (a.host(), b.host()) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    };
    same_host && a.scheme() == b.scheme() && port(a) == port(b)
}

/// Where a response sends us, unless it is an answer.
fn redirect(from: &Uri, response: &Response<Body>) -> Result<Option<Uri>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let refuse = |why: String| Error::Protocol { host: host_of(from), why };
    let location = response
        .headers()
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| refuse("a redirect without a destination".into()))?;
    let to = join(from, location).ok_or_else(|| refuse(format!("a redirect to {location:?}")))?;
    if from.scheme() == Some(&Scheme::HTTPS) && to.scheme() != Some(&Scheme::HTTPS) {
        return Err(refuse(format!("a redirect from https to plain http at {:?}", host_of(&to))));
    }
    Ok(Some(to))
}

/// Location is a URI reference (RFC 9110 §10.2.2): whole, without scheme, or a path.
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let directory = &base.path()[..=base.path().rfind('/')?];
        format!("{scheme}://{authority}{directory}{location}")
    };
    let uri: Uri = absolute.parse().ok()?;
    let is_http = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    (is_http && uri.host().is_some()).then_some(uri)
}

/// ureq's error in our words.
fn classify(uri: &Uri, error: ureq::Error) -> Error {
    let host = host_of(uri);
    match error {
        ureq::Error::HostNotFound => Error::UnknownHost { host: uri.host().unwrap_or_default().to_owned() },
        ureq::Error::Other(error) => match error.downcast::<LookupFailure>() {
            Ok(failure) => Error::Lookup { host: failure.host, why: failure.why },
            Err(error) => Error::Broken { host, why: error.to_string() },
        },
        ureq::Error::Rustls(error) => Error::Tls { host, why: tls_reason(&error) },
        ureq::Error::Tls(why) => Error::Tls { host, why: why.to_owned() },
        ureq::Error::Timeout(Timeout::Resolve) => {
            Error::Lookup { host: uri.host().unwrap_or_default().to_owned(), why: "it takes too long".to_owned() }
        }
        ureq::Error::Timeout(Timeout::Connect) => Error::Connect { host, source: io::ErrorKind::TimedOut.into() },
        ureq::Error::Timeout(_) => Error::TimedOut { host },
        ureq::Error::ConnectProxyFailed(why) => Error::Broken { host, why: format!("the proxy refused: {why}") },
        ureq::Error::Io(error) => classify_io(host, error),
        error => Error::Protocol { host, why: error.to_string() },
    }
}

/// rustls's words, but for the one case that many private registries run into.
fn tls_reason(error: &rustls::Error) -> String {
    let text = error.to_string();
    if text.contains("CaUsedAsEndEntity") {
        "its certificate is that of an authority (basicConstraints CA:TRUE), which rustls does not take for a server's"
            .to_owned()
    } else {
        text
    }
}

fn classify_io(host: String, error: io::Error) -> Error {
    use io::ErrorKind as Kind;
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Error::Tls { host, why: tls_reason(tls) };
    }
    match error.kind() {
        Kind::ConnectionRefused
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::AddrNotAvailable
        | Kind::PermissionDenied => Error::Connect { host, source: error },
        Kind::TimedOut | Kind::WouldBlock => Error::TimedOut { host },
        _ => Error::Broken { host, why: error.to_string() },
    }
}

/// The failure of a read from a response's body.
pub(crate) fn classify_read(host: &str, error: io::Error) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<ureq::Error>()) {
        let uri = Uri::from_static("http://host/");
        let renamed = classify(&uri, ureq::Error::from(error));
        return match renamed {
            Error::TimedOut { .. } => Error::TimedOut { host: host.to_owned() },
            Error::Protocol { why, .. } | Error::Broken { why, .. } => Error::Broken { host: host.to_owned(), why },
            other => Error::Broken { host: host.to_owned(), why: other.to_string() },
        };
    }
    match classify_io(host.to_owned(), error) {
        Error::Connect { host, source } => Error::Broken { host, why: source.to_string() },
        other => other,
    }
}

/// Reads a body of at most `limit` bytes; a longer one is an error, found without reading on.
pub(crate) fn read_bounded(response: Response<Body>, host: &str, limit: u64, what: &str) -> Result<Vec<u8>, Error> {
    use io::Read;
    let too_large = || Error::TooLarge { what: what.to_owned(), limit };
    let announced = content_length(response.headers());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or(16 << 10) as usize);
    let mut reader = response.into_body().into_reader().take(limit + 1);
    reader.read_to_end(&mut bytes).map_err(|error| classify_read(host, error))?;
    if bytes.len() as u64 > limit { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a body nobody wants, if it is short: only then does its connection serve the next request, which saves a
/// TLS handshake.
pub(crate) fn discard(response: Response<Body>) {
    use io::Read;
    let mut body = response.into_body().into_reader().take(16 << 10);
    // An error only means that the connection is not used again.
    let _read = io::copy(&mut body, &mut io::sink());
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the status is one that carries what was asked for.
pub(crate) fn is_success(status: StatusCode) -> bool {
    status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let base: Uri = "https://a.io:5000/v2/x/blobs/1".parse().expect("valid");
        for (location, joined) in [
            ("https://cdn.io/y?z=1", Some("https://cdn.io/y?z=1")),
            ("//cdn.io/y", Some("https://cdn.io/y")),
            ("/y", Some("https://a.io:5000/y")),
            ("2", Some("https://a.io:5000/v2/x/blobs/2")),
            ("/y#fragment", Some("https://a.io:5000/y")),
            ("ftp://cdn.io/y", None),
            ("file:///etc/passwd", None),
            ("https:///y", None),
        ] {
            assert_eq!(join(&base, location).map(|uri| uri.to_string()).as_deref(), joined, "{location}");
        }
    }

    #[test]
    fn origins() {
        for (a, b, same) in [
            ("https://a.io/x", "https://A.io:443/y", true),
            ("http://a.io/x", "http://a.io:80/y", true),
            ("http://a.io/x", "https://a.io/x", false),
            ("https://a.io/x", "https://a.io:5000/x", false),
            ("https://a.io/x", "https://b.a.io/x", false),
        ] {
            let parse = |text: &str| text.parse::<Uri>().expect("valid");
            assert_eq!(same_origin(&parse(a), &parse(b)), same, "{a} {b}");
        }
    }

    #[test]
    fn a_proxy_password_is_not_shown() {
        let error = parse_proxy("socks5://user:secret@p:1").expect_err("unsupported");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
