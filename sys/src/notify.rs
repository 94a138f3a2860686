//! What a service says to the service manager that has started it: sd_notify(3), "Notes".

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::poll::{self, Interest};

/// The variable that names the manager's socket.
pub const SOCKET: &str = "NOTIFY_SOCKET";

/// Sends one message, a `NAME=value` a line, to the socket with this name: a path, or `@` and an abstract one (unix(7)).
/// A manager whose socket is full is not waited for: that is EAGAIN.
pub fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    send_with(socket, message, &[])
}

/// Waits until the manager has acted on what was sent before, for `limit` at most: sd_notify_barrier(3). Gives whether it
/// has; one that knows nothing of this, and drops the message, seems to have.
pub fn barrier(socket: &OsStr, limit: Duration) -> io::Result<bool> {
    let (ours, theirs) = io::pipe()?;
    send_with(socket, "BARRIER=1", &[theirs.as_fd()])?;
    drop(theirs);
    let [closed] = poll::wait([(ours.as_fd(), Interest::Read)], Some(limit))?;
    Ok(closed)
}

fn send_with(socket: &OsStr, message: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        [b'/', ..] => SocketAddrUnix::new(socket)?,
        // vsock, and whatever else there will be.
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor an abstract name")),
    };
    let ours = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg_addr(&ours, &address, &[IoSlice::new(message.as_bytes())], &mut control, flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::thread;

    fn heard(there: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = there.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_names() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let there = UnixDatagram::bind(&path).expect("bound");
        send(path.as_os_str(), "READY=1").expect("sent");
        assert_eq!(heard(&there), "READY=1");

        let name = format!("rbox-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let there = UnixDatagram::bind_addr(&address).expect("bound");
        send(OsStr::new(&format!("@{name}")), "MAINPID=1\nREADY=1").expect("sent");
        assert_eq!(heard(&there), "MAINPID=1\nREADY=1");
    }

    #[test]
    fn the_barrier_falls_when_it_was_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let there = UnixDatagram::bind(&path).expect("bound");
        assert!(!barrier(path.as_os_str(), Duration::from_millis(10)).expect("sent"), "nobody has read it");
        let reader = thread::spawn(move || [heard(&there), heard(&there)]);
        assert!(barrier(path.as_os_str(), Duration::from_secs(60)).expect("sent"));
        assert_eq!(reader.join().expect("read"), ["BARRIER=1", "BARRIER=1"]);
    }

    #[test]
    fn what_is_not_there_is_told() {
        for (socket, kind) in [
            ("/nowhere/notify", io::ErrorKind::NotFound),
            ("@rbox-test-nobody", io::ErrorKind::ConnectionRefused),
            ("vsock:2:1", io::ErrorKind::Unsupported),
            ("", io::ErrorKind::Unsupported),
        ] {
            assert_eq!(send(OsStr::new(socket), "READY=1").expect_err(socket).kind(), kind, "{socket}");
        }
    }
}
