//! How a line, or a piece of one, stands in a log: as bytes, and back.

use std::borrow::Cow;
use std::io::Write;

use jiff::Timestamp;
use serde::Deserialize;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; all that a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    pub(super) const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn parse(name: &[u8]) -> Option<Self> {
        Self::BOTH.into_iter().find(|stream| stream.name().as_bytes() == name)
    }

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// A line of a container's output, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it was printed.
    pub stream: Stream,
    /// When it was read from there, as it was written down: RFC 3339.
    time: Cow<'a, str>,
    /// What was printed, without the line feed.
    pub text: Cow<'a, [u8]>,
    /// Whether the line ends here, with a line feed.
    pub ends: bool,
}

impl Entry<'_> {
    /// When it was read.
    pub fn time(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// The formats that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `{"log":"text\n","stream":"stdout","time":"…"}`; a piece whose line does not end there has no `\n`.
    Json,
    /// `TIME stdout F text`, or `P` for a piece whose line does not end there.
    K8s,
}

/// Docker's record. It may have others' fields, as `attrs`.
#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

impl Format {
    /// More bytes than an encoded piece has, whose text has this many.
    pub(super) const fn longest(text: usize) -> usize {
        // `\u0001`.
        text * 6 + 128
    }

    /// Writes the time as this format has it: Docker's without trailing zeros, Podman's with all nine digits.
    pub(super) fn write_time(self, time: Timestamp, to: &mut Vec<u8>) {
        let written = match self {
            Self::Json => write!(to, "{time}"),
            Self::K8s => write!(to, "{time:.9}"),
        };
        debug_assert!(written.is_ok(), "memory takes everything");
    }

    /// Appends one line, with its line feed. `time` is what [`write_time`](Self::write_time) gave.
    pub(super) fn encode(self, time: &[u8], stream: Stream, text: &[u8], ends: bool, to: &mut Vec<u8>) {
        match self {
            Self::Json => {
                to.extend_from_slice(b"{\"log\":\"");
                escape(text, to);
                to.extend_from_slice(if ends { b"\\n\",\"stream\":\"" } else { b"\",\"stream\":\"" });
                to.extend_from_slice(stream.name().as_bytes());
                to.extend_from_slice(b"\",\"time\":\"");
                to.extend_from_slice(time);
                to.extend_from_slice(b"\"}\n");
            }
            Self::K8s => {
                to.extend_from_slice(time);
                to.push(b' ');
                to.extend_from_slice(stream.name().as_bytes());
                to.extend_from_slice(if ends { b" F " } else { b" P " });
                to.extend_from_slice(text);
                to.push(b'\n');
            }
        }
    }

    /// Reads one line, without its line feed. None: it is damaged.
    pub(super) fn decode(self, line: &[u8]) -> Option<Entry<'_>> {
        match self {
            Self::Json => {
                let Json { log, stream, time } = serde_json::from_slice(line).ok()?;
                let stream = Stream::parse(stream.as_bytes())?;
                let mut text = match log {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                };
                let ends = text.last() == Some(&b'\n');
                match &mut text {
                    Cow::Borrowed(text) if ends => *text = &text[..text.len() - 1],
                    Cow::Owned(text) if ends => _ = text.pop(),
                    _ => {}
                }
                Some(Entry { stream, time, text, ends })
            }
            Self::K8s => {
                let mut fields = line.splitn(4, |byte| *byte == b' ');
                let time = str::from_utf8(fields.next()?).ok()?;
                let stream = Stream::parse(fields.next()?)?;
                // The CRI allows more tags, after colons.
                let ends = match fields.next()?.split(|byte| *byte == b':').next()? {
                    b"F" => true,
                    b"P" => false,
                    _ => return None,
                };
                let text = Cow::Borrowed(fields.next().unwrap_or_default());
                Some(Entry { stream, time: Cow::Borrowed(time), text, ends })
            }
        }
    }
}

/// Appends text as it stands in JSON, the way Docker does it: what could mean something in HTML or JavaScript is escaped as
/// well, and each byte that is not UTF-8 becomes U+FFFD.
fn escape(mut text: &[u8], to: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    while !text.is_empty() {
        let plain = text.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(text.len());
        to.extend_from_slice(&text[..plain]);
        text = &text[plain..];
        let Some(byte) = text.first().copied() else { return };
        let taken = match byte {
            b'"' | b'\\' => {
                to.extend_from_slice(&[b'\\', byte]);
                1
            }
            b'\r' => {
                to.extend_from_slice(b"\\r");
                1
            }
            0..0x80 => {
                to.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
                1
            }
            _ => {
                let valid = character(text);
                match &text[..valid] {
                    [] => to.extend_from_slice(b"\\ufffd"),
                    [0xe2, 0x80, 0xa8] => to.extend_from_slice(b"\\u2028"),
                    [0xe2, 0x80, 0xa9] => to.extend_from_slice(b"\\u2029"),
                    character => to.extend_from_slice(character),
                }
                valid.max(1)
            }
        };
        text = &text[taken..];
    }
}

/// How many bytes the character has that begins here; 0 where there is none.
fn character(text: &[u8]) -> usize {
    let length = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return 0,
    };
    match text.get(..length) {
        Some(bytes) if str::from_utf8(bytes).is_ok() => length,
        _ => 0,
    }
}

