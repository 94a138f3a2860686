//! `--volume`, `--tmpfs` and `--mount`: what is mounted in a container besides its own.

mod mount_flag;
mod of_image;
pub(crate) mod placed;
mod words;

use std::path::PathBuf;
use std::str::FromStr;

use rbox_types::VolumeName;

pub use mount_flag::MountFlag;
use words::Words;

/// A file or directory of the host, or a volume: `--volume [source:]destination[:options]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// What is mounted.
    pub source: VolumeSource,
    /// In the container; absolute.
    pub destination: PathBuf,
    /// Nothing can be written through it.
    pub read_only: bool,
    /// How it is mounted.
    pub options: BindOptions,
}

/// What is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum VolumeSource {
    /// A file or directory of the host; absolute, or relative to the current directory when it begins with a dot.
    Host(PathBuf),
    /// The volume of this name, which is made where it is not there.
    Named(VolumeName),
    /// A new volume, which goes with the container.
    #[default]
    Anonymous,
}

/// How a bind mount is, besides read-only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// What is mounted below the source is not seen.
    pub alone: bool,
    /// What is mounted below the source can be written though the rest is read-only.
    pub writable_below: bool,
    /// `rshared`, `slave`, …; `rprivate` otherwise.
    pub propagation: Option<&'static str>,
    /// Of `noexec`, `nosuid`, `nodev`.
    pub forbids: Vec<&'static str>,
    /// `z` or `Z`: its files are to get the container's SELinux label.
    pub relabel: bool,
    /// `nocopy`: a new volume takes over nothing of what the image has there.
    pub empty: bool,
    /// `U`: all of its files are to belong to the workload's user.
    pub owned_by_user: bool,
}

impl Volume {
    /// As the spec has it; `foreign_root`: the container's root is not the caller, whose files are to be shown as its own.
    pub(crate) fn spec_options(&self, foreign_root: bool) -> Vec<String> {
        let BindOptions { alone, writable_below, propagation, forbids, .. } = &self.options;
        // What is in a volume has been written with the container's ids.
        let foreign_root = foreign_root && matches!(self.source, VolumeSource::Host(_));
        // What lies below an id-mapped mount would keep its own ids, so there it is left out.
        let mut words = vec![if foreign_root || *alone { "bind" } else { "rbind" }.to_owned()];
        words.extend(self.read_only.then(|| if *writable_below { "ro" } else { "rro" }.into()));
        words.extend(foreign_root.then(|| "idmap".into()));
        words.extend(forbids.iter().map(|word| format!("r{word}")));
        words.extend(propagation.map(Into::into));
        words
    }

    /// Where it is mounted: not over the whole of the container.
    fn checked(self) -> Result<Self, String> {
        check_destination(&self.destination.to_string_lossy())?;
        Ok(self)
    }
}

fn check_destination(destination: &str) -> Result<(), String> {
    if !destination.starts_with('/') {
        return Err(format!("the destination {destination:?} is not an absolute path"));
    }
    if destination.trim_end_matches('/').is_empty() {
        return Err("the destination cannot be the container's root".into());
    }
    Ok(())
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            [destination] => (VolumeSource::Anonymous, destination, ""),
            [source, destination] => (source.parse()?, destination, ""),
            [source, destination, options] => (source.parse()?, destination, options),
            _ => return Err("expected [source:]destination[:options]".into()),
        };
        let mut words = Words::default();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                // What they tell apart is so on Docker Desktop alone.
                "consistent" | "cached" | "delegated" => {}
                "O" | "idmap" => {
                    return Err(format!("option {option:?} is not supported in this version"));
                }
                _ if words.take(option)? => {}
                other => return Err(format!("option {other:?} is none of a bind mount's")),
            }
        }
        words.volume(source, destination.into())?.checked()
    }
}

impl FromStr for VolumeSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(['/', '.']) {
            return Ok(Self::Host(text.into()));
        }
        text.parse().map(Self::Named).map_err(|error| match text {
            "" => "the source is empty: without one, leave out the colon".into(),
            _ => format!("{error}; write ./{text} for a directory"),
        })
    }
}

/// `--tmpfs destination[:options]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// In the container; absolute.
    pub destination: PathBuf,
    /// Mount options, over Docker's rw,noexec,nosuid,nodev.
    pub options: Vec<String>,
}

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        check_destination(destination)?;
        let options: Vec<String> = options.split(',').filter(|option| !option.is_empty()).map(Into::into).collect();
        for option in &options {
            let key = option.split('=').next().unwrap_or_default();
            let known = [
                "rw",
                "ro",
                "exec",
                "noexec",
                "suid",
                "nosuid",
                "dev",
                "nodev",
                "atime",
                "noatime",
                "diratime",
                "nodiratime",
                "relatime",
                "strictatime",
                "size",
                "mode",
                "uid",
                "gid",
                "nr_inodes",
                "nr_blocks",
            ];
            if !known.contains(&key) {
                return Err(format!("option {option:?} is not one of tmpfs"));
            }
        }
        Ok(Self { destination: destination.into(), options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str, foreign_root: bool) -> Vec<String> {
        let volume: Volume = format!("/src:/dst:{text}").parse().expect(text);
        volume.spec_options(foreign_root)
    }

    #[test]
    fn volumes() {
        let volume: Volume = "/src:/dst:ro".parse().expect("valid");
        let expected = Volume {
            source: VolumeSource::Host("/src".into()),
            destination: "/dst".into(),
            read_only: true,
            ..Volume::default()
        };
        assert_eq!(volume, expected);
        for bad in [
            "",
            "/",
            "name",
            ":/dst",
            "na/me:/dst",
            "/a:b",
            "/a:/",
            "/a:/b:O",
            "/a:/b:ro:rw",
            "/a:/b:ro,rw",
            "/a:/b:slave,rprivate",
            "/a:/b:nocopy",
            "a:/b:copy,nocopy",
        ] {
            assert!(bad.parse::<Volume>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn what_is_no_path_is_a_name() {
        let volume: Volume = "data:/dst:nocopy,U".parse().expect("valid");
        assert_eq!(volume.source, VolumeSource::Named("data".parse().expect("a name")));
        assert!(volume.options.empty && volume.options.owned_by_user);
        assert_eq!(volume.spec_options(true), ["rbind"]);
        let volume: Volume = "/dst".parse().expect("valid");
        assert_eq!((volume.source, volume.destination), (VolumeSource::Anonymous, "/dst".into()));
        let error = "a b:/dst".parse::<Volume>().expect_err("no name");
        assert!(error.contains("\"a b\" is not a volume name") && error.contains("./a b"), "{error}");
    }

    #[test]
    fn options_of_volumes() {
        assert_eq!(options("", false), ["rbind"]);
        assert_eq!(options("ro,noexec,nodev,nosuid", false), ["rbind", "rro", "rnoexec", "rnodev", "rnosuid"]);
        assert_eq!(options("rslave,exec,bind,z", false), ["bind", "rslave"]);
        assert_eq!(options("ro", true), ["bind", "rro", "idmap"]);
    }

    #[test]
    fn tmpfs() {
        let tmpfs: Tmpfs = "/run:size=64m,exec".parse().expect("valid");
        assert_eq!(tmpfs.options, ["size=64m", "exec"]);
        for bad in ["run", "/", "/run:bogus", "/run:lowerdir=/"] {
            assert!(bad.parse::<Tmpfs>().is_err(), "{bad:?} was accepted");
        }
    }
}
