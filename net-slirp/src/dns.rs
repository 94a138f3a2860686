//! Names: what the guest asks the address that its resolv.conf(5) has is asked of the host's own resolvers.
//!
//! Queries and answers are passed on as they are, EDNS (RFC 6891) and whatever comes after it included; only the
//! identifier is another one outside. Each query has a socket of its own, connected, on a port of the kernel's choice,
//! and a random identifier: whoever would forge an answer must guess both, and know the question (RFC 5452). As the
//! host asks, so do we: one resolver after the other, each for as long as resolv.conf(5) says, and all of them as often
//! as that says. Who is not there, or says that he cannot help, is passed over at once. A guest that asks again before
//! that has us go on to the next. In the end it is told that it failed, rather than nothing.
//!
//! At most 512 queries of at most 4 KiB are under way, which is 2 MiB; more, and longer ones, fail at once. The file is
//! looked at again at most once a second, when there is a query.
//!
//! The host's own names (host.containers.internal, host.docker.internal) are known here.

mod message;

pub use message::HOST_NAMES;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Instant;

use rbox_sys::epoll::Ready;

use crate::context::Context;
use crate::datagram::{self, Datagram};
use crate::egress;
use crate::icmp::{self, Unreachable};
use crate::packet::Packet;
use crate::resolv_conf::Watched;
use crate::token::{Owner, Places, Token};

/// Where names are asked for.
pub(crate) const PORT: u16 = 53;

const MOST_QUERIES: usize = 512;
const LONGEST_QUERY: usize = 4096;
/// How many datagrams that are no answers are looked at before it is others' turn.
const AT_A_TIME: usize = 8;

/// All there is of it.
#[derive(Debug)]
pub(crate) struct Dns {
    conf: Watched,
    asked: Places<Asked>,
    tokens: HashMap<Key, Token>,
    /// None of them has waited long enough before.
    next: Option<Instant>,
    /// Who was the last to answer.
    answered: Option<SocketAddr>,
}

/// What a query of the guest's is known by: who asks, and with which identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    guest: SocketAddr,
    id: u16,
}

/// A query of the guest's.
#[derive(Debug)]
struct Query {
    key: Key,
    /// The address that was asked.
    dns: SocketAddr,
    message: Vec<u8>,
    /// How many resolvers have been asked.
    tries: usize,
}

/// One that waits for an answer.
#[derive(Debug)]
struct Asked {
    /// The message has the identifier that is used outside.
    query: Query,
    server: SocketAddr,
    socket: UdpSocket,
    until: Instant,
}

impl Dns {
    /// `resolv_conf` says whom to ask.
    pub(crate) fn new(resolv_conf: &Path) -> Self {
        Self::at(resolv_conf, PORT)
    }

    /// Where names are asked for on another port, as tests have it.
    pub(crate) fn at(resolv_conf: &Path, port: u16) -> Self {
        Self {
            conf: Watched::new(resolv_conf, port),
            asked: Places::new(),
            tokens: HashMap::new(),
            next: None,
            answered: None,
        }
    }

    /// Lets go of memory that nobody uses.
    pub(crate) fn shrink(&mut self) {
        self.asked.shrink();
        self.tokens.shrink_to_fit();
    }

    /// Whom a connection of the guest's to [`PORT`] is to lead to: the resolver that has answered last, as what it had
    /// to say may have been too long for a datagram.
    pub(crate) fn resolver_for_tcp(&mut self, now: Instant) -> Option<SocketAddr> {
        let servers = &self.conf.current(now).servers;
        self.answered.filter(|answered| servers.contains(answered)).or(servers.first().copied())
    }

    /// A packet from the guest; nothing is done about any but UDP to where names are asked for.
    pub(crate) fn on_packet(&mut self, packet: &Packet<'_>, cx: &mut Context<'_>) {
        let is_ours = cx.config.is_guest(packet.source) && cx.config.is_dns(packet.destination);
        let Some(datagram) = Datagram::parse(packet).filter(|_| is_ours) else { return };
        if datagram.destination.port() != PORT {
            return icmp::unreachable(Unreachable::Port, packet, cx);
        }
        let (guest, dns, message) = (datagram.source, datagram.destination, datagram.payload);
        let Some(id) = message::query_id(message) else { return };
        let reply = match cx.egress.query(message) {
            egress::Asked::Forward => None,
            egress::Asked::Nothing => Some(egress::nothing(message)),
            egress::Asked::Refused(reason) => {
                cx.log.query_refused(guest, || egress::Egress::name_asked(message), reason, cx.now);
                Some(egress::refusal(message))
            }
        };
        if let Some(reply) = reply {
            return reply.iter().for_each(|reply| datagram::send(cx.link, dns, guest, reply));
        }
        if let Some(answer) = message::about_host(message, cx.config.host) {
            return datagram::send(cx.link, dns, guest, &answer);
        }
        let key = Key { guest, id };
        let before = self.take(&key);
        let tries = before.filter(|before| before.message[2..] == message[2..]).map_or(0, |before| before.tries);
        let query = Query { key, dns, message: message.to_vec(), tries };
        if self.asked.len() >= MOST_QUERIES || message.len() > LONGEST_QUERY {
            return query.fail(cx);
        }
        self.ask(query, cx);
    }

