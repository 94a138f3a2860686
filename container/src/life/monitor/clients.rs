//! Those who are attached: each gets all that the workload prints from then on, and any may give it input.
//!
//! Nothing is lost to a client that reads, and nothing piles up for one that does not: the workload's output is read on
//! only when all clients have taken what was read before. One that takes nothing for [`PATIENCE`] is left behind.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rbox_sys::fd;
use rbox_sys::poll::{self, Interest};
use rbox_sys::socket::Channel;

use crate::life::attach::frames::{Frame, LONGEST};

/// How long a client may keep the workload waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket and whoever has connected to it.
pub(super) struct Clients {
    socket: OwnedFd,
    clients: Vec<Client>,
}

struct Client {
    channel: Channel,
    /// What it has not taken yet, and since when.
    waiting: Option<(Vec<u8>, Instant)>,
    gone: bool,
}

impl Clients {
    /// For those who connect to `socket`.
    pub(super) fn of(socket: OwnedFd) -> io::Result<Self> {
        fd::set_nonblocking(&socket)?;
        Ok(Self { socket, clients: Vec::new() })
    }

    /// Whether all have taken what there was for them.
    pub(super) fn are_ready(&self) -> bool {
        self.clients.iter().all(|client| client.waiting.is_none())
    }

    /// Waits until they are, or have been waited for long enough; says whether they are. What they say is not heard.
    pub(super) fn wait_until_ready(&mut self) -> bool {
        while !self.are_ready() {
            let waited: Vec<_> = self.interests(false).collect();
            let Ok(ready) = poll::wait_all(&waited, self.patience()) else { return false };
            drop(waited);
            self.serve(&ready, |_| {});
        }
        true
    }

    /// How long until one has been waited for long enough.
    pub(super) fn patience(&self) -> Option<Duration> {
        let since = self.clients.iter().filter_map(|client| Some(client.waiting.as_ref()?.1)).min()?;
        Some((since + PATIENCE).saturating_duration_since(Instant::now()))
    }

    /// What is to be waited for: the socket, and of each client its input, if that is wanted, and room for output.
    pub(super) fn interests(&self, wants_input: bool) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        let input = if wants_input { Interest::Read } else { Interest::None };
        let clients = self.clients.iter().flat_map(move |client| {
            let output = if client.waiting.is_some() { Interest::Write } else { Interest::None };
            [(client.channel.as_fd(), input), (client.channel.as_fd(), output)]
        });
        std::iter::once((self.socket.as_fd(), Interest::Read)).chain(clients)
    }

    /// Deals with what [`interests`](Self::interests) were found ready; hands on what clients say.
    pub(super) fn serve(&mut self, ready: &[bool], mut said: impl FnMut(Frame<'_>)) {
        let mut buffer = [0; 1 + LONGEST];
        let (new, ready) = ready.split_first().map_or((false, ready), |(first, rest)| (*first, rest));
        for (client, ready) in self.clients.iter_mut().zip(ready.chunks(2)) {
            if ready[1] {
                client.flush();
            }
            if ready[0] {
                client.listen(&mut buffer, &mut said);
            }
        }
        for client in &mut self.clients {
            client.gone |= client.waiting.as_ref().is_some_and(|(_, since)| since.elapsed() >= PATIENCE);
        }
        self.clients.retain(|client| !client.gone);
        if new {
            self.accept();
        }
    }

    /// Sends to all of them.
    pub(super) fn tell(&mut self, frame: Frame<'_>) {
        if self.clients.is_empty() {
            return;
        }
        let message = frame.encode();
        for client in &mut self.clients {
            client.waiting = Some((message.clone(), Instant::now()));
            client.flush();
        }
        self.clients.retain(|client| !client.gone);
    }

    /// Takes in those who have connected.
    pub(super) fn accept(&mut self) {
        while let Ok(channel) = Channel::accept(&self.socket) {
            if fd::set_nonblocking(&channel).is_ok() {
                self.clients.push(Client { channel, waiting: None, gone: false });
            }
        }
    }
}

impl Client {
    fn flush(&mut self) {
        let Some((message, since)) = self.waiting.take() else { return };
        match self.channel.send(&message, &[]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.waiting = Some((message, since)),
            Err(_) => self.gone = true,
        }
    }

    fn listen(&mut self, buffer: &mut [u8], said: &mut impl FnMut(Frame<'_>)) {
        match self.channel.receive(buffer) {
            Ok((0, _)) => self.gone = true,
            Ok((length, _)) => match Frame::decode(&buffer[..length]) {
                Ok(frame) => said(frame),
                Err(_) => self.gone = true,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.gone = true,
        }
    }
}
