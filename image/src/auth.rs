//! Challenges, and the tokens that answer them.
//!
//! A registry answers 401 with a challenge (RFC 9110 §11.6.1). `Bearer` names a token server (distribution's token
//! specification): it is asked for a token with the scope to pull, here without a login, as Docker Hub, ghcr.io and
//! quay.io allow for public images. The token serves all requests for that repository until shortly before its time
//! is up, or until the registry refuses it. `Basic` needs a login.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;
use ureq::http::{HeaderMap, Method, StatusCode, header};

use crate::{
    Error,
    endpoint::Endpoint,
    transport::{Call, Transport, host_of, read_bounded},
};

/// Tokens are a few KiB; GitLab's with many groups somewhat more.
const LARGEST_TOKEN: u64 = 1 << 20;

/// What the specification has for answers without `expires_in`.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// Tokens by registry and repository.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<(String, String), Token>>);

#[derive(Clone)]
struct Token {
    authorization: String,
    expires: Instant,
}

impl Tokens {
    /// The Authorization header for a repository, where a token for it is still good.
    pub(crate) fn get(&self, endpoint: &Endpoint, repository: &str) -> Option<String> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&(endpoint.base.clone(), repository.to_owned()))?;
        (Instant::now() < token.expires).then(|| token.authorization.clone())
    }

    /// Answers the challenge in a 401 response: the Authorization header to try next.
    ///
    /// `name` is the image, for messages.
    pub(crate) fn answer(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        repository: &str,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<String, Error> {
        let challenges: Vec<Challenge> = headers
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse_challenges)
            .collect();
        let Some(bearer) = challenges.iter().find(|challenge| challenge.is("bearer")) else {
            let (name, host) = (name.to_owned(), endpoint.host.clone());
            return Err(match challenges.first() {
                Some(_) => Error::LoginUnsupported { name, host },
                None => Error::NeedsLogin { name, host },
            });
        };
        let token = fetch_token(transport, endpoint, repository, name, bearer)?;
        let authorization = token.authorization.clone();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert((endpoint.base.clone(), repository.to_owned()), token);
        Ok(authorization)
    }
}

#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn fetch_token(
    transport: &Transport,
    endpoint: &Endpoint,
    repository: &str,
    name: &str,
    bearer: &Challenge,
) -> Result<Token, Error> {
    let refuse = |why: String| Error::Protocol { host: endpoint.host.clone(), why };
    let realm = bearer.parameter("realm").ok_or_else(|| refuse("a Bearer challenge without a realm".into()))?;
    // A token is a secret, and so will be the login that buys one.
    let plain_is_fine = !endpoint.verify_tls && endpoint.base.starts_with("http:");
    if !(realm.starts_with("https://") || plain_is_fine && realm.starts_with("http://")) {
        return Err(refuse(format!("its token server {realm:?} is not https")));
    }
    let pull = format!("repository:{repository}:pull");
    let mut url = realm.to_owned();
    let mut separator = if realm.contains('?') { '&' } else { '?' };
    for (key, value) in
        [("service", bearer.parameter("service")), ("scope", Some(bearer.parameter("scope").unwrap_or(&pull)))]
    {
        if let Some(value) = value {
            url.push(separator);
            url.push_str(key);
            url.push('=');
            percent_encode(value, &mut url);
            separator = '&';
        }
    }
    let now = Instant::now();
    let call = Call {
        method: Method::GET,
        url: &url,
        headers: &[],
        authorization: None,
        verify_tls: endpoint.verify_tls,
        verify_tls_elsewhere: endpoint.verify_tls,
    };
    let response = transport.send(&call)?;
    let host = url.parse().map_or_else(|_| url.clone(), |uri| host_of(&uri));
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(Error::NeedsLogin { name: name.to_owned(), host });
        }
        StatusCode::TOO_MANY_REQUESTS => {
            return Err(Error::RateLimited { host, retry_after: crate::client::retry_after(response.headers()) });
        }
        status => {
            return Err(Error::Status {
                host,
                what: "a token".into(),
                status: status.as_u16(),
                message: None,
                retry_after: crate::client::retry_after(response.headers()),
            });
        }
    }
    let bytes = read_bounded(response, &host, LARGEST_TOKEN, "the token")?;
    let malformed = |why: String| Error::Malformed { what: format!("the token from {host}"), why };
    let granted: Granted = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let secret = [granted.token, granted.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())
        .ok_or_else(|| malformed("it holds neither token nor access_token".into()))?;
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed("it cannot be sent in a header".into()));
    }
    let life = granted.expires_in.map_or(DEFAULT_LIFE, |seconds| Duration::from_secs(seconds.min(24 * 3600)));
    // A tenth less, so that it does not run out on the way.
    Ok(Token { authorization: format!("Bearer {secret}"), expires: now + life.mul_f64(0.9) })
}

