//! As much of DNS (RFC 1035) as a name server needs that answers whatever it is asked, and who asks it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// Names below this have more addresses than a datagram takes.
pub const LARGE: &str = "large.test";

/// How many those have.
pub const MANY: u8 = 200;

const HEADER: usize = 12;
const PORT: u16 = 53;

/// A name server, until the process ends.
pub struct Server {
    /// How many it was asked by UDP, and by TCP.
    pub asked: Arc<[AtomicUsize; 2]>,
    names: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers everything at this address with the address `answer`, or those that follow it.
    pub fn start(namespace: &Namespace, at: IpAddr, answer: Ipv4Addr) -> Result<Self> {
        Self::answering(namespace, at, move |_| answer)
    }

    /// Answers with an address for each name, or those that follow it.
    pub fn answering(
        namespace: &Namespace,
        at: IpAddr,
        answer: impl Fn(&str) -> Ipv4Addr + Clone + Send + 'static,
    ) -> Result<Self> {
        let datagrams = namespace.run(|| std::net::UdpSocket::bind((at, PORT)))?;
        let listener = namespace.run(|| std::net::TcpListener::bind((at, PORT)))?;
        let asked = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (by_udp, by_tcp) = (asked.clone(), asked.clone());
        let names = Arc::new(Mutex::new(Vec::new()));
        let known = names.clone();
        let answer = move |query: &[u8]| {
            let name = name_of(query);
            let address = answer(&name);
            known.lock().expect("nobody panics").push(name);
            address
        };
        let by_datagram = answer.clone();
        thread::spawn(move || -> io::Result<()> {
            let mut query = [0; 4096];
            loop {
                let (length, who) = datagrams.recv_from(&mut query)?;
                by_udp[0].fetch_add(1, Ordering::SeqCst);
                datagrams.send_to(&answered(&query[..length], by_datagram(&query[..length]), true), who)?;
            }
        });
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (asked, answer) = (by_tcp.clone(), answer.clone());
                thread::spawn(move || -> io::Result<()> {
                    loop {
                        let query = read_message(&mut stream)?;
                        asked[1].fetch_add(1, Ordering::SeqCst);
                        write_message(&mut stream, &answered(&query, answer(&query), false))?;
                    }
                });
            }
        });
        Ok(Self { asked, names })
    }

    /// The names that it was asked for.
    pub fn names(&self) -> Vec<String> {
        self.names.lock().expect("nobody panics").clone()
    }
}

/// The query as a response, with one address or many: what a datagram is too small for is left out of it, and that said.
fn answered(query: &[u8], first: Ipv4Addr, is_datagram: bool) -> Vec<u8> {
    let large = query.windows(6).any(|bytes| bytes == b"\x05large");
    let truncated = large && is_datagram;
    let count = if truncated {
        0
    } else if large {
        MANY
    } else {
        1
    };
    let mut response = query.to_vec();
    // Response, recursion available; TC.
    response[2] |= if truncated { 0x82 } else { 0x80 };
    response[3] |= 0x80;
    response[7] = count;
    // No additional records, whatever the query had.
    response[10..HEADER].fill(0);
    let question = question_end(query);
    response.truncate(question);
    for number in 0..count {
        // A pointer to the question's name, A, IN, a minute.
        response.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        response.extend((first.to_bits() + u32::from(number)).to_be_bytes());
    }
    response
}

/// The name of its question.
fn name_of(query: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut at = HEADER;
    while let Some(length @ 1..) = query.get(at).map(|length| usize::from(*length)) {
        labels.push(String::from_utf8_lossy(&query[at + 1..query.len().min(at + 1 + length)]).into_owned());
        at += 1 + length;
    }
    labels.join(".")
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
    let query = query(name, id);
    let any = if server.is_ipv4() { "0.0.0.0" } else { "::" };
    let socket = namespace.datagrams(any.parse()?, 0)?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    socket.connect((server, PORT))?;
    let mut response = vec![0; 4096];
    let mut tries = 3;
    let length = loop {
        socket.send(&query)?;
        tries -= 1;
        match socket.recv(&mut response) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries > 0 => {}
            result => break result.with_context(|| format!("{server} does not answer"))?,
        }
    };
    response.truncate(length);
    if response.get(2).is_some_and(|flags| flags & 2 != 0) {
        ask_by_tcp(namespace, server, &query)
    } else {
        addresses(&query, &response)
    }
}

fn ask_by_tcp(namespace: &Namespace, server: IpAddr, query: &[u8]) -> Result<Vec<Ipv4Addr>> {
    let mut stream = namespace.connect((server, PORT).into())?;
    // Several queries may go over one connection (RFC 7766).
    let mut found = Vec::new();
    for _ in 0..2 {
        write_message(&mut stream, query)?;
        found = addresses(query, &read_message(&mut stream)?)?;
    }
    Ok(found)
}

fn query(name: &str, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut query = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

fn addresses(query: &[u8], response: &[u8]) -> Result<Vec<Ipv4Addr>> {
    ensure!(response.len() >= query.len() && response[..2] == query[..2], "no answer to this query: {response:?}");
    ensure!(response[2] & 0x80 != 0 && response[3] & 0xf == 0, "refused: {:?}", &response[..HEADER]);
    let records = response[question_end(response)..].chunks_exact(16);
    let addresses: Vec<Ipv4Addr> =
        records.map(|record| Ipv4Addr::new(record[12], record[13], record[14], record[15])).collect();
    ensure!(addresses.len() == usize::from(response[7]), "{} records are missing", response[7]);
    Ok(addresses)
}
