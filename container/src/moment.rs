//! Points in time as people give them to `--since` and `--until`: what Docker and Podman take.

use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Why a text is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no point in time: expected a duration before now (10m, 1h30m), seconds since 1970 (1700000000.5), or a date \
     (2025-01-02, 2025-01-02T15:04:05, 2025-01-02T15:04:05Z)"
)]
pub struct InvalidMoment(String);

/// Reads a text. A date without an offset is one of the time zone `local`.
pub fn parse(text: &str, now: Timestamp, local: &TimeZone) -> Result<Timestamp, InvalidMoment> {
    duration(text)
        .and_then(|before| now.checked_sub(before).ok())
        .or_else(|| seconds(text))
        .or_else(|| date(text, local))
        .ok_or_else(|| InvalidMoment(text.to_owned()))
}

/// Go's durations: numbers, each with its unit, all of them together with one sign.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = SignedDuration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = SignedDuration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total * sign)
}

/// Seconds since 1970, with up to nine digits after the point.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole.strip_prefix('-').unwrap_or(whole)) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse::<i32>().ok()?;
    let sign = if whole.starts_with('-') { -1 } else { 1 };
    Timestamp::new(whole.parse().ok()?, sign * nanoseconds).ok()
}

/// A date, with a time of day down to what was said, and an offset or none.
fn date(text: &str, local: &TimeZone) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (day, time) = text.split_once('T').unwrap_or((text, ""));
    // An offset may stand behind a day alone as well; a day has two hyphens of its own.
    let body = if time.is_empty() { day.get(10..)? } else { time };
    let split = body.find(['Z', 'z', '+', '-']).unwrap_or(body.len());
    let (time, offset) = body.split_at(split);
    let time = match time.matches(':').count() {
        _ if time.is_empty() && text.contains('T') => return None,
        _ if time.is_empty() => "00:00:00".to_owned(),
        0 => format!("{time}:00:00"),
        1 => format!("{time}:00"),
        _ => time.to_owned(),
    };
    let whole = format!("{}T{time}", day.get(..10)?);
    if day.len() > 10 && text.contains('T') {
        return None;
    }
    if offset.is_empty() {
        let civil: DateTime = whole.parse().ok()?;
        return local.to_timestamp(civil).ok();
    }
    format!("{whole}{offset}").parse().ok()
}

/// This user's time zone: `TZ`, else the machine's, else UTC.
pub fn local_zone() -> TimeZone {
    zone(std::env::var("TZ").ok().as_deref(), Path::new("/etc/localtime"), Path::new("/usr/share/zoneinfo"))
}

/// tzset(3): `TZ` is a name below the directory of zones, with or without a colon, or a rule; empty, it means UTC.
fn zone(tz: Option<&str>, machine: &Path, zones: &Path) -> TimeZone {
    let of_file = |path: &Path| TimeZone::tzif("", &std::fs::read(path).ok()?).ok();
    let zone = match tz {
        None => of_file(machine),
        Some("" | "UTC") => None,
        // An absolute path replaces the directory; as a user's own words it may.
        Some(name) => of_file(&zones.join(name.trim_start_matches(':'))).or_else(|| TimeZone::posix(name).ok()),
    };
    zone.unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, InvalidMoment> {
        let now = "2025-06-07T08:09:10Z".parse().expect("a time");
        let east = TimeZone::fixed(jiff::tz::offset(2));
        parse(text, now, &east).map(|time| time.to_string())
    }

    #[test]
    fn what_docker_takes() {
        for (text, expected) in [
            ("10m", "2025-06-07T07:59:10Z"),
            ("1h30m", "2025-06-07T06:39:10Z"),
            ("1.5s", "2025-06-07T08:09:08.5Z"),
            ("250ms", "2025-06-07T08:09:09.75Z"),
            ("-10s", "2025-06-07T08:09:20Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.25", "2023-11-14T22:13:20.25Z"),
            ("1700000000.000000001", "2023-11-14T22:13:20.000000001Z"),
            ("2025-01-02", "2025-01-01T22:00:00Z"),
            ("2025-01-02Z", "2025-01-02T00:00:00Z"),
            ("2025-01-02+01:00", "2025-01-01T23:00:00Z"),
            ("2025-01-02T15", "2025-01-02T13:00:00Z"),
            ("2025-01-02T15:04", "2025-01-02T13:04:00Z"),
            ("2025-01-02T15:04Z", "2025-01-02T15:04:00Z"),
            ("2025-01-02T15:04:05", "2025-01-02T13:04:05Z"),
            ("2025-01-02T15:04:05.5", "2025-01-02T13:04:05.5Z"),
            ("2025-01-02T15:04:05.123456789Z", "2025-01-02T15:04:05.123456789Z"),
            ("2025-01-02T15:04:05-07:00", "2025-01-02T22:04:05Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(expected), "{text}");
        }
        for text in
            ["", "x", "10", "10x", "m", "1h30", "yesterday", "2025", "2025-13-01", "2025-01-02T", "2025-01-02T25", "é€"]
        {
            // A number alone is seconds.
            match at(text) {
                Ok(time) => assert!(time.starts_with("1970"), "{text}: {time}"),
                Err(error) => assert_eq!(error, InvalidMoment(text.to_owned())),
            }
        }
        assert!(at("99999999999999999999h").is_err());
    }

    #[test]
    fn the_zone_is_the_users_then_the_machines() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // TZif version 1: no transition, one type, two hours east.
        let mut east = b"TZif\0".to_vec();
        east.resize(20, 0);
        for count in [0_u32, 0, 0, 0, 1, 5] {
            east.extend_from_slice(&count.to_be_bytes());
        }
        east.extend_from_slice(&7200_i32.to_be_bytes());
        east.extend_from_slice(b"\0\0EAST\0");
        std::fs::write(directory.path().join("East"), east).expect("write");
        let offset = |tz, machine: &str| {
            let zone = zone(tz, &directory.path().join(machine), directory.path());
            zone.to_offset(Timestamp::UNIX_EPOCH).seconds()
        };
        assert_eq!(offset(None, "East"), 7200);
        assert_eq!(offset(None, "none"), 0);
        assert_eq!(offset(Some(""), "East"), 0);
        assert_eq!(offset(Some("UTC"), "East"), 0);
        assert_eq!(offset(Some("East"), "none"), 7200);
        assert_eq!(offset(Some(":East"), "none"), 7200);
        assert_eq!(offset(Some("XXX-3"), "none"), 10800);
        assert_eq!(offset(Some("No/Such"), "East"), 0);
    }
}
