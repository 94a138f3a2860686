//! Overlays: two files of a lower layer, written, read, mapped, cut and copied at random, as fsx does it; what is in them is at
//! each moment what is in two arrays.
//!
//! Mappings stay from before the files are copied up. Seeds are the same each time; what fails says its own, and the last things
//! that were done.

use std::fmt::Debug;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rbox_fuzz::Random;
use rbox_sys::map::{Map, Sharing};
use rbox_tests::calls::{self, Advice, AtFlags, CWD, FallocateFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rbox_tests::cases;
use rbox_tests::overlay::{self, Backend, Overlay, tree};

cases! {
    what_is_done_to_files_is_done_to_arrays: rbox kernel fuse_overlayfs;
}

/// The longest that a file becomes.
const LONGEST: usize = 1200 << 10;
const PAGE: usize = 4096;

fn what_is_done_to_files_is_done_to_arrays(backend: Backend) -> Result<()> {
    exercise(backend, 1..=4, 1000)
}

#[test]
#[ignore = "takes minutes"]
fn very_much_is_done_to_files_as_to_arrays() {
    let name = concat!(module_path!(), "::very_much_is_done_to_files_as_to_arrays");
    overlay::judged_within(Duration::from_secs(1800), name, Backend::Rbox, |backend| {
        exercise(backend, 100..=160, 3000)
    });
}

fn exercise(backend: Backend, seeds: std::ops::RangeInclusive<u64>, steps: usize) -> Result<()> {
    for seed in seeds {
        let mut random = Random::new(seed);
        let lengths = [random.below(LONGEST), random.below(PAGE * 3)];
        let layers = [format!("file f fill={}", lengths[0]), format!("file d/g fill={} mode=640 user.a=1", lengths[1])];
        let overlay = Overlay::new(backend, &[&layers[0], &layers[1]])?;
        let files =
            [("f", lengths[0]), ("d/g", lengths[1])].map(|(name, length)| Exercised::open(name, tree::filling(length)));
        let [one, other] = files;
        let mut done = Done { seed, steps: Vec::new() };
        let mut files = [one?, other?];
        for _ in 0..steps {
            step(backend, &overlay, &mut random, &mut files, &mut done).with_context(|| format!("{done:?}"))?;
        }
        drop(files.map(|file| file.wanted));
        overlay.unmount()?;
    }
    Ok(())
}

/// What was done last.
struct Done {
    seed: u64,
    steps: Vec<String>,
}

impl Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = &self.steps[self.steps.len().saturating_sub(30)..];
        write!(f, "seed {}, step {}, after {last:#?}", self.seed, self.steps.len())
    }
}

/// A file, all ways to it, and what is to be in it.
struct Exercised {
    name: String,
    wanted: Vec<u8>,
    file: File,
    /// Was opened to be read, perhaps before the file was copied up.
    reading: File,
    /// Much longer than the file, perhaps.
    map: Map,
    reading_map: Map,
}

impl Exercised {
    fn open(name: &str, wanted: Vec<u8>) -> Result<Self> {
        let reading = calls::opened(name, OFlags::RDONLY)?;
        let reading_map = Map::new(&reading, LONGEST, Sharing::Shared, false)?;
        let file = calls::opened(name, OFlags::RDWR)?;
        let map = Map::new(&file, LONGEST, Sharing::Shared, true)?;
        Ok(Self { name: name.to_owned(), wanted, file, reading, map, reading_map })
    }

