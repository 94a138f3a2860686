//! What a container prints, kept: its log.
//!
//! ```text
//! containers/<id>/
//! ├─ log          written to, line by line, by the one process that has the other ends of the workload's streams
//! ├─ log.1 …      the older ones, where the log has a size that it may not exceed: log.1 is older than log
//! └─ .log.new     the next one, for the moment in which it is made
//! ```
//!
//! [`LogWriter`] is made for that process's poll loop: it is handed what was read and the time, makes one write(2) of it,
//! allocates nothing on the way, and never fails, since a workload shall not suffer from its log. [`LogReader`] is the other
//! side, and needs nothing but the files: no lock, no word from the writer. The two meet in these rules:
//!
//! - A line is whole once its line feed is there. What follows the last line feed counts for nothing: the writer is still
//!   at it, or was killed over it, and whoever writes next takes it back.
//! - A full file is renamed, and never written to after that ([`rbox_store::Generations`]).
//! - A line longer than [`LONGEST_PIECE`] is written in pieces, which the reader puts together again.

mod format;
mod options;
mod reader;
mod split;
mod writer;

pub use format::{Entry, Stream};
pub use options::{Driver, InvalidLogOption, LogOptions};
pub use reader::{ContainerLog, LogReader, LogSelection};
pub use split::LONGEST_PIECE;
pub use writer::LogWriter;

/// The newest file's name.
pub(crate) const NAME: &str = "log";
/// The next one's, while it is made.
const NEW: &str = ".log.new";
