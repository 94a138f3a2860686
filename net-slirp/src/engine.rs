//! The loop: whatever happens on the tap, on sockets or by time, one thing after the other.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rbox_sys::epoll::{Epoll, Ready, Watch};
use rbox_sys::rlimit::{self, Resource};
use rbox_sys::{fd, heap, text};
use smoltcp::wire::IpProtocol;

use crate::budget::Budget;
use crate::config::{Config, HostAddresses, PublishedSocket};
use crate::context::Context;
use crate::dns::{self, Dns};
use crate::echo::Echo;
use crate::egress::client_hello::LONGEST;
use crate::egress::{Egress, Look, Name, Protocol, Refusals, Verdict, look};
use crate::flow_log::{Flow, FlowLog};
use crate::fragments::Fragments;
use crate::frames::{self, Frames};
use crate::icmp::{self, Unreachable};
use crate::link::Tap;
use crate::neighbours;
use crate::packet::{Frame, Packet};
use crate::patience::Patience;
use crate::rate::Bucket;
use crate::tcp::{Ends, Event, Failed, Reach, Run, Tcp};
use crate::token::{Owner, Token};
use crate::udp::Udp;

#[cfg(test)]
mod fuzz;

/// The most connections there are. Each is a socket of the host's, whose kernel is not to be filled by one guest.
const MOST: u64 = 1 << 17;
/// So many frames are read before sockets have their turn.
const TURN: usize = 32;
/// So many bytes are many to be sent to the guest at once.
const MUCH: u64 = 1 << 14;
/// So many descriptors are told of at once.
const AT_A_TIME: usize = 256;
/// After so long without anything to do, memory is given back.
const QUIET: Duration = Duration::from_secs(1);
/// Descriptors that are not for connections: at most so many.
const RESERVED: u64 = 64;

/// Serves the guest at the other end of the tap until its network namespace is gone, or [`Config::end`] says so, which is when
/// this returns.
///
/// Runs in the network namespace that connections are to come from, and takes as many of them as this process may have
/// descriptors open.
pub fn run(tap: OwnedFd, config: Config) -> io::Result<()> {
    let file = File::from(tap);
    fd::set_nonblocking(&file)?;
    let mut engine = Engine::new(config, &file)?;
    while engine.step(&file)? {}
    engine.finish();
    Ok(())
}

struct Engine {
    config: Config,
    epoll: Epoll,
    tcp: Tcp<Epoll>,
    others: Others,
    egress: Egress,
    patience: Patience,
    log: FlowLog,
    refusals: Refusals,
    errors: Budget,
    frames: Frames,
    buffer: Vec<u8>,
    ready: Vec<Ready>,
    /// What limits both ways, where something does.
    inward: Option<Bucket>,
    outward: Option<Bucket>,
    /// There is something for the guest that may not be sent yet.
    is_slowed: bool,
    /// The tap is not told of, since what it has may not be moved yet.
    holds_back: bool,
    /// The last thing that happened was that the guest had sent something.
    guest_spoke: bool,
    /// There is more to do, without waiting.
    busy: bool,
    /// Much was moved the last time: then there will be more at once the longer it is not looked for.
    much: bool,
    /// When something has happened last, other than that time has passed.
    active: Instant,
    rest: Rest,
}

/// Whether memory that is not needed while nothing happens has been given back since something has.
#[derive(PartialEq)]
enum Rest {
    Not,
    Due,
    Taken,
}

/// All protocols but TCP, which has its own ways.
struct Others {
    udp: Udp,
    echo: Echo,
    dns: Dns,
    fragments: Fragments,
}

const TAP: Token = Token { owner: Owner::Engine, place: 0, generation: 0 };
const END: Token = Token { place: 1, ..TAP };

