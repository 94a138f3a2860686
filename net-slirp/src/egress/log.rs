//! The log: a line of JSON for each flow and each refused query, when it is over.
//!
//! ```json
//! {"time":"2025-01-02T15:04:05.678Z","proto":"tcp","sport":40000,"name":"example.com",
//!  "address":"192.0.2.1","port":443,"verdict":"allowed","sent":517,"received":4242}
//! ```
//!
//! (in one line). `time` is when it began, in UTC. What is not known or does not apply is missing: `name`, the address
//! and port of a query, the ports of an echo. `verdict` is `allowed` or `refused`, and then there is `reason`, one of
//! [`Reason::word`]. `sent` is what the guest has sent, `received` what it has got, in bytes without headers.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use super::{Protocol, Reason};

/// What a line is about.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When it began, since 1970.
    pub began: Duration,
    /// What it was.
    pub what: What,
    /// The guest's port.
    pub source_port: Option<u16>,
    /// As the guest asked for it, or as is known.
    pub name: Option<&'a str>,
    /// Where it went.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: Option<u16>,
    /// Why it was refused, if it was.
    pub refused: Option<Reason>,
    /// By the guest, in bytes.
    pub sent: u64,
    /// By the guest, in bytes.
    pub received: u64,
}

/// What was allowed or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A flow.
    Flow(Protocol),
    /// A query for a name.
    Query,
}

/// Writes one line, at once: who else appends to the same file does not get in between.
pub fn write(entry: &Entry<'_>, to: &mut impl Write) -> io::Result<()> {
    let mut line = String::new();
    line_of(entry, &mut line).map_err(io::Error::other)?;
    to.write_all(line.as_bytes())
}

fn line_of(entry: &Entry<'_>, line: &mut String) -> fmt::Result {
    let proto = match entry.what {
        What::Flow(Protocol::Tcp) => "tcp",
        What::Flow(Protocol::Udp) => "udp",
        What::Flow(Protocol::Echo) => "icmp",
        What::Query => "dns",
    };
    write!(line, r#"{{"time":"{}","proto":"{proto}""#, Time(entry.began))?;
    if let Some(port) = entry.source_port {
        write!(line, r#","sport":{port}"#)?;
    }
    if let Some(name) = entry.name {
        line.push_str(r#","name":"#);
        push_text(name, line)?;
    }
    if let Some(address) = entry.address {
        write!(line, r#","address":"{address}""#)?;
    }
    if let Some(port) = entry.port {
        write!(line, r#","port":{port}"#)?;
    }
    match entry.refused {
        None => line.push_str(r#","verdict":"allowed""#),
        Some(reason) => write!(line, r#","verdict":"refused","reason":"{}""#, reason.word())?,
    }
    writeln!(line, r#","sent":{},"received":{}}}"#, entry.sent, entry.received)
}

/// A string of JSON (RFC 8259, 7). DEL and what C1 has are escaped as well: somebody looks at it on a terminal.
fn push_text(text: &str, line: &mut String) -> fmt::Result {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => line.extend(['\\', character]),
            _ if character.is_control() => write!(line, "\\u{:04x}", u32::from(character))?,
            _ => line.push(character),
        }
    }
    line.push('"');
    Ok(())
}

/// RFC 3339, in UTC, with milliseconds.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.as_secs() / 86_400, self.0.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let millisecond = self.0.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

/// The day that is so many after 1970-01-01. Years are counted from March, so that the day that some lack is the last.
fn date(days: u64) -> (u64, u64, u64) {
    // In days: 400 years, and from 0000-03-01 until 1970.
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, of_era) = (days / ERA, days % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Five months from March on have 153 days, and so on.
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            began: Duration::from_millis(1_735_830_245_678),
            what: What::Flow(Protocol::Tcp),
            source_port: Some(40000),
            name: Some("example.com"),
            address: "192.0.2.1".parse().ok(),
            port: Some(443),
            refused: None,
            sent: 517,
            received: u64::MAX,
        }
    }

    fn line(entry: &Entry<'_>) -> String {
        let mut bytes = Vec::new();
        write(entry, &mut bytes).expect("memory");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_line_for_a_flow() {
        assert_eq!(
            line(&entry()),
            "{\"time\":\"2025-01-02T15:04:05.678Z\",\"proto\":\"tcp\",\"sport\":40000,\"name\":\"example.com\",\
             \"address\":\"192.0.2.1\",\"port\":443,\"verdict\":\"allowed\",\"sent\":517,\
             \"received\":18446744073709551615}\n"
        );
        let refused = Entry { refused: Some(Reason::ServerName), address: "2001:db8::1".parse().ok(), ..entry() };
        assert!(
            line(&refused).contains(r#""address":"2001:db8::1","port":443,"verdict":"refused","reason":"server-name""#)
        );
    }

    #[test]
    fn what_is_not_known_is_missing() {
        let query = Entry {
            what: What::Query,
            source_port: None,
            address: None,
            port: None,
            refused: Some(Reason::Name),
            sent: 0,
            received: 0,
            ..entry()
        };
        assert_eq!(
            line(&query),
            "{\"time\":\"2025-01-02T15:04:05.678Z\",\"proto\":\"dns\",\"name\":\"example.com\",\"verdict\":\"refused\",\
             \"reason\":\"name\",\"sent\":0,\"received\":0}\n"
        );
    }

    #[test]
    fn names_cannot_forge_lines() {
        let name = "a\"}\n{\"b\\\u{1b}[2J\u{7f}\u{9b}\0ü";
        let line = line(&Entry { name: Some(name), ..entry() });
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains(r#""name":"a\"}\u000a{\"b\\\u001b[2J\u007f\u009b\u0000ü","address""#), "{line}");
    }

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(Time(Duration::from_secs(seconds)).to_string(), text);
        }
    }
}
