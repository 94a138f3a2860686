//! `rbox-overlay`: this program called by that name mounts an overlay of its own, by fuse-overlayfs(1)'s command line.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::Parser;
use rbox_overlay::fuse::{self, Device, Layers};
use rbox_sys::clone::{self, Forked, Namespaces};
use rbox_sys::signal::{self, Signal};
use rbox_sys::{dir, mount, process, tty};

use crate::failure::Failure;

/// By which the program is called.
pub(crate) const NAME: &str = "rbox-overlay";

/// Mount an overlay filesystem in user space.
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 100)]
struct Line {
    /// lowerdir=A:B, topmost first; upperdir=U and workdir=W, to write to; volatile; commas between them
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
    /// Stay in the foreground
    #[arg(short)]
    foreground: bool,
    /// Where to mount; mount(8) names a source before it, of which there is none
    #[arg(value_name = "[SOURCE] DIR", num_args = 1..=2, required = true)]
    target: Vec<PathBuf>,
}

/// What the options say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    lowers: Vec<PathBuf>,
    upper: Option<PathBuf>,
    work: Option<PathBuf>,
    volatile: bool,
}

/// The program.
pub(crate) fn run(words: Vec<OsString>) -> u8 {
    let line = match Line::try_parse_from(words) {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return u8::from(error.use_stderr());
        }
    };
    match act(&line) {
        Ok(()) => 0,
        Err(failure) => {
            failure.print_as(NAME);
            1
        }
    }
}

fn act(line: &Line) -> Result<(), Failure> {
    let options = Options::parse(&line.options)?;
    let upper = match (&options.upper, &options.work) {
        (Some(upper), Some(work)) => Some((upper.as_path(), work.as_path())),
        (None, None) => None,
        _ => return Err(Failure::new("upperdir and workdir belong together")),
    };
    let layers = Layers::open(&options.lowers, upper).map_err(|error| Failure::caused(&error, None))?;
    let path = line.target.last().map_or(Path::new("/"), PathBuf::as_path);
    let at_path = |what: &str| {
        let what = format!("cannot {what} {}", path.display());
        move |error: io::Error| Failure::new(format!("{what}: {error}"))
    };
    let path = std::fs::canonicalize(path).map_err(at_path("open"))?;
    let target = dir::open(&path).map_err(at_path("open"))?;
    let device = Device::open().map_err(|error| Failure::caused(&error, error.hint()))?;
    let mounted =
        device.mount(NAME, layers.are_read_only(), None).map_err(|error| Failure::caused(&error, error.hint()))?;
    mount::attach(mounted.as_fd(), target.as_fd()).map_err(at_path("mount at"))?;
    // What is open keeps it from being unmounted.
    drop((mounted, target));
    let failed = |what| move |error: io::Error| Failure::new(format!("cannot {what}: {error}"));
    process::change_directory(Path::new("/")).map_err(failed("leave the directory"))?;
    if !line.foreground {
        if let Forked::Parent(_) = clone::fork_into(Namespaces::NONE).map_err(failed("go to the background"))? {
            // At once: whatever is dropped here is the other one's.
            process::exit_at_once(0);
        }
        process::new_session()
            .and_then(|()| tty::replace_stdio_by_null(0..3))
            .map_err(failed("go to the background"))?;
    }
    unmount_when_asked_to_end(path);
    fuse::serve(device, layers, options.volatile).map_err(failed("serve the filesystem"))
}

/// Whoever is in it may stay; the server ends when nobody is.
fn unmount_when_asked_to_end(path: PathBuf) {
    signal::block_all();
    std::thread::spawn(move || {
        loop {
            if [Signal::INT, Signal::TERM, Signal::HUP].contains(&signal::wait()) {
                // Somebody may have unmounted it.
                let _ = mount::detach(&path);
            }
        }
    });
}

impl Options {
    fn parse(texts: &[String]) -> Result<Self, Failure> {
        let mut options = Self::default();
        for option in texts.iter().flat_map(|text| split(text, ',')) {
            let (key, value) = option.split_once('=').map_or((&*option, None), |(key, value)| (key, Some(value)));
            match (key, value) {
                ("lowerdir", Some(value)) => options.lowers = split(value, ':').iter().map(|text| path(text)).collect(),
                ("upperdir", Some(value)) => options.upper = Some(path(value)),
                ("workdir", Some(value)) => options.work = Some(path(value)),
                ("volatile", None) => options.volatile = true,
                // As every mount in a user namespace is, or as this one is anyway.
                ("" | "rw" | "dev" | "nodev" | "suid" | "nosuid" | "exec" | "userxattr" | "allow_other", None) => {}
                _ => return Err(Failure::new(format!("unknown option {option:?}"))),
            }
        }
        if options.lowers.is_empty() {
            return Err(Failure::new("no lowerdir"));
        }
        Ok(options)
    }
}

/// Parts between separators; what a backslash precedes is none, and stays so.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut part, mut parts, mut characters) = (String::new(), Vec::new(), text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => part.extend(std::iter::once('\\').chain(characters.next())),
            character if character == separator => parts.push(std::mem::take(&mut part)),
            character => part.push(character),
        }
    }
    parts.push(part);
    parts
}

/// A path, without the backslashes.
fn path(text: &str) -> PathBuf {
    let mut characters = text.chars();
    let unescaped = std::iter::from_fn(|| match characters.next() {
        Some('\\') => characters.next(),
        other => other,
    });
    unescaped.collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_kernels_overlay() {
        let parsed = Options::parse(&["lowerdir=/a:/b\\:c,upperdir=/u\\,v".into(), "workdir=/w,volatile".into()]);
        let expected = Options {
            lowers: vec!["/a".into(), "/b:c".into()],
            upper: Some("/u,v".into()),
            work: Some("/w".into()),
            volatile: true,
        };
        assert_eq!(parsed.expect("they are right"), expected);
        assert!(Options::parse(&["lowerdir=/a,frobnicate".into()]).is_err());
        assert!(Options::parse(&["upperdir=/a".into()]).is_err());
    }
}
