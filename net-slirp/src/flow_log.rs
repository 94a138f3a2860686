//! The log of flows: a line for each that the guest begins, when it is over, and for each that is refused.
//!
//! Connections end by themselves. Datagrams and echoes between two ends are one flow until neither has sent any for a
//! while; of those only so many are known at a time, and the longest unused is then over sooner.
//!
//! A guest that asks for nothing but refusals must neither fill somebody's disk nor hide what it was allowed: of refusals
//! so many have a line of their own, and how many more there were is told. Lines of what was allowed are all written. A
//! disk that is full stops no network: how many lines it lost is told when there is room again.

mod line;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_sys::poll::{self, Interest};
use serde::Serialize;

use self::line::{Line, Missing};
use crate::budget::Budget;
use crate::egress::{Name, Protocol, Reason};
use crate::idle::Idle;

/// Flows that do not end by themselves: at most so many, each for so long after its last datagram.
const MOST: usize = 4096;
const KEEP: Duration = Duration::from_secs(60);
/// Lines of refusals.
const AT_ONCE: u32 = 1000;
const ONE_MORE_AFTER: Duration = Duration::from_millis(10);
/// How often it is told what is missing.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Who talks to whom and how, as the guest calls them. The ports of an echo mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) guest: SocketAddr,
    pub(crate) outside: SocketAddr,
}

/// What is known of a flow that is not over.
#[derive(Debug, Clone)]
struct Open {
    began: Timestamp,
    name: Option<Name>,
    refused: Option<Reason>,
    sent: u64,
    received: u64,
}

/// The log, which may be off.
#[derive(Debug)]
pub(crate) struct FlowLog(Option<On>);

#[derive(Debug)]
struct On {
    file: File,
    connections: HashMap<Flow, Open>,
    others: Idle<Flow, Open>,
    refusals: Budget,
    missing: Missing,
    told: Option<Instant>,
    /// The last line was written in part.
    is_torn: bool,
}

impl FlowLog {
    /// To this file, at whose end each line is written by one call; off where there is none.
    pub(crate) fn new(file: Option<File>) -> Self {
        Self(file.map(|file| On {
            file,
            connections: HashMap::new(),
            others: Idle::new(MOST),
            refusals: Budget::new(AT_ONCE, ONE_MORE_AFTER),
            missing: Missing::default(),
            told: None,
            is_torn: false,
        }))
    }