    fn reopen(&mut self) -> Result<()> {
        let wanted = std::mem::take(&mut self.wanted);
        let name = std::mem::take(&mut self.name);
        *self = Self::open(&name, wanted)?;
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.wanted.resize(self.wanted.len().max(at + bytes.len()), 0);
        self.wanted[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn is(&self, at: usize, found: &[u8], how: &str) -> Result<()> {
        let wanted = &self.wanted[at.min(self.wanted.len())..];
        let wanted = &wanted[..wanted.len().min(found.len())];
        let first = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
        let first = first.map(|first| (at + first, found[first], wanted[first]));
        ensure!(first.is_none() && found.len() == wanted.len(), "{how}: {first:?} of {} at {at}", found.len());
        Ok(())
    }
}

fn step(
    backend: Backend,
    overlay: &Overlay,
    random: &mut Random,
    files: &mut [Exercised; 2],
    done: &mut Done,
) -> Result<()> {
    let number = random.below(2);
    let at = if random.one_in(4) { random.below(LONGEST / PAGE) * PAGE } else { random.below(LONGEST - 1) };
    let most = if random.one_in(8) { LONGEST } else { 3 * PAGE };
    let length = 1 + random.below((LONGEST - at).min(most));
    let bytes: Vec<u8> = (0..length).map(|at| (done.steps.len() + at / 7) as u8).collect();
    let what = random.below(22);
    let own = &mut files[number];
    let inside = own.wanted.len().saturating_sub(at).min(length);
    done.steps.push(format!("{what} {} {at} {length}, of {}", own.name, own.wanted.len()));
    let zero = |own: &mut Exercised, end: usize| own.wanted[at.min(end)..(at + length).min(end)].fill(0);
    match what {
        0..=2 => {
            own.file.write_all_at(&bytes, at as u64)?;
            own.put(at, &bytes);
        }
        3 | 4 => {
            let mut found = vec![0; length];
            let file = if random.one_in(2) { &own.file } else { &own.reading };
            let got = file.read_at(&mut found, at as u64)?;
            own.is(at, &found[..got], "read")?;
            ensure!(got == inside, "{got} bytes were read");
        }
        5 | 6 if inside > 0 => {
            own.map.write(at, &bytes[..inside]);
            own.put(at, &bytes[..inside]);
        }
        7 if inside > 0 => own.is(at, &own.map.read(at, inside), "mapped")?,
        // The kernel's is of the lower file for ever ("Non-standard behavior" in its Documentation/filesystems/overlayfs.rst).
        8 if inside > 0 && backend != Backend::Kernel => {
            own.is(at, &own.reading_map.read(at, inside), "mapped before")?
        }
        9 if inside > 0 => {
            let map = Map::new(&own.file, own.wanted.len(), Sharing::Private, true)?;
            own.is(at, &map.read(at, inside), "mapped by oneself")?;
        }
        10 => {
            own.file.set_len(at as u64)?;
            own.wanted.resize(at, 0);
        }
        11 => {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            calls::fallocate(&own.file, flags, at as u64, length as u64)?;
            let end = own.wanted.len();
            zero(own, end);
        }
        12 => {
            calls::fallocate(&own.file, FallocateFlags::ZERO_RANGE, at as u64, length as u64)?;
            own.wanted.resize(own.wanted.len().max(at + length), 0);
            zero(own, at + length);
        }
        13 => {
            let keep = random.one_in(2);
            let flags = if keep { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
            calls::fallocate(&own.file, flags, at as u64, length as u64)?;
            own.wanted.resize(if keep { own.wanted.len() } else { own.wanted.len().max(at + length) }, 0);
        }
        14 | 15 if inside > 0 => {
            let to_at = random.below(LONGEST - inside);
            let to = if random.one_in(2) { 1 - number } else { number };
            let overlaps = to == number && at < to_at + inside && to_at < at + inside;
            if !overlaps {
                let (mut from_offset, mut offset) = (at as u64, to_at as u64);
                let [one, other] = [&files[number], &files[to]];
                let copied = calls::copy_file_range(
                    &one.reading,
                    Some(&mut from_offset),
                    &other.file,
                    Some(&mut offset),
                    inside,
                )?;
                let bytes = files[number].wanted[at..at + copied].to_vec();
                ensure!(copied > 0, "nothing was copied");
                files[to].put(to_at, &bytes);
            }
        }
        16 => {
            own.file.sync_data()?;
            // What is read next is asked for.
            calls::fadvise(&own.file, 0, None, Advice::DontNeed)?;
        }
        17 => own.map.sync()?,
        18 => own.reopen()?,
        19 => {
            // It has another name, and what is open is open still.
            let new = format!("d/{}", done.steps.len());
            match random.below(3) {
                0 => calls::rename(&own.name, &new)?,
                1 => {
                    calls::link(&own.name, &new)?;
                    calls::unlink(&own.name)?;
                }
                _ => {
                    fs::write(&new, "replaced")?;
                    calls::rename(&own.name, &new)?;
                }
            }
            own.name = new;
        }
        20 => {
            let time = Timespec { tv_sec: done.steps.len() as i64, tv_nsec: 0 };
            let same = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            calls::utimensat(
                CWD,
                &own.name,
                &Timestamps { last_access: same, last_modification: time },
                AtFlags::empty(),
            )?;
            calls::chmod(&own.name, Mode::from_raw_mode(0o600 | random.below(0o100) as u32))?;
        }
        _ if random.one_in(10) => {
            // Nothing may be open, and nothing mapped.
            let held = files.each_mut().map(|file| (std::mem::take(&mut file.name), std::mem::take(&mut file.wanted)));
            let nothing = || calls::opened("/dev/zero", OFlags::RDWR).map_err(anyhow::Error::from);
            for file in files.iter_mut() {
                (file.file, file.reading) = (nothing()?, nothing()?);
                file.map = Map::new(&file.file, PAGE, Sharing::Private, true)?;
                file.reading_map = Map::new(&file.file, PAGE, Sharing::Private, false)?;
            }
            overlay.remount()?;
            for (file, (name, wanted)) in files.iter_mut().zip(held) {
                *file = Exercised::open(&name, wanted)?;
            }
        }
        _ => {
            let found = fs::read(&own.name)?;
            own.is(0, &found, "all of it")?;
        }
    }
    for file in files {
        let length = file.file.metadata()?.len();
        ensure!(length == file.wanted.len() as u64, "{} has {length} bytes", file.name);
        ensure!(fs::metadata(&file.name)?.len() == length, "{} by its name", file.name);
    }
    Ok(())
}
