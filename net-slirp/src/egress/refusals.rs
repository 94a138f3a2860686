//! How many were refused, by reason; and the form in which that is left for others to read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::reason::Reason;

/// The numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals([u64; Reason::ALL.len()]);

impl Refusals {
    pub(super) fn add(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    /// How many for each reason.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.0)
    }

    /// Writes them over what stands in a file: an object of JSON with a number for each [word](Reason::word). It has the
    /// same length each time, so that whoever reads meanwhile sees numbers of before or of now.
    pub fn write(&self, to: &File) -> io::Result<()> {
        let fields: Vec<String> =
            self.iter().map(|(reason, count)| format!(r#""{}":{count:>20}"#, reason.word())).collect();
        to.write_all_at(format!("{{{}}}\n", fields.join(",")).as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_they_were_written() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut refusals = Refusals::default();
        refusals.write(file.as_file()).expect("written");
        let length = file.as_file().metadata().expect("a file").len();
        for _ in 0..12 {
            refusals.add(Reason::ServerName);
        }
        refusals.write(file.as_file()).expect("written");
        let text = std::fs::read_to_string(file.path()).expect("text");
        assert_eq!(text.len() as u64, length);
        let read: serde_json::Map<_, _> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read.len(), Reason::ALL.len());
        assert_eq!((read["server-name"].as_u64(), read["name"].as_u64()), (Some(12), Some(0)));
    }
}
