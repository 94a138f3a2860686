//! Changes of several messages that come one after the other.

use crate::bytes;
use crate::random::Random;

/// More of them are left out.
const MOST: usize = 64;

/// The messages as one input: each after its length, in two bytes.
pub fn join(messages: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let with_length = |message: &[u8]| [&(message.len() as u16).to_be_bytes(), message].concat();
    messages.iter().flat_map(|message| with_length(message.as_ref())).collect()
}

/// The messages of an input; where it ends early, so does the last one.
pub fn split(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        messages.push(message.to_vec());
        input = rest;
    }
    messages
}

/// One of the seeds with a few changes: of which messages there are and of their order, as often as of one of them.
pub(crate) fn change(seeds: &[Vec<Vec<u8>>], random: &mut Random) -> Vec<u8> {
    let mut messages = random.of(seeds).clone();
    for _ in 0..random.few() {
        once(&mut messages, seeds, random);
    }
    messages.truncate(MOST);
    join(&messages)
}

fn once(messages: &mut Vec<Vec<u8>>, seeds: &[Vec<Vec<u8>>], random: &mut Random) {
    let other = random.of(seeds);
    let at = random.below(messages.len() + 1);
    match random.below(8) {
        0 => drop(messages.splice(at..at, other.iter().cloned())),
        1 if !other.is_empty() => messages.insert(at, random.of(other).clone()),
        2 if at < messages.len() => drop(messages.remove(at)),
        3 if at < messages.len() => {
            let to = random.below(messages.len());
            messages.swap(at, to);
        }
        4 if at < messages.len() => {
            let copies = std::iter::repeat_n(messages[at].clone(), 1 << random.below(5));
            drop(messages.splice(at..at, copies.collect::<Vec<_>>()));
        }
        _ if at < messages.len() => {
            // Parts of any other may get into it.
            let pool = [std::slice::from_ref(&messages[at]), other].concat();
            let mut message = messages[at].clone();
            for _ in 0..random.few() {
                bytes::once(&mut message, &pool, random);
            }
            message.truncate(u16::MAX.into());
            messages[at] = message;
        }
        _ => {}
    }
}
