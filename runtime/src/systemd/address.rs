//! Where a bus's socket is: D-Bus Specification, "Server Addresses".

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::{fmt, fs, io};

use rbox_sys::ids;
use serde::{Deserialize, Serialize};

use super::Error;

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// At a path.
    Path(String),
    /// With a name that is in no directory (unix(7), "abstract").
    Abstract(String),
}

impl Address {
    /// The system's bus.
    pub(super) fn of_system() -> Result<Self, Error> {
        let usual = || Ok(Self::Path("/run/dbus/system_bus_socket".into()));
        given("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(usual)
    }

    /// The bus behind which the systemd is that this process asks for cgroups: root's is the system's.
    pub fn of_caller() -> Result<Self, Error> {
        if ids::is_root_of_host() { Self::of_system() } else { Self::of_user() }
    }

    /// The bus of this user's session.
    pub(super) fn of_user() -> Result<Self, Error> {
        let usual = || match std::env::var("XDG_RUNTIME_DIR") {
            Ok(dir) if !dir.is_empty() => Ok(Self::Path(format!("{dir}/bus"))),
            _ => Self::where_it_lingers(Path::new("/run/user"), ids::uid()),
        };
        given("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(usual)
    }

    /// That of a user who lingers (loginctl(1)), of a process that is of no session and has not been told of it, as cron's.
    fn where_it_lingers(users: &Path, uid: u32) -> Result<Self, Error> {
        let socket = users.join(uid.to_string()).join("bus");
        match fs::symlink_metadata(&socket) {
            Ok(there) if there.uid() == uid => Ok(Self::Path(socket.display().to_string())),
            _ => Err(Error::NoBus(format!(
                "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set, and there is no {}",
                socket.display()
            ))),
        }
    }

    /// The first Unix socket of a list of addresses.
    fn parse(addresses: &str) -> Option<Self> {
        addresses.split(';').find_map(|address| {
            let pairs = address.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
            pairs.filter_map(|(key, value)| Some((key, unescape(value)?))).find_map(|(key, value)| match key {
                "path" => Some(Self::Path(value)),
                "abstract" => Some(Self::Abstract(value)),
                _ => None,
            })
        })
    }

    /// Connects to it.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Self::Path(path) => UnixStream::connect(path),
            Self::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        }
    }
}

/// As ss(8) writes it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

fn given(variable: &str) -> Option<Result<Address, Error>> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty())?;
    let none = || Error::NoBus(format!("{variable} names no Unix socket: {value:?}"));
    Some(Address::parse(&value).ok_or_else(none))
}

/// `%2f` is a byte.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path = |path: &str| Some(Address::Path(path.into()));
        for (text, address) in [
            ("unix:path=/run/bus", path("/run/bus")),
            ("unix:path=/a%20b%2cc,guid=0123", path("/a b,c")),
            ("tcp:host=x,port=1;unix:guid=1,path=/b", path("/b")),
            ("unix:abstract=/tmp/dbus-x", Some(Address::Abstract("/tmp/dbus-x".into()))),
            ("unix:tmpdir=/tmp", None),
            ("unix:path=/a%2", None),
            ("", None),
        ] {
            assert_eq!(Address::parse(text), address, "{text}");
        }
    }

    #[test]
    fn a_bus_of_who_is_in_no_session() {
        let users = tempfile::tempdir().expect("a temporary directory");
        let found = |uid| Address::where_it_lingers(users.path(), uid).map_err(|error| error.to_string());
        let uid = ids::uid();
        assert!(found(uid).expect_err("nothing is there").contains("there is no "));
        let own = users.path().join(uid.to_string());
        fs::create_dir(&own).expect("mkdir");
        let _socket = std::os::unix::net::UnixListener::bind(own.join("bus")).expect("bound");
        assert_eq!(found(uid), Ok(Address::Path(own.join("bus").display().to_string())));
        // What somebody else has put there is not asked.
        fs::rename(&own, users.path().join("77")).expect("renamed");
        if uid != 77 {
            found(77).expect_err("it is not that user's");
        }
    }
}
