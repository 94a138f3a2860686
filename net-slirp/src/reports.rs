//! Sockets of datagrams that are told what became of those: the errors that come back are the guest's to hear.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rbox_sys::errqueue::{self, Report};

/// How many errors one socket gives before it is others' turn.
const AT_A_TIME: usize = 32;

/// Sends. One that was sent before may have failed, of which the socket tells now: then `report` takes that, and it is tried
/// once more.
pub(crate) fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr, report: impl FnOnce()) -> io::Result<()> {
    match socket.send_to(bytes, to) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        Err(_) => {
            report();
            socket.send_to(bytes, to).map(drop)
        }
    }
}

/// Takes what the network has said of what the socket has sent, with as much of that as was quoted.
pub(crate) fn take(socket: &UdpSocket, mut tell: impl FnMut(&Report, &[u8])) {
    for _ in 0..AT_A_TIME {
        let mut quoted = [0; 1024];
        match errqueue::take(socket, &mut quoted) {
            Ok(Some(report)) => tell(&report, &quoted[..report.length]),
            Ok(None) => {}
            Err(_) => return,
        }
    }
}
