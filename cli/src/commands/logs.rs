//! `rbox logs`

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;

use clap::Args;
use jiff::Timestamp;
use rbox_container::logs::{ContainerLog, Entry, LogSelection, Stream};
use rbox_container::{Engine, moment};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on with what the container prints, until it ends
    #[arg(short, long)]
    follow: bool,

    /// The last lines, so many of them, or all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", value_parser = parse_tail, allow_hyphen_values = true)]
    tail: Tail,

    /// What was printed since then: a date, seconds since 1970, or a duration before now, as 1h30m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,

    /// What was printed until then
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,

    /// Begin each line with the time when it was printed
    #[arg(short, long)]
    timestamps: bool,

    /// With several containers, begin each line with the container's name instead of its id
    #[arg(long)]
    names: bool,

    /// Names, or ids or their beginnings
    #[arg(required = true)]
    containers: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Tail(Option<u64>);

/// As in Docker, what is below 0 means all.
fn parse_tail(text: &str) -> Result<Tail, String> {
    match text.parse::<i64>() {
        Ok(number) => Ok(Tail(u64::try_from(number).ok())),
        Err(_) if text == "all" => Ok(Tail(None)),
        Err(_) => Err("expected a number of lines, or all".into()),
    }
}

impl Logs {
    pub(crate) fn act(self, engine: &Engine) -> Result<u8, Failure> {
        let time = |text: &Option<String>| {
            let parse = |text: &String| moment::parse(text, Timestamp::now(), &moment::local_zone());
            text.as_ref().map(parse).transpose().map_err(|error| Failure::new(error.to_string()))
        };
        let selection = LogSelection { tail: self.tail.0, since: time(&self.since)?, until: time(&self.until)? };
        let several = self.containers.len() > 1;
        // All or nothing: nobody would find the message about one among the lines of the others.
        let logs = self.containers.iter().map(|name| engine.log(name)).collect::<Result<Vec<_>, _>>()?;
        let printed = Mutex::new(());
        let show = |log: &ContainerLog| {
            let prefix = match (several, self.names) {
                (false, _) => String::new(),
                (true, true) => format!("{} ", log.name),
                (true, false) => format!("{} ", log.id.short()),
            };
            self.show(engine, log, selection, prefix, &printed)
        };
        if !(several && self.follow) {
            logs.iter().try_for_each(show)?;
            return Ok(0);
        }
        thread::scope(|scope| {
            let show = &show;
            let shown: Vec<_> = logs.iter().map(|log| scope.spawn(move || show(log))).collect();
            shown.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
        })?;
        Ok(0)
    }

    fn show(
        &self,
        engine: &Engine,
        log: &ContainerLog,
        selection: LogSelection,
        prefix: String,
        printed: &Mutex<()>,
    ) -> Result<(), Failure> {
        let mut reader = log.read(selection)?;
        let mut output = Output::new(prefix, self.timestamps, printed);
        let mut give = |entry: Option<Entry<'_>>| -> Result<(), Failure> {
            match entry {
                Some(entry) => output.add(&entry)?,
                None => output.write()?,
            }
            Ok(())
        };
        if self.follow { reader.follow(&mut || engine.has_ended(log), &mut give) } else { reader.all(false, &mut give) }
    }
}

/// The two streams, in the order in which lines come, each written in one piece until the other's turn.
struct Output<'a> {
    prefix: String,
    timestamps: bool,
    /// Held while one writes, where several do.
    printed: &'a Mutex<()>,
    stream: Stream,
    bytes: Vec<u8>,
    /// Of each stream, whether it is in the middle of a line.
    open: [bool; 2],
}

impl<'a> Output<'a> {
    /// Written at once.
    const BATCH: usize = 64 * 1024;

    fn new(prefix: String, timestamps: bool, printed: &'a Mutex<()>) -> Self {
        Self { prefix, timestamps, printed, stream: Stream::Stdout, bytes: Vec::new(), open: [false; 2] }
    }

    fn add(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        if self.stream != entry.stream || self.bytes.len() > Self::BATCH {
            self.write()?;
            self.stream = entry.stream;
        }
        let open = &mut self.open[entry.stream as usize];
        if !std::mem::replace(open, !entry.ends) {
            self.bytes.extend_from_slice(self.prefix.as_bytes());
            if self.timestamps
                && let Some(time) = entry.time()
            {
                write!(self.bytes, "{time:.9} ")?;
            }
        }
        self.bytes.extend_from_slice(&entry.text);
        self.bytes.extend_from_slice(if entry.ends { b"\n" } else { b"" });
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let _one = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        match self.stream {
            Stream::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&self.bytes)?;
                stdout.flush()?;
            }
            Stream::Stderr => io::stderr().lock().write_all(&self.bytes)?,
        }
        self.bytes.clear();
        Ok(())
    }
}
