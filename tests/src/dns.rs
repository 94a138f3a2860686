//! As much of DNS (RFC 1035) as a name server needs that answers whatever it is asked, and who asks it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// Names below this have more addresses than a datagram takes.
pub const LARGE: &str = "large.test";

/// How many those have.
pub const MANY: u8 = 200;

const HEADER: usize = 12;
const PORT: u16 = 53;

/// Which records: addresses of either kind (RFC 1035, 3.2.2; RFC 3596, 2.1).
const A: u16 = 1;
const AAAA: u16 = 28;

/// What a datagram takes (RFC 1035, 4.2.1).
const DATAGRAM: usize = 512;

/// A query is not for whoever asks (RFC 1035, 4.1.1).
pub const REFUSED: u8 = 5;

/// A name server, until the process ends.
pub struct Server {
    /// How many it was asked by UDP, and by TCP.
    pub asked: Arc<[AtomicUsize; 2]>,
    zone: Arc<Mutex<Zone>>,
}

/// What a server knows.
struct Zone {
    names: HashMap<String, Vec<IpAddr>>,
    /// All others have this one, or it and those that follow it.
    otherwise: Option<Ipv4Addr>,
    /// For how many seconds answers may be cached.
    time_to_live: u8,
    /// What it was asked for, in order.
    asked_for: Vec<String>,
}

impl Server {
    /// Answers everything at this address with the address `answer`, or those that follow it.
    pub fn start(namespace: &Namespace, at: IpAddr, answer: Ipv4Addr) -> Result<Self> {
        Self::with(namespace, at, Some(answer))
    }

    /// Knows nothing yet ([`set`](Self::set)).
    pub fn empty(namespace: &Namespace, at: IpAddr) -> Result<Self> {
        Self::with(namespace, at, None)
    }

    fn with(namespace: &Namespace, at: IpAddr, otherwise: Option<Ipv4Addr>) -> Result<Self> {
        let datagrams = namespace.run(|| std::net::UdpSocket::bind((at, PORT)))?;
        let listener = namespace.run(|| std::net::TcpListener::bind((at, PORT)))?;
        let asked = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let zone = Zone { names: HashMap::new(), otherwise, time_to_live: 60, asked_for: Vec::new() };
        let zone = Arc::new(Mutex::new(zone));
        let (by_udp, by_tcp) = ((asked.clone(), zone.clone()), (asked.clone(), zone.clone()));
        thread::spawn(move || -> io::Result<()> {
            let mut query = [0; 4096];
            loop {
                let (length, who) = datagrams.recv_from(&mut query)?;
                let (asked, zone) = &by_udp;
                asked[0].fetch_add(1, Ordering::SeqCst);
                datagrams.send_to(&answered(&query[..length], zone, true), who)?;
            }
        });
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (asked, zone) = by_tcp.clone();
                thread::spawn(move || -> io::Result<()> {
                    loop {
                        let query = read_message(&mut stream)?;
                        asked[1].fetch_add(1, Ordering::SeqCst);
                        write_message(&mut stream, &answered(&query, &zone, false))?;
                    }
                });
            }
        });
        Ok(Self { asked, zone })
    }

    /// From now on the name has these addresses.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        lock(&self.zone).names.insert(name.to_owned(), addresses.to_vec());
    }

    /// From now on answers may be cached for so many seconds; a minute at first.
    pub fn set_time_to_live(&self, seconds: u8) {
        lock(&self.zone).time_to_live = seconds;
    }

    /// All names that it was asked for, in order.
    pub fn asked_for(&self) -> Vec<String> {
        lock(&self.zone).asked_for.clone()
    }

    /// As if it had been asked for nothing.
    pub fn forget(&self) {
        lock(&self.zone).asked_for.clear();
    }
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Zone {
    fn ask(&mut self, name: String) -> Vec<IpAddr> {
        let found = self.names.get(&name).cloned().unwrap_or_else(|| {
            let count = if name.ends_with(LARGE) { MANY } else { 1 };
            let all = |first: Ipv4Addr| (0..count).map(move |more| first.to_bits() + u32::from(more));
            self.otherwise.into_iter().flat_map(all).map(|bits| Ipv4Addr::from(bits).into()).collect()
        });
        self.asked_for.push(name);
        found
    }
}

/// The query as a response: what a datagram is too small for is left out of it, and that said.
fn answered(query: &[u8], zone: &Mutex<Zone>, is_datagram: bool) -> Vec<u8> {
    let mut response = query.to_vec();
    let question = question_end(query);
    response.truncate(question);
    let kind = u16::from_be_bytes([query[question - 4], query[question - 3]]);
    let (addresses, ttl) = {
        let mut zone = lock(zone);
        (zone.ask(name_in(&query[HEADER..])), zone.time_to_live)
    };
    let mut records: Vec<Vec<u8>> = addresses.into_iter().filter_map(|address| record(address, kind, ttl)).collect();
    let truncated = is_datagram && question + records.concat().len() > DATAGRAM;
    if truncated {
        records.clear();
    }
    // Response, recursion available; TC.
    response[2] |= if truncated { 0x82 } else { 0x80 };
    response[3] |= 0x80;
    response[7] = records.len() as u8;
    // No additional records, whatever the query had.
    response[10..HEADER].fill(0);
    response.extend(records.concat());
    response
}

