//! `--network-rate`: how fast a container may receive and send.

use std::fmt;
use std::str::FromStr;

use rbox_net_slirp::Rate;
use serde::{Deserialize, Serialize};

use super::ByteSize;

/// Bytes a second; none: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRate {
    /// What it receives.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    inward: Option<u64>,
    /// What it sends.
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    outward: Option<u64>,
}

impl NetworkRate {
    pub(crate) fn bytes(self) -> Rate {
        Rate { inward: self.inward, outward: self.outward }
    }
}

/// `in=10m,out=1m`, or one of them: bytes a second, with b, k, m or g; or bits, as in `out=8mbit` (tc(8): in thousands).
impl FromStr for NetworkRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rate = Self::default();
        for part in text.split(',') {
            let (way, number) =
                part.split_once('=').ok_or("expected in=RATE, out=RATE or both, as in in=10m,out=8mbit")?;
            let place = match way {
                "in" => &mut rate.inward,
                "out" => &mut rate.outward,
                _ => return Err(format!("{way:?} is neither in nor out")),
            };
            if place.replace(bytes(number)?).is_some() {
                return Err(format!("{way} is there twice"));
            }
        }
        Ok(rate)
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let bytes = match text.strip_suffix("bit") {
        None => text.parse::<ByteSize>()?.0,
        Some(number) => {
            let (number, unit) = match number.strip_suffix(['k', 'm', 'g']) {
                Some(rest) if number.ends_with('k') => (rest, 1000),
                Some(rest) if number.ends_with('m') => (rest, 1_000_000),
                Some(rest) => (rest, 1_000_000_000),
                None => (number, 1),
            };
            let bits = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
            bits.ok_or_else(|| format!("{text:?} is no number of bits"))? / 8
        }
    };
    // Slower, and a single large packet would be waited for for a minute.
    if bytes < 1024 { Err(format!("{text:?} is too slow: 1 KiB a second is the least")) } else { Ok(bytes) }
}

/// As it can be typed.
impl fmt::Display for NetworkRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways = [("in", self.inward), ("out", self.outward)];
        let words: Vec<String> =
            ways.iter().filter_map(|(way, rate)| rate.map(|rate| format!("{way}={rate}"))).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, inward, outward) in [
            ("in=10m", Some(10 << 20), None),
            ("out=8mbit", None, Some(1_000_000)),
            ("in=1g,out=64k", Some(1 << 30), Some(65536)),
            ("out=80000bit,in=2048", Some(2048), Some(10_000)),
        ] {
            let rate: NetworkRate = text.parse().expect(text);
            assert_eq!(rate, NetworkRate { inward, outward }, "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for wrong in ["", "10m", "in=", "up=1m", "in=1m,in=2m", "in=0", "in=100", "out=1xbit", "in=1m,", "out=-1"] {
            wrong.parse::<NetworkRate>().expect_err(wrong);
        }
    }
}
