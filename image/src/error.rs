//! What can go wrong between a reference and its verified blobs.

use std::{io, time::Duration};

use rbox_types::{Digest, Platform};

/// Why an image could not be had.
///
/// Texts that a registry chose (media types, messages) are shown escaped, so that they cannot drive a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No name server knows the host.
    #[error("unknown host {host}")]
    UnknownHost {
        /// The registry's name, or that of a host it sent us to.
        host: String,
    },
    /// The host's name could not be looked up at all.
    #[error("cannot look up {host}: {why}")]
    Lookup {
        /// The name asked for.
        host: String,
        /// The resolver's reason.
        why: String,
    },
    /// No connection to the host.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Host and port, as in the image's name.
        host: String,
        /// The reason of the last address tried.
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("no secure connection to {host}: {why}")]
    Tls {
        /// Host and port.
        host: String,
        /// rustls's reason.
        why: String,
    },
    /// The host went silent.
    #[error("{host} stopped answering")]
    TimedOut {
        /// Host and port.
        host: String,
    },
    /// The connection broke.
    #[error("the connection to {host} broke: {why}")]
    Broken {
        /// Host and port.
        host: String,
        /// What was seen.
        why: String,
    },
    /// What came back is not HTTP, or not as a registry has to speak it.
    #[error("{host} does not answer as a registry does: {why}")]
    Protocol {
        /// Host and port.
        host: String,
        /// What was wrong.
        why: String,
    },
    /// HTTP_PROXY or HTTPS_PROXY holds something that cannot be used.
    #[error("cannot use the proxy {proxy:?}: {why}")]
    Proxy {
        /// The variable's value, without user and password.
        proxy: String,
        /// What is wrong with it.
        why: String,
    },
    /// 401, or a token server that grants nothing to the anonymous.
    #[error("{name}: {host} denies access: the image does not exist, or it needs a login")]
    NeedsLogin {
        /// The image.
        name: String,
        /// Who denied it.
        host: String,
    },
    /// The registry wants a user and a password.
    #[error("{name}: {host} needs a login, which this version does not have yet")]
    LoginUnsupported {
        /// The image.
        name: String,
        /// Who wants it.
        host: String,
    },
    /// 403.
    #[error("{name}: {host} forbids access{}", said(.message))]
    Forbidden {
        /// The image.
        name: String,
        /// Who forbids it.
        host: String,
        /// The registry's own words, where it had any.
        message: Option<String>,
    },
    /// 404 for a manifest.
    #[error("{name}: not found at {host}{}", said(.message))]
    NotFound {
        /// The image.
        name: String,
        /// The registry.
        host: String,
        /// The registry's own words, such as "manifest unknown".
        message: Option<String>,
    },
    /// 404 for a blob that the manifest names.
    #[error("{name}: blob {digest} is missing at {host}")]
    BlobNotFound {
        /// The image.
        name: String,
        /// The missing blob.
        digest: Digest,
        /// The registry.
        host: String,
    },
    /// 429, more often than we were willing to wait.
    #[error("{host} limits how often it may be asked{}", match .retry_after {
        Some(wait) => format!(" (it says to come back in {} s)", wait.as_secs()),
        None => String::new(),
    })]
    RateLimited {
        /// The registry.
        host: String,
        /// What its Retry-After said.
        retry_after: Option<Duration>,
    },
    /// Any other HTTP status that is no success.
    #[error("{host} answered {status} to a request for {what}{}", said(.message))]
    Status {
        /// The host.
        host: String,
        /// The manifest or blob.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        message: Option<String>,
        /// What its Retry-After said.
        retry_after: Option<Duration>,
    },
    /// A manifest, config or token larger than any honest one.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What was being read.
        what: String,
        /// The most that is read, bytes.
        limit: u64,
    },
    /// The bytes are not those that the digest names.
    #[error("{what} has the digest {actual}, not {expected}: it was changed or damaged on the way")]
    DigestMismatch {
        /// The manifest or blob.
        what: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes than the manifest says.
    #[error("{what} has {actual} bytes, not {expected}: {}", if .actual < .expected { "it is truncated" } else { "it is too long" })]
    SizeMismatch {
        /// The manifest or blob.
        what: String,
        /// The size in the manifest, bytes.
        expected: u64,
        /// Bytes that came (or were announced) before we stopped.
        actual: u64,
    },
    /// Something that is not an image: a chart, a signature, an artifact, a manifest of schema 1.
    #[error("{what}: {why} (media type {found:?})")]
    MediaType {
        /// The image or layer.
        what: String,
        /// What it is instead, or why it cannot be used.
        why: &'static str,
        /// The media type found.
        found: String,
    },
    /// JSON that does not say what the specification asks for.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// The manifest, index or config.
        what: String,
        /// The first thing wrong.
        why: String,
    },
    /// The index has nothing for the platform.
    #[error("{name} has no image for {wanted}; it offers {}", listed(.offered))]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform asked for.
        wanted: Box<Platform>,
        /// The platforms in the index, attestations left out.
        offered: Vec<Platform>,
    },
    /// A single image, built for something else.
    #[error("{name} is an image for {found}, not {wanted}")]
    WrongPlatform {
        /// The image.
        name: String,
        /// The platform asked for.
        wanted: Box<Platform>,
        /// What its config says.
        found: Box<Platform>,
    },
    /// The blob's file could not be written.
    #[error("cannot write blob {digest}: {source}")]
    Write {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The blob's file could not be read back.
    #[error("cannot read blob {digest}: {source}")]
    Read {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The remedy, where there is one; the `hint:` line under the error.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownHost { host } if is_docker_hub(host) => {
                "Docker Hub's name is not known here: check the network; behind a proxy set HTTPS_PROXY".into()
            }
            Self::UnknownHost { host } => {
                format!(
                    "check the spelling of {host}; a name without a dot or a port before the first slash is looked up on docker.io"
                )
            }
            Self::Lookup { .. } => "check the name servers in /etc/resolv.conf; behind a proxy set HTTPS_PROXY".into(),
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                "nothing listens there: is the registry running, and is the port right?".into()
            }
            Self::Connect { .. } | Self::TimedOut { .. } => {
                "check the network; behind a proxy set HTTPS_PROXY (and NO_PROXY)".into()
            }
            Self::Tls { why, .. } if why.contains("CA:TRUE") => {
                "give the registry a certificate with CA:FALSE (openssl \
                req … -addext basicConstraints=CA:FALSE), signed by itself or by the authority in SSL_CERT_FILE; if \
                you trust the network, use --tls-verify=false"
                    .into()
            }
            Self::Tls { .. } => "if the registry's certificate comes from an authority of your own, name it with \
                SSL_CERT_FILE=ca.pem; if you trust the network, use --tls-verify=false"
                .into(),
            Self::NeedsLogin { .. } => {
                "check the image's name; private images need a login, which this version does not have yet".into()
            }
            Self::NotFound { .. } => "check the name and the tag".into(),
            Self::RateLimited { host, .. } if is_docker_hub(host) => {
                "Docker Hub limits how many images an address may pull without a login, within some hours; wait, or \
                 pull the image from another registry or mirror"
                    .into()
            }
            Self::RateLimited { .. } => "wait a while, then pull again".into(),
            Self::NoPlatform { offered, .. } if !offered.is_empty() => {
                format!("choose one of them with --platform {}", offered[0])
            }
            Self::WrongPlatform { found, .. } => format!("to use it all the same, give --platform {found}"),
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => {
                "pull again; if it happens again, the registry's copy (or a proxy's) is damaged".into()
            }
            Self::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "the disk is full: rbox gc and rbox rmi free space".into()
            }
            _ => return None,
        };
        Some(hint)
    }

    /// Whether the same request may well succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Broken { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502..=504),
            _ => false,
        }
    }

    /// What the server's Retry-After asked for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn is_docker_hub(host: &str) -> bool {
    host == "docker.io" || host.ends_with(".docker.io")
}

fn said(message: &Option<String>) -> String {
    match message {
        Some(message) => format!(": {}", message.escape_debug()),
        None => String::new(),
    }
}

fn listed(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "nothing that says its platform".into();
    }
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