impl Engine {
    fn new(mut config: Config, tap: &File) -> io::Result<Self> {
        let epoll = Epoll::new(AT_A_TIME)?;
        epoll.add(tap, TAP.encode(), Watch::Readable)?;
        for (published, place) in config.published.iter().zip(0..) {
            if let PublishedSocket::Tcp(listener) = &published.socket {
                let token = Token { owner: Owner::TcpListener, place, generation: 0 };
                epoll.add(listener, token.encode(), Watch::Readable)?;
            }
        }
        let files = rlimit::get(None, Resource::NOFILE)?.soft;
        let most = files.saturating_sub(RESERVED).min(MOST) as usize;
        let dns = Dns::new(&config.resolv_conf);
        if let Some(end) = &config.end {
            epoll.add(end, END.encode(), Watch::Readable)?;
        }
        let (egress, rate) = (egress(&mut config), config.rate);
        let log = FlowLog::new(config.log.take());
        let mut tcp = Tcp::new(config.mtu, most, Instant::now());
        if log.is_on() {
            tcp.keep_events();
        }
        let mut engine = Self {
            tcp,
            config,
            epoll,
            others: Others { udp: Udp::new(), echo: Echo::new(), dns, fragments: Fragments::new() },
            egress,
            patience: Patience::default(),
            log,
            refusals: Refusals::default(),
            errors: icmp::budget(),
            frames: Frames::default(),
            buffer: Vec::new(),
            ready: Vec::with_capacity(AT_A_TIME),
            inward: rate.inward.map(|rate| Bucket::new(rate, Instant::now())),
            outward: rate.outward.map(|rate| Bucket::new(rate, Instant::now())),
            is_slowed: false,
            holds_back: false,
            guest_spoke: false,
            busy: false,
            much: false,
            active: Instant::now(),
            rest: Rest::Not,
        };
        let (now, mut link) = (Instant::now(), engine.link(tap));
        engine.with(now, &mut link, |others, cx| others.udp.start(cx))?;
        Ok(engine)
    }

