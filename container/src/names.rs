//! Names for containers that were given none: easier to say and to type than an id.

use std::io;

use rbox_sys::random;
use rbox_types::{ContainerId, ContainerName};

const QUALITIES: [&str; 32] = [
    "amber", "brisk", "calm", "civil", "clear", "cosy", "crisp", "deft", "eager", "early", "fair", "fond", "fresh",
    "glad", "grand", "keen", "kind", "light", "lively", "lucid", "merry", "mild", "neat", "noble", "quick", "quiet",
    "sharp", "still", "sunny", "swift", "warm", "witty",
];

const THINGS: [&str; 32] = [
    "alder", "badger", "birch", "brook", "cedar", "crane", "curlew", "dipper", "fern", "finch", "fjord", "heron",
    "hazel", "island", "jay", "kestrel", "lark", "linden", "lynx", "maple", "marten", "meadow", "moss", "otter",
    "plover", "poplar", "robin", "rowan", "stoat", "swift", "willow", "wren",
];

/// A new id.
pub(crate) fn random_id() -> io::Result<ContainerId> {
    Ok(ContainerId::from_random(random::bytes()?))
}

/// A name made of the id's own randomness; the digits at the end make two alike unlikely.
pub(crate) fn name_for(id: &ContainerId) -> ContainerName {
    let number =
        id.as_str()[..12].chars().filter_map(|digit| digit.to_digit(16)).fold(0_u64, |n, d| n << 4 | u64::from(d));
    let (quality, thing) = (QUALITIES[(number & 31) as usize], THINGS[(number >> 5 & 31) as usize]);
    format!("{quality}_{thing}_{:03}", (number >> 10) % 1000).parse().expect("the words are letters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_valid() {
        for byte in 0..=255 {
            name_for(&ContainerId::from_random([byte; 32]));
        }
    }
}
