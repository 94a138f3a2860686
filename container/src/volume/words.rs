//! The words that say how a bind mount is, the same in `--volume` and `--mount`.

use std::path::PathBuf;

use super::{BindOptions, Volume, VolumeSource};

/// Words of which each two contradict each other: one of a row may be said.
const ROWS: [&[&str]; 9] = [
    &["ro", "rw"],
    &["exec", "noexec"],
    &["dev", "nodev"],
    &["suid", "nosuid"],
    &["bind", "rbind"],
    &["z", "Z"],
    &["copy", "nocopy"],
    &["U"],
    &["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable"],
];

/// What has been said so far: a word of each row.
#[derive(Debug, Default)]
pub(super) struct Words([Option<&'static str>; ROWS.len()]);

impl Words {
    /// Takes a word; gives whether it is one of these.
    pub(super) fn take(&mut self, word: &str) -> Result<bool, String> {
        for (row, said) in ROWS.iter().zip(&mut self.0) {
            let Some(known) = row.iter().find(|known| **known == word) else { continue };
            return match said {
                Some(before) if before != known => Err(format!("{before:?} and {word:?} contradict each other")),
                _ => {
                    *said = Some(known);
                    Ok(true)
                }
            };
        }
        Ok(false)
    }

    fn said(&self, word: &str) -> bool {
        self.0.contains(&Some(word))
    }

    /// What they come to.
    pub(super) fn volume(&self, source: VolumeSource, destination: PathBuf) -> Result<Volume, String> {
        if let (VolumeSource::Host(_), Some(word)) = (&source, self.0[6]) {
            return Err(format!("option {word:?} is for volumes: what is in a directory of the host stays as it is"));
        }
        let options = BindOptions {
            alone: self.said("bind"),
            writable_below: false,
            propagation: self.0[ROWS.len() - 1],
            forbids: ["noexec", "nodev", "nosuid"].into_iter().filter(|word| self.said(word)).collect(),
            relabel: self.said("z") || self.said("Z"),
            empty: self.said("nocopy"),
            owned_by_user: self.said("U"),
        };
        Ok(Volume { source, destination, read_only: self.said("ro"), options })
    }

    /// The options of a tmpfs among them.
    pub(super) fn of_tmpfs(&self) -> Vec<String> {
        self.0[..4].iter().flatten().map(|word| (*word).to_owned()).collect()
    }
}
