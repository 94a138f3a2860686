//! The loop: whatever happens on the tap, on sockets or by time, one thing after the other.

use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rbox_sys::epoll::{Epoll, Ready, Watch};
use rbox_sys::fd;
use rbox_sys::rlimit::{self, Resource};
use smoltcp::wire::IpProtocol;

use crate::config::{Config, PublishedSocket};
use crate::link::Tap;
use crate::packet::{Frame, Packet};
use crate::tcp::{Failed, Tcp};
use crate::token::{Owner, Places, Token};
use crate::vnet;

/// The longest frame there is: a header of each kind before 64 KiB.
const LONGEST_FRAME: usize = vnet::LENGTH + 18 + 65535;
/// So many frames are read before sockets have their turn.
const TURN: usize = 32;
/// So many descriptors are told of at once.
const AT_A_TIME: usize = 256;
/// After so long without anything to do, memory is given back.
const QUIET: Duration = Duration::from_secs(1);
/// Descriptors that are not connections' at most.
const OTHERS: usize = 64;

/// Serves the guest at the other end of the tap until its network namespace is gone, which is when this returns.
///
/// Runs in the network namespace that connections are to come from, and takes as many of them as this process may have
/// descriptors open.
pub fn run(tap: OwnedFd, config: Config) -> io::Result<()> {
    let file = File::from(tap);
    fd::set_nonblocking(&file)?;
    let mut engine = Engine::new(config, &file)?;
    loop {
        if !engine.step(&file)? {
            return Ok(());
        }
    }
}

struct Engine {
    config: Config,
    epoll: Epoll,
    tcp: Tcp<Epoll>,
    listeners: Places<(TcpListener, u16)>,
    frame: Vec<u8>,
    ready: Vec<Ready>,
    /// There is more to do, without waiting.
    busy: bool,
    quiet: bool,
}

const TAP: Token = Token { owner: Owner::Engine, place: 0, generation: 0 };

impl Engine {
    fn new(mut config: Config, tap: &File) -> io::Result<Self> {
        let now = Instant::now();
        let epoll = Epoll::new(AT_A_TIME)?;
        epoll.add(tap, TAP.encode(), Watch::Readable)?;
        let mut listeners = Places::new();
        for published in std::mem::take(&mut config.published) {
            if let PublishedSocket::Tcp(listener) = published.socket {
                listener.set_nonblocking(true)?;
                let token = listeners.put(Owner::TcpListener, (listener, published.guest_port));
                if let Some((listener, _)) = listeners.get_mut(token) {
                    epoll.add(&*listener, token.encode(), Watch::Readable)?;
                }
            }
        }
        let most = rlimit::get(None, Resource::NOFILE)?.soft.saturating_sub(OTHERS as u64).min(1 << 20) as usize;
        Ok(Self {
            tcp: Tcp::new(config.mtu, most, now),
            config,
            epoll,
            listeners,
            frame: vec![0; LONGEST_FRAME],
            ready: Vec::with_capacity(AT_A_TIME),
            busy: false,
            quiet: false,
        })
    }

    /// Waits for something and deals with it. Says whether the guest is still there.
    fn step(&mut self, tap: &File) -> io::Result<bool> {
        self.ready.clear();
        let limit = self.limit();
        self.ready.extend(self.epoll.wait(limit)?);
        let now = Instant::now();
        if self.ready.is_empty() && !self.busy && !self.quiet {
            self.tcp.shrink();
            self.quiet = true;
        }
        let mut link = Tap::new(tap, self.config.guest_mac);
        let mut from_guest = false;
        for ready in std::mem::take(&mut self.ready) {
            self.quiet = false;
            let token = Token::decode(ready.token);
            match token.owner {
                Owner::Engine => from_guest = true,
                Owner::Tcp => {
                    let failed = self.tcp.on_ready(token, ready, now, &mut link);
                    self.report(failed);
                }
                Owner::TcpListener => self.accept(token, now, &mut link),
                Owner::Udp | Owner::Echo | Owner::Dns => {}
            }
        }
        if from_guest && !self.read_frames(tap, now, &mut link)? {
            return Ok(false);
        }
        self.tcp.on_time(now, &mut link);
        self.busy = self.tcp.go_on(now, &mut link);
        Ok(true)
    }

    /// How long to wait for anything at most.
    fn limit(&self) -> Option<Duration> {
        if self.busy {
            return Some(Duration::ZERO);
        }
        let until = self.tcp.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let quiet = (!self.quiet).then_some(QUIET);
        until.into_iter().chain(quiet).min()
    }

    /// Reads what the guest has sent; false when it is gone.
    fn read_frames(&mut self, mut tap: &File, now: Instant, link: &mut Tap<'_>) -> io::Result<bool> {
        let mut frame = std::mem::take(&mut self.frame);
        let mut there = true;
        for _ in 0..TURN {
            match tap.read(&mut frame) {
                Ok(length) => self.on_frame(&frame[..length], now, link),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // EBADFD: the device is gone, and with it the namespace.
                Err(_) => {
                    there = false;
                    break;
                }
            }
        }
        self.frame = frame;
        Ok(there)
    }

    fn on_frame(&mut self, bytes: &[u8], now: Instant, link: &mut Tap<'_>) {
        match Frame::parse(bytes) {
            Some(Frame::Packet(packet)) => self.on_packet(&packet, now, link),
            Some(Frame::Arp(_) | Frame::Fragment(_)) | None => {}
        }
    }

    fn on_packet(&mut self, packet: &Packet<'_>, now: Instant, link: &mut Tap<'_>) {
        if packet.protocol == IpProtocol::Tcp {
            let config = &self.config;
            let reach = |to: SocketAddr| Some(SocketAddr::new(config.reachable(to.ip())?, to.port()));
            let failed = self.tcp.on_packet(packet, now, link, &mut self.epoll, reach);
            self.report(failed);
        }
    }

    fn report(&mut self, _failed: Option<Failed>) {}

    /// Takes in who has connected to a published port.
    fn accept(&mut self, token: Token, now: Instant, link: &mut Tap<'_>) {
        let Some((listener, guest_port)) = self.listeners.get_mut(token) else { return };
        for _ in 0..TURN {
            let Ok((stream, from)) = listener.accept() else { return };
            let (guest, seen) = (self.config.guest(from.ip().to_canonical()), self.config.seen(from.ip()));
            let (Some(guest), Some(seen)) = (guest, seen) else { continue };
            if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                continue;
            }
            let (remote, guest) = (SocketAddr::new(seen, from.port()), SocketAddr::new(guest, *guest_port));
            self.tcp.on_incoming(stream, remote, guest, now, link, &mut self.epoll);
        }
    }
}
