//! Names of images.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// A full image name: `registry/repository:tag` or `registry/repository@digest`, as Docker's grammar has it
/// (distribution/reference).
///
/// Short names are completed when parsed: `alpine` is `docker.io/library/alpine:latest`. Where both a tag and a
/// digest are given the digest decides, as Docker has it, and the tag is only remembered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image name {name:?}: {why}")]
pub struct InvalidReference {
    name: String,
    why: &'static str,
}

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

impl Reference {
    /// Host and optional port: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, unless only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |why| InvalidReference { name: text.to_owned(), why };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse::<Digest>().map_err(|_| invalid("what follows '@' is not a sha256 digest"))?))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(
                "a tag has letters, digits, '_', '.' and '-', does not begin with '.' or '-', and ends within 128 characters",
            ));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':', '[']) || has_upper(first) => {
                (first, rest.to_owned())
            }
            _ if name.contains('/') => (DEFAULT_REGISTRY, name.to_owned()),
            _ => (DEFAULT_REGISTRY, format!("library/{name}")),
        };
        // The names under which Docker Hub has also been known.
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
            other => other,
        };
        let repository = match path.split_once('/') {
            None if registry == DEFAULT_REGISTRY => format!("library/{path}"),
            _ => path,
        };
        if !is_registry(registry) {
            return Err(invalid("the registry is not host or host:port"));
        }
        if has_upper(&repository) {
            return Err(invalid("the repository must be lower case"));
        }
        if !repository.split('/').all(is_component) {
            return Err(invalid(
                "each part of the repository has lower-case letters and digits, with '.', '_', '__' or '-' between them",
            ));
        }
        if registry.len() + 1 + repository.len() > 255 {
            return Err(invalid("the name is longer than 255 characters"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

fn has_upper(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_uppercase())
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// A component: runs of `[a-z0-9]` with one separator (`.`, `_`, `__` or any number of `-`) between them.
fn is_component(component: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(is_alphanumeric)
        && component.ends_with(is_alphanumeric)
        && component
            .split(is_alphanumeric)
            .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, after)) => match after.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let host_is_valid = if registry.starts_with('[') {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !host.is_empty()
            && host.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            })
    };
    host_is_valid && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// The full name; it parses back to the same value.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_are_completed() {
        for (typed, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.23", "docker.io/library/alpine:3.23"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/library/alpine", "docker.io/library/alpine:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("127.0.0.1:5000/library/alpine:3.23", "127.0.0.1:5000/library/alpine:3.23"),
            ("[::1]:5000/a/b/c__d", "[::1]:5000/a/b/c__d:latest"),
            ("quay.io/a/b---c.d", "quay.io/a/b---c.d:latest"),
        ] {
            let reference: Reference = typed.parse().expect(typed);
            assert_eq!(reference.to_string(), full);
            assert_eq!(full.parse(), Ok(reference));
        }
    }

    #[test]
    fn digests() {
        let pinned: Reference = format!("alpine@{DIGEST}").parse().expect("valid");
        assert_eq!(pinned.tag(), None);
        assert_eq!(pinned.digest().map(|d| d.to_string()).as_deref(), Some(DIGEST));
        let both: Reference = format!("alpine:3@{DIGEST}").parse().expect("valid");
        assert_eq!((both.tag(), both.digest().is_some()), (Some("3"), true));
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            ":",
            "@",
            "/",
            "a//b",
            "Alpine",
            "alpine:",
            "alpine:-x",
            "alpine:a/b",
            "a/../b",
            "..",
            ".a",
            "a_-b",
            "a.io:0/b",
            "a.io:99999/b",
            "a.io:/b",
            "-a.io/b",
            "[::1/b",
            "[zz]/b",
            "a b",
            "alpine@sha256:12",
            "https://a.io/b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was accepted");
        }
    }
}