    fn link<'a>(&self, tap: &'a File) -> Tap<'a> {
        Tap::new(tap, self.config.guest_mac)
    }

    /// Waits for something and deals with it. Says whether the guest is still there.
    fn step(&mut self, tap: &File) -> io::Result<bool> {
        let limit = self.limit();
        let mut told = std::mem::take(&mut self.ready);
        let rests = self.rest == Rest::Due;
        if rests {
            self.give_back();
        }
        if limit == Some(Duration::ZERO) || self.much || rests {
            told.extend(self.epoll.wait(limit)?);
        } else {
            self.patience.wait(&mut self.epoll, limit, &mut told)?;
        }
        Ok(self.deal_with(told, Instant::now(), tap))
    }

    /// Gives back the memory that is of no use while nothing happens.
    fn give_back(&mut self) {
        (self.frames, self.buffer) = (Frames::default(), Vec::new());
        self.tcp.shrink();
        self.others.shrink();
        self.log.shrink();
        heap::give_back();
        // The last: what is run from here on counts as in use again. That all of it does is no reason to stop.
        let _ = text::forget();
        self.rest = Rest::Taken;
    }

    /// Deals with what was told, and with what is due.
    fn deal_with(&mut self, mut told: Vec<Ready>, now: Instant, tap: &File) -> bool {
        let mut link = self.link(tap);
        if let Some(bucket) = &mut self.inward {
            link = link.with_limit(bucket.left(now));
        }
        self.much = false;
        if !told.is_empty() || self.busy {
            (self.active, self.rest) = (now, Rest::Not);
        } else if self.next_deadline().is_some_and(|at| at <= now) {
            // What is over by time leaves memory, too.
            self.rest = Rest::Not;
        } else if self.rest == Rest::Not && now >= self.active + QUIET {
            self.rest = Rest::Due;
        }
        let mut guest_speaks = false;
        for ready in told.drain(..) {
            let token = Token::decode(ready.token);
            match token.owner {
                Owner::Engine if token == END => return false,
                Owner::Engine => guest_speaks = true,
                Owner::Tcp => {
                    let failed = self.tcp.on_ready(token, ready, now, &mut link);
                    self.report(failed, now, &mut link);
                }
                Owner::TcpListener => self.accept(token.place, now, &mut link),
                Owner::Udp => self.with(now, &mut link, |others, cx| others.udp.on_ready(token, ready, cx)),
                Owner::Echo => self.with(now, &mut link, |others, cx| others.echo.on_ready(token, ready, cx)),
                Owner::Dns => self.with(now, &mut link, |others, cx| others.dns.on_ready(token, ready, cx)),
            }
        }
        self.ready = told;
        // Whether there is another one, who waits is told anyway: only where the guest goes on speaking it is asked.
        let turns = if self.guest_spoke { TURN } else { 1 };
        guest_speaks |= self.holds_back && self.may_read(now) > 0;
        if guest_speaks && !self.read_frames(tap, turns, now, &mut link) {
            return false;
        }
        self.guest_spoke = guest_speaks;
        self.tcp.on_time(now, &mut link);
        if self.others.next_deadline().is_some_and(|at| at <= now) {
            self.with(now, &mut link, Others::on_time);
        }
        let is_there = self.go_on(tap, now, &mut link);
        self.note(now);
        if let Some(bucket) = &mut self.inward {
            bucket.take(link.sent());
        }
        is_there && self.watch_tap(tap, now).is_ok()
    }

    /// How many bytes of what the guest sends may be read.
    fn may_read(&mut self, now: Instant) -> u64 {
        self.outward.as_mut().map_or(u64::MAX, |bucket| bucket.left(now))
    }

    /// Does not wait for frames that may not be read yet.
    fn watch_tap(&mut self, tap: &File, now: Instant) -> io::Result<()> {
        let holds_back = self.may_read(now) == 0;
        if holds_back != self.holds_back {
            match holds_back {
                true => self.epoll.remove(tap)?,
                false => self.epoll.add(tap, TAP.encode(), Watch::Readable)?,
            }
            self.holds_back = holds_back;
        }
        Ok(())
    }

    /// Has connections do what is due, in turn; false when the guest is gone.
    fn go_on(&mut self, tap: &File, now: Instant, link: &mut Tap<'_>) -> bool {
        for _ in 0..self.tcp.due().max(TURN) {
            let (Self { tcp, egress, log, .. }, left) = (&mut *self, link.left());
            // As of when it began: who was let in by a name may take his time to say which.
            let judge = |ends: &Ends, begun, bytes: &[u8], ended| judge(egress, log, ends, bytes, ended, begun);
            match tcp.go_on(now, link, left, judge) {
                None => break,
                // The guest answers before the write to it returns. Heard at once, it needs few buffers, and those are in
                // the processor's caches.
                Some(sent) if sent >= MUCH => {
                    self.much = true;
                    if !self.read_frames(tap, TURN, now, link) {
                        return false;
                    }
                }
                Some(_) => {}
            }
        }
        // Who may send nothing has nothing to do at once, whatever there is.
        self.busy = self.tcp.is_busy() && link.left() > 0;
        self.is_slowed = self.tcp.is_busy() && link.left() == 0;
        true
    }

    /// Writes down what others are to know of what has happened.
    fn note(&mut self, now: Instant) {
        for event in self.tcp.events() {
            match event {
                Event::Began(ends) => self.log.began(flow(&ends), self.egress.name(ends.remote.ip(), now)),
                Event::Over(ends, [sent, received]) => self.log.over(&flow(&ends), sent, received),
            }
        }
        if self.log.next_deadline().is_some_and(|at| at <= now) {
            self.log.on_time(now);
        }
        if self.refusals != *self.egress.refusals() {
            self.refusals = *self.egress.refusals();
            // A disk that is full is no reason to let the guest go anywhere, nor to cut it off.
            let _ = self.config.refusals.as_ref().map(|file| self.refusals.write(file));
        }
    }

    fn finish(&mut self) {
        self.tcp.end_all();
        self.note(Instant::now());
        self.log.finish();
    }

    /// How long to wait for anything at most.
    fn limit(&self) -> Option<Duration> {
        if self.busy {
            return Some(Duration::ZERO);
        }
        let rest = (self.rest == Rest::Not).then(|| self.active + QUIET);
        let next = self.next_deadline().into_iter().chain(rest).min();
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let inward = self.inward.as_ref().filter(|_| self.is_slowed).and_then(Bucket::next);
        let outward = self.outward.as_ref().filter(|_| self.holds_back).and_then(Bucket::next);
        let all = [self.tcp.next_deadline(), self.others.next_deadline(), self.log.next_deadline(), inward, outward];
        all.into_iter().flatten().min()
    }

    /// Reads at most so many frames of what the guest has sent; false when it is gone.
    fn read_frames(&mut self, tap: &File, most: usize, now: Instant, link: &mut Tap<'_>) -> bool {
        let (mut frames, mut left, mut there) = (std::mem::take(&mut self.frames), most, true);
        while left > 0 {
            let may_read = self.may_read(now);
            if may_read == 0 {
                break;
            }
            let at_once = left.min(usize::try_from(may_read / frames::LONGEST as u64).unwrap_or(left).max(1));
            let read = frames.read(tap, at_once);
            if let Some(bucket) = &mut self.outward {
                bucket.take(frames.iter().map(|frame| frame.len() as u64).sum());
            }
            let mut run = Run::default();
            for frame in frames.iter() {
                self.much |= frame.len() >= frames::SHORT;
                self.on_frame(frame, &mut run, now, link);
            }
            self.tcp.end_run(&mut run, now, link);
            left -= frames.len();
            match read {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => {
                    there = false;
                    break;
                }
            }
        }
        self.frames = frames;
        there
    }

    fn on_frame<'a>(&mut self, bytes: &'a [u8], run: &mut Run<'a>, now: Instant, link: &mut Tap<'_>) {
        match Frame::parse(bytes) {
            Some(Frame::Packet(packet)) => self.on_packet(&packet, run, now, link),
            Some(Frame::Fragment(fragment)) => {
                if let Some(whole) = self.others.fragments.on_fragment(&fragment, now)
                    && let Some(packet) = whole.packet()
                {
                    self.tcp.end_run(run, now, link);
                    let mut alone = Run::default();
                    self.on_packet(&packet, &mut alone, now, link);
                    self.tcp.end_run(&mut alone, now, link);
                }
            }
            Some(Frame::Arp(body)) => self.with(now, link, |_, cx| neighbours::on_arp(body, cx)),
            None => {}
        }
    }

    fn on_packet<'a>(&mut self, packet: &Packet<'a>, run: &mut Run<'a>, now: Instant, link: &mut Tap<'_>) {
        if packet.protocol != IpProtocol::Tcp {
            return self.with(now, link, |others, cx| others.on_packet(packet, cx));
        }
        let Self { config, others, egress, log, .. } = self;
        if !config.is_guest(packet.source) {
            return;
        }
        let reach = |ends: &Ends| {
            let to = ends.remote;
            let asks = config.is_dns(to.ip());
            let outside = match asks {
                true => others.dns.resolver_for_tcp(now).filter(|_| to.port() == dns::PORT),
                false => config.reachable(to.ip()).map(|address| SocketAddr::new(address, to.port())),
            };
            let Some(outside) = outside else { return Reach::Nowhere };
            match if asks { egress.dns_by_tcp() } else { egress.may_connect(Protocol::Tcp, to, now) } {
                Verdict::Allowed => Reach::To(outside),
                Verdict::NeedsName => Reach::Judged(outside),
                Verdict::Refused(reason) => {
                    log.refused(&flow(ends), || egress.name(to.ip(), now), reason, 0, now);
                    Reach::Nowhere
                }
            }
        };
        let failed = self.tcp.on_packet(packet, run, now, link, &mut self.epoll, reach);
        self.report(failed, now, link);
    }

    /// Tells the guest why the host could not connect.
    fn report(&mut self, failed: Option<Failed>, now: Instant, link: &mut Tap<'_>) {
        let Some(Failed { began_with, error }) = failed else { return };
        // Of what has no such error, such as a time that is over, the guest finds out by itself.
        let (Some(why), Some(Frame::Packet(packet))) = (Unreachable::of(&error), Frame::parse_ip(&began_with, true))
        else {
            return;
        };
        self.with(now, link, |_, cx| icmp::unreachable(why, &packet, cx));
    }

    /// Takes in who has connected to a published port.
    fn accept(&mut self, place: u32, now: Instant, link: &mut Tap<'_>) {
        let Some(published) = self.config.published.get(place as usize) else { return };
        let PublishedSocket::Tcp(listener) = &published.socket else { return };
        for _ in 0..TURN {
            let Ok((stream, from)) = listener.accept() else { return };
            let Some(seen) = self.config.seen(from.ip()) else { continue };
            let Some(guest) = self.config.guest(seen) else { continue };
            if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                continue;
            }
            let (remote, guest) = (SocketAddr::new(seen, from.port()), SocketAddr::new(guest, published.guest_port));
            self.tcp.on_incoming(stream, remote, guest, now, link, &mut self.epoll);
        }
    }

    fn with<R>(&mut self, now: Instant, link: &mut Tap<'_>, act: impl FnOnce(&mut Others, &mut Context<'_>) -> R) -> R {
        let Self { config, epoll, others, egress, log, errors, buffer, .. } = self;
        buffer.resize(frames::LONGEST, 0);
        act(others, &mut Context { now, config, link, epoll, egress, log, errors, buffer })
    }
}

