//! `--device HOST[:CONTAINER][:rwm]`.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A device node of the host, or a directory of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// Some of r, w and m.
    pub permissions: String,
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, permissions) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, permissions] if are_permissions(permissions) => (source, source, permissions),
            [source, destination] => (source, destination, "rwm"),
            [source, destination, permissions] if are_permissions(permissions) => (source, destination, permissions),
            [_, _, permissions] => return Err(format!("{permissions:?} is not made of r, w and m")),
            _ => return Err("expected HOST[:CONTAINER][:rwm]".into()),
        };
        if !source.starts_with('/') {
            let cdi = if source.contains('=') { "; devices of CDI are not there yet" } else { "" };
            return Err(format!("{source:?} is not an absolute path{cdi}"));
        }
        if !destination.starts_with('/') || destination.trim_end_matches('/').is_empty() {
            return Err(format!("{destination:?} is not an absolute path below the container's root"));
        }
        Ok(Self { source: source.into(), destination: destination.into(), permissions: permissions.into() })
    }
}

/// Docker's rule: each letter at most once.
fn are_permissions(text: &str) -> bool {
    let known = |c| matches!(c, 'r' | 'w' | 'm');
    !text.is_empty() && text.chars().all(|c| known(c) && text.matches(c).count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let of = |text: &str| {
            let device: DeviceRequest = text.parse().expect(text);
            (device.source.display().to_string(), device.destination.display().to_string(), device.permissions)
        };
        let all = |source: &str, destination: &str, permissions: &str| {
            (source.to_owned(), destination.to_owned(), permissions.to_owned())
        };
        assert_eq!(of("/dev/a"), all("/dev/a", "/dev/a", "rwm"));
        assert_eq!(of("/dev/a:/dev/b"), all("/dev/a", "/dev/b", "rwm"));
        assert_eq!(of("/dev/a:rw"), all("/dev/a", "/dev/a", "rw"));
        assert_eq!(of("/dev/a:/dev/b:r"), all("/dev/a", "/dev/b", "r"));
        for wrong in
            ["", "dev/a", "/dev/a:", "/dev/a:b", "/dev/a:/b:x", "/dev/a:/b:rr", "/a:/b:r:w", "/a:/", "v.io/x=a"]
        {
            wrong.parse::<DeviceRequest>().expect_err(wrong);
        }
    }
}