/// The address as a record of this kind, if it is of it: a pointer to the question's name, IN, a time.
fn record(address: IpAddr, kind: u16, ttl: u8) -> Option<Vec<u8>> {
    let (own, bytes) = match address {
        IpAddr::V4(address) => (A, address.octets().to_vec()),
        IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
    };
    let head = [0xc0, HEADER as u8, 0, own as u8, 0, 1, 0, 0, 0, ttl, 0, bytes.len() as u8];
    (own == kind).then(|| [&head[..], &bytes].concat())
}

fn name_in(mut labels: &[u8]) -> String {
    let mut name = Vec::new();
    while let Some((length, rest)) = labels.split_first().filter(|(length, _)| **length != 0) {
        let (label, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        name.push(String::from_utf8_lossy(label).into_owned());
        labels = rest;
    }
    name.join(".")
}

fn question_end(message: &[u8]) -> usize {
    let mut at = HEADER;
    while message.get(at).is_some_and(|length| *length != 0) {
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = (message.len() as u16).to_be_bytes();
    stream.write_all(&[&length, message].concat())
}

/// Asks a name server for a name's addresses, as resolvers do: by UDP, and by TCP where it says that there are more.
pub fn ask(namespace: &Namespace, server: IpAddr, name: &str, id: u16) -> Result<Vec<Ipv4Addr>> {
    let query = query(name, A, id);
    let response = ask_by_udp(namespace, server, &query)?;
    let found = if response.get(2).is_some_and(|flags| flags & 2 != 0) {
        ask_by_tcp(namespace, server, &query)?
    } else {
        addresses(&query, &response)?
    };
    Ok(found
        .into_iter()
        .filter_map(|address| if let IpAddr::V4(address) = address { Some(address) } else { None })
        .collect())
}

/// Asks a name server by UDP for a name's addresses of either family: its answer's code, and what is in it.
pub fn ask_once(namespace: &Namespace, server: IpAddr, name: &str, v6: bool) -> Result<(u8, Vec<IpAddr>)> {
    let query = query(name, if v6 { AAAA } else { A }, 7);
    let response = ask_by_udp(namespace, server, &query)?;
    match response.get(3).map(|flags| flags & 0xf) {
        Some(0) => Ok((0, addresses(&query, &response)?)),
        code => Ok((code.context("that is no answer")?, Vec::new())),
    }
}

fn ask_by_udp(namespace: &Namespace, server: IpAddr, query: &[u8]) -> Result<Vec<u8>> {
    let any = if server.is_ipv4() { "0.0.0.0" } else { "::" };
    let socket = namespace.datagrams(any.parse()?, 0)?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    socket.connect((server, PORT))?;
    let mut response = vec![0; 4096];
    let mut tries = 3;
    let length = loop {
        socket.send(query)?;
        tries -= 1;
        match socket.recv(&mut response) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries > 0 => {}
            result => break result.with_context(|| format!("{server} does not answer"))?,
        }
    };
    response.truncate(length);
    Ok(response)
}

fn ask_by_tcp(namespace: &Namespace, server: IpAddr, query: &[u8]) -> Result<Vec<IpAddr>> {
    let mut stream = namespace.connect((server, PORT).into())?;
    // Several queries may go over one connection (RFC 7766).
    let mut found = Vec::new();
    for _ in 0..2 {
        write_message(&mut stream, query)?;
        found = addresses(query, &read_message(&mut stream)?)?;
    }
    Ok(found)
}

fn query(name: &str, kind: u16, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut query = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, kind as u8, 0, 1]);
    query
}

fn addresses(query: &[u8], response: &[u8]) -> Result<Vec<IpAddr>> {
    ensure!(response.len() >= query.len() && response[..2] == query[..2], "no answer to this query: {response:?}");
    ensure!(response[2] & 0x80 != 0 && response[3] & 0xf == 0, "refused: {:?}", &response[..HEADER]);
    let question = question_end(response);
    let records = &response[question..];
    let addresses: Vec<IpAddr> = if response[question - 3] == AAAA as u8 {
        records.chunks_exact(28).filter_map(|record| Some((*record.last_chunk::<16>()?).into())).collect()
    } else {
        records.chunks_exact(16).filter_map(|record| Some((*record.last_chunk::<4>()?).into())).collect()
    };
    ensure!(addresses.len() == usize::from(response[7]), "{} records are missing", response[7]);
    Ok(addresses)
}
