//! Small loads for networks: who answers, and who asks and counts.
//!
//! - `serve ADDRESS`: sends back whatever comes, by TCP and UDP
//! - `ask ADDRESS SIZE SECONDS`: so many bytes there and back over one connection; prints how often in a second
//! - `connect ADDRESS SECONDS`: a connection for each byte; the same
//! - `datagrams ADDRESS SIZE SECONDS`: the same of datagrams
//! - `hold ADDRESS COUNT`: keeps connections over which a byte has gone, until stdin ends; prints `held`

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rbox_sys::epoll::{Epoll, Watch};
use rbox_sys::rlimit::{self, Resource};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rbox-netload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    rlimit::raise(Resource::NOFILE)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", address] => serve(address.parse()?),
        ["ask", address, size, seconds] => {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; size.parse()?];
            count(seconds, || {
                stream.write_all(&buffer)?;
                Ok(stream.read_exact(&mut buffer)?)
            })
        }
        ["connect", address, seconds] => count(seconds, || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"x")?;
            Ok(stream.read_exact(&mut [0])?)
        }),
        ["datagrams", address, size, seconds] => datagrams(address.parse()?, size.parse()?, seconds),
        ["hold", address, number] => hold(address, number.parse()?),
        _ => bail!("usage: rbox-netload serve|ask|connect|datagrams|hold ADDRESS …"),
    }
}

/// Does it again and again; prints how often in a second.
fn count(seconds: &str, mut once: impl FnMut() -> Result<()>) -> Result<()> {
    let time = Duration::from_secs_f64(seconds.parse()?);
    let (started, mut times) = (Instant::now(), 0u64);
    while started.elapsed() < time {
        once()?;
        times += 1;
    }
    println!("{}", times as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

fn datagrams(address: SocketAddr, size: usize, seconds: &str) -> Result<()> {
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    // One that is lost costs what it costs.
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut buffer = vec![0; size];
    count(seconds, || {
        loop {
            socket.send(&buffer)?;
            match socket.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return Ok(result.map(drop)?),
            }
        }
    })
}

fn hold(address: &str, number: usize) -> Result<()> {
    let mut held = Vec::new();
    for number in 0..number {
        let mut stream = TcpStream::connect(address).with_context(|| format!("after {number} connections"))?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        held.push(stream);
    }
    println!("held");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Whose descriptor a token is for: the listener, the datagram socket, or a connection.
const LISTENER: u64 = 0;
const DATAGRAMS: u64 = 1;

fn serve(address: SocketAddr) -> Result<()> {
    let (listener, socket) = (TcpListener::bind(address)?, UdpSocket::bind(address)?);
    listener.set_nonblocking(true)?;
    socket.set_nonblocking(true)?;
    let mut epoll = Epoll::new(256)?;
    epoll.add(&listener, LISTENER, Watch::Readable)?;
    epoll.add(&socket, DATAGRAMS, Watch::Readable)?;
    let (mut streams, mut next, mut buffer) = (HashMap::<u64, TcpStream>::new(), DATAGRAMS + 1, vec![0; 1 << 16]);
    loop {
        let ready: Vec<u64> = epoll.wait(None)?.map(|ready| ready.token).collect();
        for token in ready {
            match token {
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        stream.set_nodelay(true)?;
                        stream.set_nonblocking(true)?;
                        epoll.add(&stream, next, Watch::Readable)?;
                        streams.insert(next, stream);
                        next += 1;
                    }
                }
                DATAGRAMS => {
                    while let Ok((length, who)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..length], who);
                    }
                }
                _ => {
                    let Some(stream) = streams.get_mut(&token) else { continue };
                    let goes_on = match stream.read(&mut buffer) {
                        Ok(0) => false,
                        // Small enough to be taken at once.
                        Ok(length) => stream.write_all(&buffer[..length]).is_ok(),
                        Err(error) => error.kind() == ErrorKind::WouldBlock,
                    };
                    if !goes_on {
                        streams.remove(&token);
                    }
                }
            }
        }
    }
}
