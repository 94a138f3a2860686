//! Changes of what has no form.

use std::ops::Range;

use crate::random::Random;

/// Where numbers end, and what formats are made of.
const WORDS: [&[u8]; 16] = [
    b"\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\x80",
    b"\n",
    b":",
    b",",
    b"=",
    b"/",
    b"..",
    b"-1",
    b"0",
    b"4294967295",
    b"4294967296",
    b"18446744073709551616",
    b"\xe2\x82",
    b"\xf0\x9f\xa6\x80",
];

/// Longer ones are cut.
const LONGEST: usize = 1 << 16;

/// One of the seeds with a few changes.
pub(crate) fn change(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.of(seeds).clone();
    for _ in 0..random.few() {
        once(&mut input, seeds, random);
    }
    input.truncate(LONGEST);
    input
}

/// One change.
pub(crate) fn once(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let piece = piece(input.len(), random);
    match random.below(8) {
        0 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] ^= 1 << random.below(8);
        }
        1 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] = random.number() as u8;
        }
        2 => drop(input.drain(piece)),
        3 => {
            let copy = input[piece.clone()].to_vec();
            input.splice(piece.end..piece.end, copy);
        }
        4 => input.truncate(piece.start),
        5 => {
            let other = random.of(seeds);
            let from = self::piece(other.len(), random);
            input.splice(piece, other[from].iter().copied());
        }
        6 => {
            // A great many of one thing.
            let word = random.of(&WORDS).repeat(1 << random.below(10));
            input.splice(piece.start..piece.start, word);
        }
        _ => drop(input.splice(piece, random.of(&WORDS).iter().copied())),
    }
}

/// Short ones more often than long ones.
fn piece(length: usize, random: &mut Random) -> Range<usize> {
    let start = random.below(length + 1);
    let most = 1 << random.below(10);
    start..start + random.below(most.min(length - start) + 1)
}