    /// Lets go of memory that nobody uses.
    pub(crate) fn shrink(&mut self) {
        if let Some(on) = &mut self.0 {
            on.connections.shrink_to_fit();
            on.others.shrink();
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A connection begins.
    pub(crate) fn began(&mut self, flow: Flow, name: Option<Name>) {
        let Some(on) = &mut self.0 else { return };
        on.connections.insert(flow, Open::new(name));
    }

    /// What the first bytes of a connection have shown: the name that it is for, and why it ends here, if it does.
    pub(crate) fn judged(&mut self, flow: &Flow, name: impl FnOnce() -> Option<Name>, refused: Option<Reason>) {
        let Some(open) = self.0.as_mut().and_then(|on| on.connections.get_mut(flow)) else { return };
        open.refused = refused;
        open.name = name().or_else(|| open.name.take());
    }

    /// A connection is over, and so much has gone either way.
    pub(crate) fn over(&mut self, flow: &Flow, sent: u64, received: u64) {
        let Some(on) = &mut self.0 else { return };
        if let Some(open) = on.connections.remove(flow) {
            on.write(&Line::of_flow(flow, &Open { sent, received, ..open }));
        }
    }

    /// The guest has sent a datagram, or an echo request, of so many bytes.
    pub(crate) fn sent(&mut self, flow: Flow, bytes: usize, now: Instant, name: impl FnOnce() -> Option<Name>) {
        if let Some(on) = &mut self.0 {
            on.add(flow, now, name, |open| open.sent += bytes as u64);
        }
    }

    /// The guest has got one.
    pub(crate) fn received(&mut self, flow: Flow, bytes: usize, now: Instant, name: impl FnOnce() -> Option<Name>) {
        if let Some(on) = &mut self.0 {
            on.add(flow, now, name, |open| open.received += bytes as u64);
        }
    }

    /// A flow was refused, for which the guest had sent so many bytes.
    pub(crate) fn refused(
        &mut self,
        flow: &Flow,
        name: impl FnOnce() -> Option<Name>,
        reason: Reason,
        bytes: usize,
        now: Instant,
    ) {
        let Some(on) = &mut self.0 else { return };
        if !on.may_refuse(now) {
            return;
        }
        let open = Open { refused: Some(reason), sent: bytes as u64, ..Open::new(name()) };
        on.write(&Line::of_flow(flow, &open));
    }

    /// A query was, or the answer to it.
    pub(crate) fn query_refused(
        &mut self,
        guest: SocketAddr,
        name: impl FnOnce() -> Option<Name>,
        reason: Reason,
        now: Instant,
    ) {
        let Some(on) = &mut self.0 else { return };
        if on.may_refuse(now) {
            on.write(&Line::of_query(guest, name().as_ref(), reason, Timestamp::now()));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let on = self.0.as_ref()?;
        let untold = on.told.map(|told| told + TOLD_EVERY).filter(|_| on.missing.is_any());
        [on.others.next_deadline(), untold].into_iter().flatten().min()
    }

    pub(crate) fn on_time(&mut self, now: Instant) {
        let Some(on) = &mut self.0 else { return };
        for (flow, open) in on.others.forget_unused(now) {
            on.write(&Line::of_flow(&flow, &open));
        }
        on.tell_missing(now);
    }

    /// Everything is over.
    pub(crate) fn finish(&mut self) {
        let Some(mut on) = self.0.take() else { return };
        for (flow, open) in on.others.forget_all() {
            on.write(&Line::of_flow(&flow, &open));
        }
        on.told = None;
        on.tell_missing(Instant::now());
    }
}

impl Open {
    fn new(name: Option<Name>) -> Self {
        Self { began: Timestamp::now(), name, refused: None, sent: 0, received: 0 }
    }
}

impl On {
    fn add(&mut self, flow: Flow, now: Instant, name: impl FnOnce() -> Option<Name>, add: impl FnOnce(&mut Open)) {
        if let Some(open) = self.others.get(&flow, KEEP, now) {
            return add(open);
        }
        let mut open = Open::new(name());
        add(&mut open);
        for (flow, open) in self.others.put(flow, open, KEEP, now) {
            self.write(&Line::of_flow(&flow, &open));
        }
    }

    fn may_refuse(&mut self, now: Instant) -> bool {
        let may = self.refusals.spend(now);
        if !may {
            self.missing.refused_more += 1;
            self.told.get_or_insert(now);
        }
        may
    }

    fn write(&mut self, line: &impl Serialize) {
        if self.try_write(line).is_err() {
            self.missing.lost += 1;
            self.told.get_or_insert_with(Instant::now);
        }
    }

    /// Whoever is to read it may not: it is not waited for.
    fn try_write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = if self.is_torn { b"\n".to_vec() } else { Vec::new() };
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
        if !poll::wait_all(&[(self.file.as_fd(), Interest::Write)], Some(Duration::ZERO))?[0] {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = self.file.write(&bytes)?;
        self.is_torn = written < bytes.len();
        if self.is_torn { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    fn tell_missing(&mut self, now: Instant) {
        if !self.missing.is_any() || self.told.is_some_and(|told| now < told + TOLD_EVERY) {
            return;
        }
        let missing = Missing { time: Timestamp::now(), ..self.missing };
        self.told = Some(now);
        if self.try_write(&missing).is_ok() {
            (self.missing, self.told) = (Missing::default(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use tempfile::NamedTempFile;

    use super::*;

    fn flow(protocol: Protocol, guest_port: u16, port: u16) -> Flow {
        let (guest, outside) = (([10, 0, 2, 100], guest_port).into(), ([192, 0, 2, 1], port).into());
        Flow { protocol, guest, outside }
    }

    fn log() -> (FlowLog, NamedTempFile) {
        let file = NamedTempFile::new().expect("a file");
        (FlowLog::new(Some(file.reopen().expect("the same"))), file)
    }

    /// The lines, without their times, each of which is one.
    fn lines(file: &NamedTempFile) -> Vec<Value> {
        let text = fs::read_to_string(file.path()).expect("text");
        let read = |line: &str| {
            let mut line: serde_json::Map<_, _> = serde_json::from_str(line).expect("JSON");
            let time = line.remove("time").expect("a time");
            time.as_str().and_then(|time| time.parse::<Timestamp>().ok()).expect("RFC 3339");
            Value::Object(line)
        };
        text.lines().map(read).collect()
    }

    fn name(text: &str) -> Option<Name> {
        text.parse().ok()
    }

    #[test]
    fn a_line_for_each_that_is_over() {
        let (mut log, file) = log();
        let (first, second, now) = (flow(Protocol::Tcp, 1, 443), flow(Protocol::Tcp, 2, 443), Instant::now());
        log.began(first, name("a.example"));
        log.began(second, None);
        assert_eq!(lines(&file), [json!(null); 0]);
        log.judged(&second, || name("b.example"), Some(Reason::ServerName));
        log.over(&second, 7, 0);
        log.over(&second, 7, 0);
        log.over(&first, 517, u64::MAX);
        log.refused(&flow(Protocol::Tcp, 3, 25), || None, Reason::Address, 0, now);
        log.query_refused(([10, 0, 2, 100], 4).into(), || name("c.example"), Reason::Name, now);
        let address = "192.0.2.1";
        assert_eq!(
            lines(&file),
            [
                json!({"proto": "tcp", "sport": 2, "name": "b.example", "address": address, "port": 443,
                       "verdict": "refused", "reason": "server-name", "sent": 7, "received": 0}),
                json!({"proto": "tcp", "sport": 1, "name": "a.example", "address": address, "port": 443,
                       "verdict": "allowed", "sent": 517, "received": u64::MAX}),
                json!({"proto": "tcp", "sport": 3, "address": address, "port": 25,
                       "verdict": "refused", "reason": "address", "sent": 0, "received": 0}),
                json!({"proto": "dns", "sport": 4, "name": "c.example",
                       "verdict": "refused", "reason": "name", "sent": 0, "received": 0}),
            ]
        );
    }

    #[test]
    fn datagrams_are_one_flow_until_they_cease() {
        let (mut log, file) = log();
        let (udp, echo, now) = (flow(Protocol::Udp, 1, 123), flow(Protocol::Echo, 0, 0), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        log.sent(udp, 48, now, || name("a.example"));
        log.received(udp, 40, after(50), || None);
        log.sent(echo, 64, after(51), || None);
        log.on_time(after(60));
        assert_eq!(lines(&file), [json!(null); 0], "it is in use");
        assert!(log.next_deadline().is_some_and(|at| at <= after(111)));
        log.on_time(after(110));
        let address = "192.0.2.1";
        let of_udp = json!({"proto": "udp", "sport": 1, "name": "a.example", "address": address, "port": 123,
                            "verdict": "allowed", "sent": 48, "received": 40});
        assert_eq!(lines(&file), std::slice::from_ref(&of_udp));
        log.finish();
        let of_echo = json!({"proto": "icmp", "address": address, "verdict": "allowed", "sent": 64, "received": 0});
        assert_eq!(lines(&file), [of_udp, of_echo]);
    }

    #[test]
    fn refusals_without_end_neither_fill_the_disk_nor_hide_what_was_allowed() {
        let (mut log, file) = log();
        let now = Instant::now();
        for port in 0..5000 {
            log.refused(&flow(Protocol::Tcp, 1, port), || None, Reason::Address, 0, now);
        }
        log.began(flow(Protocol::Tcp, 1, 443), None);
        log.over(&flow(Protocol::Tcp, 1, 443), 1, 1);
        assert_eq!(lines(&file).len(), AT_ONCE as usize + 1);
        assert_eq!(lines(&file).pop().map(|line| line["verdict"].clone()), Some(json!("allowed")));
        let at = log.next_deadline().expect("it is told");
        log.on_time(at);
        assert_eq!(lines(&file).pop(), Some(json!({"refused_more": 4000})));
        assert_eq!(log.next_deadline(), None);
    }

    #[test]
    fn what_a_full_disk_has_lost_is_told() {
        let mut log = FlowLog::new(Some(File::options().write(true).open("/dev/full").expect("there is one")));
        let one = flow(Protocol::Tcp, 1, 443);
        for _ in 0..3 {
            log.began(one, None);
            log.over(&one, 0, 0);
        }
        let at = log.next_deadline().expect("it is told");
        log.on_time(at);
        assert!(
            log.next_deadline().is_some_and(|next| next > at),
            "there is still no room, which is not asked all the time"
        );
        // There is room again.
        let file = NamedTempFile::new().expect("a file");
        log.0.as_mut().expect("it is on").file = file.reopen().expect("the same");
        log.on_time(at + TOLD_EVERY);
        assert_eq!(lines(&file), [json!({"lost": 3})]);
    }

    #[test]
    fn names_cannot_forge_lines() {
        let (mut log, file) = log();
        let name = Name::from_labels([&b"a\"}\n{\"b\\\x1b[2J"[..], b"example"]);
        log.query_refused(([10, 0, 2, 100], 4).into(), || Some(name), Reason::Name, Instant::now());
        let text = fs::read_to_string(file.path()).expect("text");
        assert!(text.matches('\n').count() == 1 && !text.contains('\x1b'), "{text}");
        assert_eq!(lines(&file).len(), 1);
    }
}