    pub(crate) fn on_ready(&mut self, token: Token, ready: Ready, cx: &mut Context<'_>) {
        for _ in 0..AT_A_TIME {
            let Some(asked) = self.asked.get_mut(token).filter(|_| ready.readable) else { return };
            match asked.socket.recv(cx.buffer) {
                Ok(length) if message::is_answer(&cx.buffer[..length], &asked.query.message) => {
                    let server = asked.server;
                    return self.on_answer(token, server, length, cx);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.ask_next(token, cx),
            }
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    pub(crate) fn on_time(&mut self, cx: &mut Context<'_>) {
        if self.next.is_none_or(|next| next > cx.now) {
            return;
        }
        let all = self.asked.iter(Owner::Dns);
        let late: Vec<Token> = all.filter(|(_, asked)| asked.until <= cx.now).map(|(token, _)| token).collect();
        for token in late {
            self.ask_next(token, cx);
        }
        self.next = self.asked.iter(Owner::Dns).map(|(_, asked)| asked.until).min();
    }

    /// `length` bytes of the buffer are an answer.
    fn on_answer(&mut self, token: Token, server: SocketAddr, length: usize, cx: &mut Context<'_>) {
        let servers = self.conf.current(cx.now).servers.len();
        let Some(query) = self.asked.take(token).map(|asked| asked.query) else { return };
        self.tokens.remove(&query.key);
        if message::is_useless(&cx.buffer[..length]) && query.tries < servers {
            return self.ask(query, cx);
        }
        self.answered = Some(server);
        if let egress::Answered::Refused(reason) = cx.egress.answer(&query.message, &cx.buffer[..length], cx.now) {
            let name = || egress::Egress::name_asked(&query.message);
            cx.log.query_refused(query.key.guest, name, reason, cx.now);
            return query.refuse(cx);
        }
        message::set_id(&mut cx.buffer[..length], query.key.id);
        datagram::send(cx.link, query.dns, query.key.guest, &cx.buffer[..length]);
    }

    fn ask_next(&mut self, token: Token, cx: &mut Context<'_>) {
        if let Some(Asked { query, .. }) = self.asked.take(token) {
            self.tokens.remove(&query.key);
            self.ask(query, cx);
        }
    }

    /// Asks the next resolver that can be asked at all.
    fn ask(&mut self, mut query: Query, cx: &mut Context<'_>) {
        let conf = self.conf.current(cx.now);
        while query.tries < conf.servers.len() * conf.attempts {
            let server = conf.servers[query.tries % conf.servers.len()];
            query.tries += 1;
            let Ok(socket) = query.send(server) else { continue };
            let until = cx.now + conf.timeout;
            let key = query.key;
            let token = self.asked.put(Owner::Dns, Asked { query, server, socket, until });
            let Some(asked) = self.asked.get_mut(token) else { return };
            if cx.watch(&asked.socket, token).is_err() {
                if let Some(asked) = self.asked.take(token) {
                    asked.query.fail(cx);
                }
                return;
            }
            self.tokens.insert(key, token);
            self.next = Some(self.next.map_or(until, |next| next.min(until)));
            return;
        }
        query.fail(cx);
    }

    fn take(&mut self, key: &Key) -> Option<Query> {
        let token = self.tokens.remove(key)?;
        self.asked.take(token).map(|asked| asked.query)
    }
}

impl Query {
    fn send(&mut self, server: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(server)?;
        message::set_id(&mut self.message, u16::from_ne_bytes(rbox_sys::random::bytes()?));
        socket.send(&self.message)?;
        Ok(socket)
    }

    /// Its answer is not for the guest.
    fn refuse(mut self, cx: &mut Context<'_>) {
        message::set_id(&mut self.message, self.key.id);
        let reply = egress::refusal(&self.message);
        reply.iter().for_each(|reply| datagram::send(cx.link, self.dns, self.key.guest, reply));
    }

    fn fail(mut self, cx: &mut Context<'_>) {
        message::set_id(&mut self.message, self.key.id);
        let answer = message::failure(&self.message, message::SERVER_FAILURE);
        datagram::send(cx.link, self.dns, self.key.guest, &answer);
    }
}

#[cfg(test)]
mod tests;
