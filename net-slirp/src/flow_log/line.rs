//! One line of the log, as JSON (docs/egress.md has it for people).
//!
//! What is not known or does not apply is missing. What has been published keeps its name and its meaning; more may come.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{Flow, Open};
use crate::egress::{Name, Protocol, Reason};

/// A flow or a query.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    #[serde(serialize_with = "to_milliseconds")]
    time: Timestamp,
    proto: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    sent: u64,
    received: u64,
}

/// Lines that are missing: of refusals, because there were too many, or of anything because they could not be written.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Missing {
    #[serde(serialize_with = "to_milliseconds")]
    pub(super) time: Timestamp,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) refused_more: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) lost: u64,
}

impl Missing {
    pub(super) fn is_any(&self) -> bool {
        self.refused_more > 0 || self.lost > 0
    }
}

impl<'a> Line<'a> {
    pub(super) fn of_flow(flow: &Flow, open: &'a Open) -> Self {
        let has_ports = flow.protocol != Protocol::Echo;
        let proto = match flow.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Echo => "icmp",
        };
        Self {
            time: open.began,
            proto,
            sport: has_ports.then_some(flow.guest.port()),
            name: open.name.as_ref().map(Name::as_str),
            address: Some(flow.outside.ip()),
            port: has_ports.then_some(flow.outside.port()),
            verdict: verdict(open.refused),
            reason: open.refused.map(Reason::word),
            sent: open.sent,
            received: open.received,
        }
    }

    pub(super) fn of_query(guest: SocketAddr, name: Option<&'a Name>, reason: Reason, time: Timestamp) -> Self {
        Self {
            time,
            proto: "dns",
            sport: Some(guest.port()),
            name: name.map(Name::as_str),
            address: None,
            port: None,
            verdict: verdict(Some(reason)),
            reason: Some(reason.word()),
            sent: 0,
            received: 0,
        }
    }
}

fn verdict(refused: Option<Reason>) -> &'static str {
    if refused.is_some() { "refused" } else { "allowed" }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// RFC 3339, in UTC.
fn to_milliseconds<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{time:.3}"))
}
