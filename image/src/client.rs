//! Requests to the registry of a reference: endpoint, authorization, statuses, retries.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rbox_types::{Digest, Reference};
use serde::Deserialize;
use ureq::{
    Body,
    http::{HeaderMap, Method, Response, StatusCode, header},
};

use crate::{
    Error,
    auth::Tokens,
    endpoint::{self, Endpoint},
    proxy::Proxies,
    retry::{Attempts, Retry, parse_retry_after},
    transport::{Call, Transport, discard, is_success, read_bounded},
};

/// How a [`Client`] behaves; `ClientOptions::default()` is what a pull without flags wants.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `--tls-verify`: `Some(false)` takes any certificate and plain HTTP from every host, `Some(true)` neither from
    /// any; `None` both from loopback alone.
    pub tls_verify: Option<bool>,
    /// How often and how patiently failed requests are tried again.
    pub retry: Retry,
    /// How long a host may send nothing before its connection is given up.
    pub idle_timeout: Duration,
    /// The proxies in use; by default the environment's.
    pub proxies: Proxies,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            tls_verify: None,
            retry: Retry::default(),
            idle_timeout: Duration::from_secs(30),
            proxies: Proxies::from_env(),
        }
    }
}

/// A client of any number of registries. It keeps connections and tokens, and may be shared by threads; each call
/// blocks the thread that makes it.
pub struct Client {
    transport: Transport,
    tokens: Tokens,
    endpoints: Mutex<HashMap<String, Endpoint>>,
    tls_verify: Option<bool>,
    retry: Retry,
}

/// What is asked of a repository.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// A manifest or index: by digest, or by the reference's tag.
    Manifest(Option<Digest>),
    Blob(Digest),
}

/// A response that carries what was asked for.
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    /// The registry's host, for messages.
    pub(crate) host: String,
}

impl Client {
    /// A client that has not connected anywhere yet.
    pub fn new(options: ClientOptions) -> Self {
        Self {
            transport: Transport::new(options.proxies, options.idle_timeout),
            tokens: Tokens::default(),
            endpoints: Mutex::default(),
            tls_verify: options.tls_verify,
            retry: options.retry,
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        self.retry
    }

    /// Runs `attempt` until it succeeds, fails for good, or has failed too often.
    pub(crate) fn retried<T>(&self, mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut attempts = Attempts::new(self.retry);
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => attempts.wait(error)?,
            }
        }
    }

    /// One request to the reference's repository, authorized as far as that needs no login. Any status but 200 and
    /// 206 is an error.
    pub(crate) fn request(
        &self,
        method: Method,
        reference: &Reference,
        wanted: Wanted,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Answer, Error> {
        let endpoint = self.endpoint(reference.registry())?;
        let repository = reference.repository();
        let url = match wanted {
            Wanted::Blob(digest) => format!("{}/v2/{repository}/blobs/{digest}", endpoint.base),
            Wanted::Manifest(Some(digest)) => format!("{}/v2/{repository}/manifests/{digest}", endpoint.base),
            Wanted::Manifest(None) => {
                format!("{}/v2/{repository}/manifests/{}", endpoint.base, reference.tag().unwrap_or("latest"))
            }
        };
        let mut authorization = self.tokens.get(&endpoint, repository);
        let mut answered = false;
        loop {
            let response = self.transport.send(&Call {
                method: method.clone(),
                url: &url,
                headers,
                authorization: authorization.as_deref(),
                verify_tls: endpoint.verify_tls,
                verify_tls_elsewhere: self.tls_verify != Some(false),
            })?;
            if response.status() == StatusCode::UNAUTHORIZED && !answered {
                answered = true;
                let headers = response.headers().clone();
                discard(response);
                let name = reference.to_string();
                let answer = self.tokens.answer(&self.transport, &endpoint, repository, &name, &headers)?;
                authorization = Some(answer);
                continue;
            }
            if !is_success(response.status()) {
                return Err(refusal(reference, wanted, &endpoint.host, response));
            }
            return Ok(Answer { response, host: endpoint.host });
        }
    }

    fn endpoint(&self, registry: &str) -> Result<Endpoint, Error> {
        if let Some(endpoint) = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).get(registry) {
            return Ok(endpoint.clone());
        }
        // Not under the lock: another registry must not wait for this one.
        let endpoint = endpoint::find(&self.transport, registry, self.tls_verify)?;
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.insert(registry.to_owned(), endpoint.clone());
        Ok(endpoint)
    }
}

/// Retry-After, where it is a number of seconds.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    parse_retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?)
}

/// What a status other than success means.
fn refusal(reference: &Reference, wanted: Wanted, host: &str, response: Response<Body>) -> Error {
    let (name, host) = (reference.to_string(), host.to_owned());
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let message = registry_message(response, &host);
    match (status, wanted) {
        (StatusCode::UNAUTHORIZED, _) => Error::NeedsLogin { name, host },
        (StatusCode::FORBIDDEN, _) => Error::Forbidden { name, host, message },
        (StatusCode::NOT_FOUND, Wanted::Blob(digest)) => Error::BlobNotFound { name, digest, host },
        (StatusCode::NOT_FOUND, Wanted::Manifest(_)) => Error::NotFound { name, host, message },
        (StatusCode::TOO_MANY_REQUESTS, _) => Error::RateLimited { host, retry_after },
        _ => {
            let what = match wanted {
                Wanted::Manifest(_) => format!("the manifest of {name}"),
                Wanted::Blob(digest) => format!("blob {digest} of {name}"),
            };
            Error::Status { host, what, status: status.as_u16(), message, retry_after }
        }
    }
}

/// The registry's own words: `{"errors": [{"code": …, "message": …}]}` (distribution specification, "Error Codes").
fn registry_message(response: Response<Body>, host: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        code: Option<String>,
        message: Option<String>,
    }
    let bytes = read_bounded(response, host, 64 << 10, "an error").ok()?;
    let errors: Errors = serde_json::from_slice(&bytes).ok()?;
    let first = errors.errors.into_iter().next()?;
    let message = first.message.filter(|message| !message.is_empty()).or(first.code)?;
    Some(message.chars().take(200).collect())
}