fn percent_encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b',' => {
                into.push(char::from(byte));
            }
            _ => {
                into.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    into.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
                }
            }
        }
    }
}

/// One challenge of a WWW-Authenticate header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The challenges in one WWW-Authenticate value (RFC 9110 §11.6.1): a comma separates parameters as well as
/// challenges, and what is a word alone, not followed by `=`, begins a challenge. Never fails: what cannot be read is
/// left out, and the caller finds no challenge it knows.
pub(crate) fn parse_challenges(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = take_token(rest);
        if word.is_empty() {
            // Nothing that a list may hold: skip one character, so as to come to an end.
            let mut characters = rest.chars();
            if characters.next().is_none() {
                return challenges;
            }
            rest = characters.as_str();
            continue;
        }
        let equals = after.trim_start_matches([' ', '\t']);
        match equals.strip_prefix('=') {
            // `abc=` alone after a scheme is a token68, which none of ours has; it parses as an empty parameter.
            Some(after) => {
                let (parameter, after) = take_value(after.trim_start_matches([' ', '\t']));
                if let Some(challenge) = challenges.last_mut() {
                    challenge.parameters.push((word.to_owned(), parameter));
                }
                rest = after;
            }
            None => {
                challenges.push(Challenge { scheme: word.to_owned(), parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

/// A token of RFC 9110 §5.6.2, and what follows it.
fn take_token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or a quoted string. Unquoted URLs, which are no tokens, are taken up to the next comma or space.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            '\\' => value.extend(characters.next()),
            c => value.push(c),
        }
    }
    (value, characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Vec<(String, Vec<(String, String)>)> {
        parse_challenges(value).into_iter().map(|c| (c.scheme, c.parameters)).collect()
    }

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> (String, Vec<(String, String)>) {
        (scheme.to_owned(), parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn challenges() {
        for (value, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![challenge(
                    "Bearer",
                    &[
                        ("realm", "https://auth.docker.io/token"),
                        ("service", "registry.docker.io"),
                        ("scope", "repository:a/b:pull,push"),
                    ],
                )],
            ),
            (r#"Basic realm="a \"quoted\" realm""#, vec![challenge("Basic", &[("realm", "a \"quoted\" realm")])]),
            (
                r#"Negotiate, Basic realm=x , bearer Realm = "y""#,
                vec![
                    challenge("Negotiate", &[]),
                    challenge("Basic", &[("realm", "x")]),
                    challenge("bearer", &[("Realm", "y")]),
                ],
            ),
            ("Bearer realm=https://a.io/token", vec![challenge("Bearer", &[("realm", "https://a.io/token")])]),
            (r#"Bearer realm="unclosed"#, vec![challenge("Bearer", &[("realm", "unclosed")])]),
            ("", vec![]),
            (",, ,", vec![]),
            ("=\"", vec![]),
        ] {
            assert_eq!(parsed(value), expected, "{value}");
        }
    }

    /// Every short text over the characters that mean something: no panic, no endless loop.
    #[test]
    fn whatever_comes_is_parsed() {
        let alphabet = ['a', '=', '"', ',', ' ', '\\', 'é', '\0'];
        for length in 0..=5u32 {
            for number in 0..alphabet.len().pow(length) {
                let text: String =
                    (0..length).map(|place| alphabet[number / alphabet.len().pow(place) % alphabet.len()]).collect();
                for challenge in parse_challenges(&text) {
                    assert!(!challenge.scheme.is_empty(), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn encoding() {
        let mut url = String::new();
        percent_encode("repository:a/b:pull&x=é ", &mut url);
        assert_eq!(url, "repository:a/b:pull%26x%3D%C3%A9%20");
    }
}
