//! Mount options of a spec: what is an attribute of the mount, what is data for the filesystem.

use rbox_sys::mount::Attributes;
use serde::{Deserialize, Serialize};

use crate::propagation::Propagation;

/// The options of one mount, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountOptions {
    /// `MOUNT_ATTR_*` to set and to clear (mount_setattr(2)).
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// The attributes reach the mounts below (`rro`, `rnosuid`, …).
    pub(crate) attributes_recursive: bool,
    /// `bind` or `rbind`.
    pub(crate) bind: bool,
    /// `rbind`.
    pub(crate) bind_recursive: bool,
    /// `shared`, `rslave`, …, in their order.
    pub(crate) propagation: Vec<Propagation>,
    /// `remount`: only the attributes of what is mounted there change.
    pub(crate) remount: bool,
    /// `tmpcopyup`: it begins with what the image has there.
    pub(crate) copy_up: bool,
    /// `idmap`: the source's files are shown with the container's ids.
    pub(crate) idmap: bool,
    /// `ridmap`: those of the mounts below it too.
    pub(crate) idmap_recursive: bool,
    /// What the filesystem itself understands: `size=64m`.
    pub(crate) data: Vec<(String, Option<String>)>,
}

/// The words that are not for one filesystem alone (runtime spec, "Linux mount options"); other words are the filesystem's
/// own.
pub(crate) const RECOGNIZED: [&str; 61] = [
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
/// The three ways of access times are one field, not bits.
const ATIME_FIELD: u64 = 0x70;
const NODIRATIME: u64 = 0x80;

impl MountOptions {
    /// Takes the options of a spec apart; an option that cannot be honoured is returned by name.
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        let mut parsed = Self::default();
        for option in options {
            let recursive = option.strip_prefix('r').and_then(attribute);
            match (option.as_str(), attribute(option), recursive) {
                ("defaults" | "", ..) => {}
                (_, Some((set, clear)), _) => parsed.apply(set, clear),
                (_, None, Some((set, clear))) => {
                    parsed.apply(set, clear);
                    parsed.attributes_recursive = true;
                }
                ("bind", ..) => parsed.bind = true,
                ("rbind", ..) => (parsed.bind, parsed.bind_recursive) = (true, true),
                ("idmap", ..) => parsed.idmap = true,
                ("ridmap", ..) => (parsed.idmap, parsed.idmap_recursive) = (true, true),
                ("remount", ..) => parsed.remount = true,
                ("tmpcopyup", ..) => parsed.copy_up = true,
                // They say what the kernel is to log; and what is so for every new filesystem.
                ("loud" | "silent" | "noiversion", ..) => {}
                // What crun alone has, and what would have to reach other filesystems' superblocks.
                (
                    "copy-symlink" | "src-nofollow" | "dest-nofollow" | "rsync" | "rasync" | "rdirsync" | "rmand"
                    | "rnomand",
                    ..,
                ) => return Err(option.clone()),
                (other, ..) if Propagation::parse(other).is_some() => {
                    parsed.propagation.extend(Propagation::parse(other));
                }
                (other, ..) => parsed.data.push(match other.split_once('=') {
                    Some((key, value)) => (key.into(), Some(value.into())),
                    None => (other.into(), None),
                }),
            }
        }
        Ok(parsed)
    }

    fn apply(&mut self, set: u64, clear: u64) {
        self.set = self.set & !clear | set;
        self.clear = self.clear & !set | clear;
    }

    pub(crate) fn set_attributes(&self) -> Attributes {
        Attributes::from_bits(self.set)
    }

    pub(crate) fn clear_attributes(&self) -> Attributes {
        Attributes::from_bits(self.clear)
    }
}

/// What to set and what to clear for an option that is an attribute.
fn attribute(option: &str) -> Option<(u64, u64)> {
    let bit = |attributes: Attributes| (attributes.bits(), 0);
    let not = |attributes: Attributes| (0, attributes.bits());
    Some(match option {
        "ro" => bit(Attributes::READ_ONLY),
        "rw" => not(Attributes::READ_ONLY),
        "nosuid" => bit(Attributes::NOSUID),
        "suid" => not(Attributes::NOSUID),
        "nodev" => bit(Attributes::NODEV),
        "dev" => not(Attributes::NODEV),
        "noexec" => bit(Attributes::NOEXEC),
        "exec" => not(Attributes::NOEXEC),
        "nosymfollow" => bit(Attributes::NOSYMFOLLOW),
        "symfollow" => not(Attributes::NOSYMFOLLOW),
        "noatime" => (NOATIME, ATIME_FIELD),
        "strictatime" => (STRICTATIME, ATIME_FIELD),
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (0, ATIME_FIELD),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<MountOptions, String> {
        MountOptions::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn attributes_and_data() {
        let options = parse(&["nosuid", "noexec", "mode=1777", "size=65536k", "newinstance", "ro"]).expect("valid");
        assert_eq!(options.set_attributes(), Attributes::READ_ONLY.and(Attributes::NOSUID).and(Attributes::NOEXEC));
        assert_eq!(
            options.data,
            [
                ("mode".into(), Some("1777".into())),
                ("size".into(), Some("65536k".into())),
                ("newinstance".into(), None)
            ]
        );
    }

    #[test]
    fn what_is_recognized_is_no_filesystems_own() {
        // What the kernel takes for every filesystem, through the same call.
        let of_superblock = ["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync"];
        for word in RECOGNIZED {
            let data = parse(&[word]).expect(word).data;
            assert_eq!(data.is_empty(), !of_superblock.contains(&word), "{word}");
        }
    }

    #[test]
    fn the_last_word_counts() {
        let options = parse(&["ro", "rw"]).expect("valid");
        assert_eq!((options.set, options.clear), (0, Attributes::READ_ONLY.bits()));
        let options = parse(&["rw", "rro", "rbind"]).expect("valid");
        assert!(options.attributes_recursive && options.bind_recursive);
        assert_eq!((options.set, options.clear), (Attributes::READ_ONLY.bits(), 0));
    }

    #[test]
    fn access_times_are_one_field() {
        let options = parse(&["noatime", "strictatime"]).expect("valid");
        assert_eq!((options.set, options.clear & !options.set), (STRICTATIME, ATIME_FIELD & !STRICTATIME));
    }

    #[test]
    fn what_is_not_done_is_named() {
        assert_eq!(parse(&["src-nofollow"]), Err("src-nofollow".into()));
        assert_eq!(parse(&["rsync"]), Err("rsync".into()));
    }

    #[test]
    fn what_reaches_further() {
        let options = parse(&["rslave", "shared", "tmpcopyup", "sync", "silent"]).expect("valid");
        assert_eq!(options.propagation, ["rslave", "shared"].map(|word| Propagation::parse(word).expect("a word")));
        assert!(options.copy_up && !options.remount);
        assert_eq!(options.data, [("sync".into(), None)], "the kernel takes these from the filesystem's own");
    }
}