/// The rules, which know what is answered here.
fn egress(config: &mut Config) -> Egress {
    let mut egress = Egress::new(std::mem::take(&mut config.egress), config);
    let HostAddresses { v4, v6 } = config.host;
    for name in dns::HOST_NAMES.iter().filter_map(|name| name.parse::<Name>().ok()) {
        for address in v4.map(IpAddr::from).into_iter().chain(v6.map(IpAddr::from)) {
            egress.add_ours(name.clone(), address);
        }
    }
    egress
}

/// What the first bytes of a connection have shown.
fn judge(egress: &mut Egress, log: &mut FlowLog, ends: &Ends, bytes: &[u8], ended: bool, now: Instant) -> Verdict {
    let seen = look(bytes);
    let verdict = match egress.hello(ends.remote, &seen, now) {
        // Nothing at all is not TLS: who only listens may end his own side.
        Verdict::NeedsName if ended && bytes.is_empty() => egress.hello(ends.remote, &Look::NotTls, now),
        // A beginning of TLS without an end is as good as no name.
        Verdict::NeedsName if ended || bytes.len() > LONGEST => egress.hello(ends.remote, &Look::Name(None), now),
        verdict => verdict,
    };
    let name = || match &seen {
        Look::Name(name) => name.as_ref().and_then(|name| name.parse().ok()),
        Look::NeedMore | Look::NotTls => None,
    };
    match verdict {
        Verdict::NeedsName => {}
        Verdict::Allowed => log.judged(&flow(ends), name, None),
        Verdict::Refused(reason) => log.judged(&flow(ends), name, Some(reason)),
    }
    verdict
}