/// The bytes that stand for themselves whatever is around them.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = !matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        byte += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use super::*;
    use rbox_fuzz::Shape;

    const TIME: &str = "2025-03-04T05:06:07.080000000Z";

    fn encoded(format: Format, text: &[u8], ends: bool) -> Vec<u8> {
        let (mut time, mut line) = (Vec::new(), Vec::new());
        format.write_time(TIME.parse().expect("a time"), &mut time);
        format.encode(&time, Stream::Stdout, text, ends, &mut line);
        assert!(line.len() <= Format::longest(text.len()));
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    #[test]
    fn lines_are_dockers_and_podmans() {
        let text = |format, text: &str, ends| String::from_utf8(encoded(format, text.as_bytes(), ends)).expect("UTF-8");
        assert_eq!(
            text(Format::Json, "hello", true),
            r#"{"log":"hello\n","stream":"stdout","time":"2025-03-04T05:06:07.08Z"}"#
        );
        assert_eq!(
            text(Format::Json, "half", false),
            r#"{"log":"half","stream":"stdout","time":"2025-03-04T05:06:07.08Z"}"#
        );
        assert_eq!(text(Format::K8s, "hello there", true), format!("{TIME} stdout F hello there"));
        assert_eq!(text(Format::K8s, "", true), format!("{TIME} stdout F "));
        assert_eq!(text(Format::K8s, "half", false), format!("{TIME} stdout P half"));
    }

    #[test]
    fn bytes_are_escaped_as_docker_does() {
        for (bytes, expected) in [
            (&b"\"\\\r\t\x00\x1b\x7f"[..], r#"\"\\\r\u0009\u0000\u001b"#.to_owned() + "\x7f"),
            (b"<a&b>", r"\u003ca\u0026b\u003e".into()),
            ("grün €\u{1f600}".as_bytes(), "grün €\u{1f600}".into()),
            ("\u{2028}\u{2029}".as_bytes(), r"\u2028\u2029".into()),
            // Each byte by itself: cut short, a surrogate, over-long, too large, a continuation.
            (b"\xe2\x82x", r"\ufffd\ufffdx".into()),
            (b"\xed\xa0\x80", r"\ufffd\ufffd\ufffd".into()),
            (b"\xc0\xaf\xf5\x80", r"\ufffd\ufffd\ufffd\ufffd".into()),
            (b"\x80a\xff", r"\ufffda\ufffd".into()),
        ] {
            let mut to = Vec::new();
            escape(bytes, &mut to);
            assert_eq!(String::from_utf8(to).expect("UTF-8"), expected);
        }
    }

    #[test]
    fn what_was_written_is_read() {
        for text in [&b""[..], b"a b  c", b"F P\\ \"x\"", "\u{1f600}\u{7}\u{2028}".as_bytes(), b" leading"] {
            for (format, ends) in [Format::Json, Format::K8s].into_iter().flat_map(|f| [(f, true), (f, false)]) {
                let line = encoded(format, text, ends);
                let entry = format.decode(&line).expect("whole");
                assert_eq!((&*entry.text, entry.ends, entry.stream), (text, ends, Stream::Stdout), "{format:?}");
                assert_eq!(entry.time(), TIME.parse().ok());
            }
        }
        // Binary stays as it is, or is replaced.
        let line = encoded(Format::K8s, b"\xff\x00\xfe", true);
        assert_eq!(&*Format::K8s.decode(&line).expect("whole").text, b"\xff\x00\xfe");
        let line = encoded(Format::Json, b"\xff\x00", true);
        assert_eq!(&*Format::Json.decode(&line).expect("whole").text, "\u{fffd}\0".as_bytes());
    }

    #[test]
    fn what_others_write_is_read() {
        // Docker's with attributes, conmon's with a local time, the CRI's with a second tag.
        let docker = br#"{"log":"x\n","stream":"stderr","attrs":{"tag":"t"},"time":"2025-03-04T05:06:07.08Z"}"#;
        let entry = Format::Json.decode(docker).expect("whole");
        assert_eq!((entry.stream, &*entry.text, entry.ends), (Stream::Stderr, &b"x"[..], true));
        let entry = Format::K8s.decode(b"2025-03-04T06:06:07.080000000+01:00 stdout P:x y z").expect("whole");
        assert_eq!((&*entry.text, entry.ends, entry.time()), (&b"y z"[..], false, TIME.parse().ok()));
        for damaged in ["", " ", "x stdout", "x stdin F y", "x stdout Q y", "\u{0}\u{0}", "{}", "[1]", "{\"log\":\"x"] {
            assert!(Format::K8s.decode(damaged.as_bytes()).is_none(), "{damaged}");
            assert!(Format::Json.decode(damaged.as_bytes()).is_none(), "{damaged}");
        }
    }

    const SEEDS: [&[u8]; 3] = [
        br#"{"log":"x\u0009y\n","stream":"stderr","attrs":{"tag":"t"},"time":"2025-03-04T05:06:07.08Z"}"#,
        b"2025-03-04T06:06:07.080000000+01:00 stdout P y z",
        b"2025-03-04T06:06:07.080000000Z stderr F:x \xff\x00",
    ];

    rbox_fuzz::target!(log_line, Shape::Bytes, SEEDS, |line: &[u8]| {
        for format in [Format::Json, Format::K8s] {
            if let Some(entry) = format.decode(line) {
                let _ = entry.time();
                assert!(entry.text.len() <= line.len());
            }
            // And as a container's output.
            let text: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'\n').collect();
            let encoded = encoded(format, &text, true);
            let read = format.decode(&encoded).expect("whole");
            match format {
                Format::K8s => assert_eq!(&*read.text, text),
                Format::Json if str::from_utf8(&text).is_ok() => assert_eq!(&*read.text, text),
                Format::Json => assert!(str::from_utf8(&read.text).is_ok()),
            }
            assert!(!encoded.contains(&b'\n'));
        }
    });
}
