//! Whom the host asks for names: resolv.conf(5).

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rbox_sys::datagram;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvConf {
    /// At least one.
    pub(crate) servers: Vec<SocketAddr>,
    /// How long each is given to answer.
    pub(crate) timeout: Duration,
    /// How often all of them are asked.
    pub(crate) attempts: usize,
}

/// The file, which others replace when the host's network becomes another one.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    /// Where the servers are asked: 53, but for tests.
    port: u16,
    looked: Option<Instant>,
    stamp: Option<Stamp>,
    conf: ResolvConf,
}

/// Device, inode, length and time of the last change, which no replacement shares with what was there before.
type Stamp = (u64, u64, u64, i64, i64);

/// MAXNS, RES_MAXRETRANS and RES_MAXRETRY in glibc's resolv.h.
const MOST_SERVERS: usize = 3;
const LONGEST_TIMEOUT: u64 = 30;
const MOST_ATTEMPTS: usize = 5;
/// Much more than anybody writes into it.
const LONGEST: u64 = 1 << 16;

const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Watched {
    pub(crate) fn new(path: &Path, port: u16) -> Self {
        Self { path: path.to_owned(), port, looked: None, stamp: None, conf: ResolvConf::parse("", port, |_| None) }
    }

    /// What it says now, or has said a second ago. A file that is not there is as one that says nothing.
    pub(crate) fn current(&mut self, now: Instant) -> &ResolvConf {
        if self.looked.is_none_or(|looked| now >= looked + LOOK_AGAIN) {
            self.looked = Some(now);
            self.look();
        }
        &self.conf
    }

    fn look(&mut self) {
        let stamp = std::fs::metadata(&self.path).ok().map(|file| {
            let (seconds, nanoseconds) = (file.mtime(), file.mtime_nsec());
            (file.dev(), file.ino(), file.len(), seconds, nanoseconds)
        });
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
        if read.is_err() {
            bytes.clear();
        }
        let text = String::from_utf8_lossy(&bytes);
        self.conf = ResolvConf::parse(&text, self.port, |zone| datagram::interface(zone).ok());
    }
}

impl ResolvConf {
    /// `interface` gives the number of a network device.
    fn parse(text: &str, port: u16, interface: impl Fn(&str) -> Option<u32>) -> Self {
        let (mut servers, mut timeout, mut attempts) = (Vec::new(), 5, 2);
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if servers.len() < MOST_SERVERS => {
                    servers.extend(words.next().and_then(|word| server(word, port, &interface)));
                }
                Some("options") => {
                    for word in words {
                        let Some((name, number)) = word.split_once(':') else { continue };
                        match (name, number.parse()) {
                            ("timeout", Ok(number)) => timeout = number,
                            ("attempts", Ok(number)) => attempts = number,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if servers.is_empty() {
            servers.push((Ipv4Addr::LOCALHOST, port).into());
        }
        Self {
            servers,
            timeout: Duration::from_secs(timeout.clamp(1, LONGEST_TIMEOUT)),
            attempts: usize::try_from(attempts).unwrap_or(MOST_ATTEMPTS).clamp(1, MOST_ATTEMPTS),
        }
    }
}

/// An address, that of a link with its zone (RFC 4007, 11).
fn server(word: &str, port: u16, interface: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, zone)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, port));
    };
    let scope = zone.parse().ok().or_else(|| interface(zone))?;
    Some(SocketAddrV6::new(address.parse().ok()?, port, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, 53, |zone| (zone == "eth0").then_some(7))
    }

    fn servers(text: &str) -> Vec<String> {
        parse(text).servers.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn who_is_asked() {
        assert_eq!(servers("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch a b\n"), ["127.0.0.53:53"]);
        assert_eq!(
            servers(
                "# nameserver 1.1.1.1\nnameserver\t192.0.2.1 # the first\n;nameserver 2.2.2.2\nnameserver 2001:db8::1"
            ),
            ["192.0.2.1:53", "[2001:db8::1]:53"]
        );
        assert_eq!(
            servers("nameserver fe80::1%eth0\nnameserver fe80::2%3\nnameserver fe80::3%eth9"),
            ["[fe80::1%7]:53", "[fe80::2%3]:53"]
        );
        assert_eq!(servers(&"nameserver 192.0.2.1\n".repeat(9)).len(), 3);
        for nothing in ["", "nameserver", "nameserver example.org", "nameserver 1.2.3.4%eth0", "nameservers 1.2.3.4"] {
            assert_eq!(servers(nothing), ["127.0.0.1:53"], "{nothing}");
        }
    }

    #[test]
    fn how_often_and_how_long() {
        let (conf, asked) = (parse("options rotate timeout:1 attempts:4"), parse("options timeout:900 attempts:99"));
        assert_eq!((conf.timeout.as_secs(), conf.attempts), (1, 4));
        assert_eq!((asked.timeout.as_secs(), asked.attempts), (30, 5));
        let conf = parse("options timeout:0 attempts:x\noptions attempts:0");
        assert_eq!((conf.timeout.as_secs(), conf.attempts), (1, 1));
        assert_eq!((parse("").timeout.as_secs(), parse("").attempts), (5, 2));
    }

    #[test]
    fn it_is_read_when_it_is_another_one() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("resolv.conf");
        let (mut now, mut watched) = (Instant::now(), Watched::new(&path, 53));
        let first = |watched: &mut Watched, now| watched.current(now).servers[0].ip().to_string();
        assert_eq!(first(&mut watched, now), "127.0.0.1");
        std::fs::write(&path, "nameserver 192.0.2.1\n")?;
        assert_eq!(first(&mut watched, now), "127.0.0.1", "not twice a second");
        now += LOOK_AGAIN;
        assert_eq!(first(&mut watched, now), "192.0.2.1");
        // As a link that leads to another file, as systemd-resolved and others have it.
        std::fs::write(dir.path().join("vpn"), "nameserver 192.0.2.2\n")?;
        std::os::unix::fs::symlink("vpn", dir.path().join("link"))?;
        std::fs::rename(dir.path().join("link"), &path)?;
        now += LOOK_AGAIN;
        assert_eq!(first(&mut watched, now), "192.0.2.2");
        std::fs::remove_file(&path)?;
        now += LOOK_AGAIN;
        assert_eq!(first(&mut watched, now), "127.0.0.1");
        Ok(())
    }
}