/// As the log has it.
fn flow(ends: &Ends) -> Flow {
    Flow { protocol: Protocol::Tcp, guest: ends.guest, outside: ends.remote }
}

impl Others {
    fn on_packet(&mut self, packet: &Packet<'_>, cx: &mut Context<'_>) {
        match packet.protocol {
            IpProtocol::Udp if cx.config.is_dns(packet.destination) => self.dns.on_packet(packet, cx),
            IpProtocol::Udp => self.udp.on_packet(packet, cx),
            IpProtocol::Icmp => self.echo.on_packet(packet, cx),
            IpProtocol::Icmpv6 => {
                neighbours::on_packet(packet, cx);
                self.echo.on_packet(packet, cx);
            }
            _ => {}
        }
    }

    fn shrink(&mut self) {
        // Fragments are forgotten within a minute.
        let Self { udp, echo, dns, fragments: _ } = self;
        udp.shrink();
        echo.shrink();
        dns.shrink();
    }

    fn next_deadline(&self) -> Option<Instant> {
        let Self { udp, echo, dns, fragments } = self;
        let all = [udp.next_deadline(), echo.next_deadline(), dns.next_deadline(), fragments.next_deadline()];
        all.into_iter().flatten().min()
    }

    fn on_time(&mut self, cx: &mut Context<'_>) {
        self.udp.on_time(cx);
        self.echo.on_time(cx);
        self.dns.on_time(cx);
        self.fragments.on_time(cx.now);
    }
}
