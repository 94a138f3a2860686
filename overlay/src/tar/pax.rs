//! The records of a PAX extended header: `<length> <key>=<value>\n` each (IEEE Std 1003.1, "pax Extended Header").
//!
//! The length, not the newline, ends a record: values of extended attributes are binary and may hold newlines.

use rbox_sys::at::Time;

use super::Problem;
use super::sparse::PaxSparse;

/// What an extended header says about the entry after it. `None`: it says nothing, the ustar header holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extended {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Time>,
    /// Names and values of `SCHILY.xattr.` records.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: PaxSparse,
}

/// Parses a whole extended header.
pub(crate) fn parse(mut bytes: &[u8]) -> Result<Extended, Problem> {
    let mut extended = Extended::default();
    while !bytes.is_empty() {
        // Some writers fill up with NULs.
        if bytes.iter().all(|byte| *byte == 0) {
            break;
        }
        let (key, value, rest) = record(bytes).ok_or(Problem::Pax)?;
        bytes = rest;
        // An empty value takes back what an earlier record said.
        let set = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => extended.path = set(value),
            b"linkpath" => extended.link = set(value),
            b"size" => extended.size = decimal(value, "size")?,
            b"uid" => extended.uid = decimal(value, "uid")?,
            b"gid" => extended.gid = decimal(value, "gid")?,
            b"mtime" => extended.mtime = time(value)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    extended.xattrs.retain(|(known, _)| known != name);
                    extended.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    extended.sparse.record(name, value)?;
                }
            }
        }
    }
    Ok(extended)
}

/// Splits off the first record: key, value, what follows.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let body = bytes.get(space + 1..length)?;
    let (b'\n', body) = body.split_last()? else { return None };
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (!key.is_empty()).then_some((key, value, &bytes[length..]))
}

/// A decimal number; empty for "not said".
pub(super) fn decimal(value: &[u8], what: &'static str) -> Result<Option<u64>, Problem> {
    if value.is_empty() {
        return Ok(None);
    }
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(Problem::Number(what));
    }
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or(Problem::Number(what))
}

/// Seconds since 1970 with a decimal fraction; digits past the ninth are cut off.
fn time(value: &[u8]) -> Result<Option<Time>, Problem> {
    let wrong = Problem::Number("mtime");
    let text = std::str::from_utf8(value).map_err(|_| Problem::Number("mtime"))?;
    if text.is_empty() {
        return Ok(None);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong);
    }
    let mut nanoseconds = 0;
    for at in 0..9 {
        nanoseconds = nanoseconds * 10 + u32::from(fraction.as_bytes().get(at).map_or(0, |digit| digit - b'0'));
    }
    let Ok(mut seconds) = whole.parse::<i64>() else { return Err(wrong) };
    // -1.25 is 0.75 s after second -2.
    if whole.starts_with('-') && nanoseconds > 0 {
        seconds = seconds.checked_sub(1).ok_or(wrong)?;
        nanoseconds = 1_000_000_000 - nanoseconds;
    }
    Ok(Some(Time { seconds, nanoseconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines() {
        let parsed = parse(b"12 path=a\nb\n29 SCHILY.xattr.user.x=\0\n=\xff\n\n12 uid=1234\n").expect("valid");
        assert_eq!(parsed.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(parsed.xattrs, [(b"user.x".to_vec(), b"\0\n=\xff\n".to_vec())]);
        assert_eq!(parsed.uid, Some(1234));
    }

    #[test]
    fn an_empty_value_takes_back() {
        let parsed = parse(b"9 path=a\n8 path=\n").expect("valid");
        assert_eq!(parsed.path, None);
    }

    #[test]
    fn what_is_no_record() {
        for bytes in [
            &b"x path=a\n"[..],
            b"9 path=a",
            b"99 path=a\n",
            b"8 path=a\n",
            b"4 =\n",
            b"7 patha\n",
            b"1 path=a\n",
            b"18446744073709551615 a=b\n",
            b"10 size=-1\n",
            b"9 uid=1x\n",
            b"29 size=99999999999999999999\n",
        ] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn times() {
        for (text, seconds, nanoseconds) in [
            ("1700000000", 1_700_000_000, 0),
            ("1700000000.5", 1_700_000_000, 500_000_000),
            ("1.0000000019", 1, 1),
            ("-1.25", -2, 750_000_000),
            ("-0.25", -1, 750_000_000),
            ("0.123456789", 0, 123_456_789),
        ] {
            assert_eq!(time(text.as_bytes()), Ok(Some(Time { seconds, nanoseconds })), "{text}");
        }
        assert!(time(b"1.x").is_err());
        assert!(time(b"x").is_err());
    }
}
