//! Ids and names of containers. One that was given no name gets one that is easier to say and to type than an id.

use rbox_sys::random;
use rbox_types::{ContainerId, ContainerName, VolumeName};

use crate::{Engine, Error};

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

impl Engine {
    /// Gives a container another name.
    pub fn rename_container(&self, name_or_id: &str, name: &ContainerName) -> Result<(), Error> {
        Ok(self.store.rename_container(&self.store.find_container(name_or_id)?, name)?)
    }
}

/// A new id.
pub(crate) fn random_id() -> Result<ContainerId, Error> {
    Ok(ContainerId::from_random(random_bytes("the container's id")?))
}

/// The name of a volume that is given none.
pub(crate) fn random_volume_name() -> Result<VolumeName, Error> {
    Ok(VolumeName::from_random(random_bytes("a volume's name")?))
}

/// Has `make` try one name after the other, to the first that is no other container's.
pub(crate) fn until_free<T>(mut make: impl FnMut(&ContainerName) -> Result<T, rbox_store::Error>) -> Result<T, Error> {
    loop {
        match make(&random_name()?) {
            Err(rbox_store::Error::NameTaken { .. }) => {}
            made => return Ok(made?),
        }
    }
}

fn random_name() -> Result<ContainerName, Error> {
    Ok(name_of(u32::from_ne_bytes(random_bytes("the container's name")?)))
}

/// The digits at the end make two alike unlikely.
fn name_of(number: u32) -> ContainerName {
    let (quality, thing) = (QUALITIES[(number & 31) as usize], THINGS[(number >> 5 & 31) as usize]);
    format!("{quality}_{thing}_{:03}", (number >> 10) % 1000).parse().expect("the words are letters")
}

fn random_bytes<const N: usize>(purpose: &str) -> Result<[u8; N], Error> {
    random::bytes().map_err(Error::io("get random bytes for", purpose))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_valid() {
        for number in 0..1024 {
            assert_eq!(name_of(number << 10 | number).as_str().split('_').count(), 3);
        }
    }

    #[test]
    fn a_name_that_is_taken_is_left_to_its_container() {
        let id = random_id().expect("an id");
        let mut tried: Vec<ContainerName> = Vec::new();
        let taken = until_free(|name| {
            tried.push(name.clone());
            match tried.len() {
                3 => Ok(name.clone()),
                _ => Err(rbox_store::Error::NameTaken { name: name.clone(), id: id.clone() }),
            }
        });
        assert_eq!(taken.expect("a name"), tried[2]);
        assert!(tried[0] != tried[1] || tried[1] != tried[2]);
        // Whatever else fails does not go away with another name.
        assert!(until_free::<()>(|_| Err(rbox_store::Error::NoContainer("box".into()))).is_err());
    }
}
