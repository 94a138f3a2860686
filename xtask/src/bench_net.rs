//! `cargo xtask bench net`: what user-mode networking costs, by rbox-slirp, slirp4netns, pasta, and the kernel's own
//! routing, which is the limit.
//!
//! Each sample is taken in network namespaces of its own ([`rbox_tests::slirp`]): the guest, the host where the program
//! runs, and far, which a veth pair joins to it and where the other end is. In turn, A B C A B C; medians.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rbox_sys::rlimit::{self, Resource};
use rbox_tests::command::{exists, read};
use rbox_tests::netns::{Namespace, Running};
use rbox_tests::slirp::{self, Backend, DRIVER, Family, LARGE, Lab, Options, Published};
use rbox_tests::traffic::is_listened_at;
use rbox_tests::{held, host};
use serde_json::Value;

use crate::bench::on_stage;
use crate::stage::Disk;
use crate::{build, setup};

/// Who asks and who answers, in the target directory.
const LOAD: &str = "rbox-netload";

/// Where iperf3 is, and who answers what [`LOAD`] asks.
const IPERF: u16 = 5201;
const ECHO: u16 = 7000;

/// How long each row of a sample takes.
const SECONDS: &str = "2";

/// For so long it is looked how little memory is needed while nothing happens: a guest's kernel looks for routers, and tells
/// of its groups, every few seconds.
const IDLE: Duration = Duration::from_secs(6);

/// As many as RFC 6335 leaves to one address, less those that are still being forgotten.
const FLOWS: usize = 10_000;

/// What is measured: its name, and whether more of it is better.
type Row = (&'static str, bool);

/// With both MTUs.
const STREAMS: &[Row] = &[
    ("1 stream up, Gbit/s", true),
    ("8 streams up, Gbit/s", true),
    ("1 stream down, Gbit/s", true),
    ("8 streams down, Gbit/s", true),
    ("published, 1 stream inwards, Gbit/s", true),
    ("published, 1 stream outwards, Gbit/s", true),
    ("CPU of 1 stream up, s/GB", false),
    ("CPU of 1 stream down, s/GB", false),
];

/// With the larger one.
const OTHERS: &[Row] = &[
    ("1 byte there and back, 1/s", true),
    ("64 bytes there and back, 1/s", true),
    ("connections, 1/s", true),
    ("datagrams of 64 bytes there and back, 1/s", true),
    ("datagrams of 1400 bytes there and back, 1/s", true),
    ("memory idle, MB PSS", false),
    ("memory with 10 000 flows, MB PSS", false),
    ("from start to ready, ms", false),
];

const MTUS: [u16; 2] = [1500, LARGE];

/// Prepares all, then has [`measure`] run.
pub(crate) fn run(runs: usize) -> Result<()> {
    setup::install(setup::FOR_NETWORKS)?;
    build::static_binary("rbox-net-slirp", DRIVER, DRIVER)?;
    build::static_binary("rbox-tests", LOAD, LOAD)?;
    on_stage("__bench-net", runs, Disk::Memory)
}

/// The benchmark itself.
pub(crate) fn measure(runs: usize) -> Result<()> {
    let there = |backend: &Backend| match backend {
        Backend::Slirp4netns | Backend::Pasta => exists(backend.name()),
        Backend::Rbox | Backend::Routed => true,
    };
    let backends: Vec<Backend> = Backend::ALL.into_iter().filter(there).collect();
    let mut samples: BTreeMap<(u16, String, &str), Vec<f64>> = BTreeMap::new();
    for _ in 0..runs {
        for backend in &backends {
            for mtu in MTUS {
                let mut one = slirp::inside(&std::env::current_exe()?);
                one.args(["__bench-net-one", backend.name(), &mtu.to_string()]);
                // A program that fails has no figures, and the others have theirs.
                let said = match read(&mut one) {
                    Ok(said) => said,
                    Err(error) => {
                        println!("note: {} at an MTU of {mtu}: {error:#}", backend.name());
                        continue;
                    }
                };
                for (row, value) in said.lines().filter_map(|line| line.split_once('\t')) {
                    samples.entry((mtu, row.to_owned(), backend.name())).or_default().push(value.parse()?);
                }
            }
        }
    }
    let median = |mtu: u16, row: &str, backend: Backend| {
        let mut values = samples.get(&(mtu, row.to_owned(), backend.name()))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    println!("{:>64}  {:>11}  {:>11}  {:>16}  {:>8}", DRIVER, "slirp4netns", "pasta", "the kernel alone", "ratio");
    let rows = MTUS.iter().flat_map(|mtu| {
        let others: &[Row] = if *mtu == LARGE { OTHERS } else { &[] };
        STREAMS.iter().chain(others).map(move |row| (*mtu, *row))
    });
    for (mtu, (row, more_is_better)) in rows {
        let of = |backend| median(mtu, row, backend);
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let peers = [of(Backend::Slirp4netns), of(Backend::Pasta)];
        let better = peers.into_iter().flatten().reduce(if more_is_better { f64::max } else { f64::min });
        let ratio = of(Backend::Rbox).zip(better);
        let ratio = ratio.map(|(ours, theirs)| if more_is_better { ours / theirs } else { theirs / ours });
        let mark = if ratio.is_some_and(|ratio| ratio < 1.0) { "  BEHIND" } else { "" };
        println!(
            "{row:44} MTU {mtu:5}  {:>8}  {:>11}  {:>11}  {:>16}  {:>8}{mark}",
            shown(of(Backend::Rbox)),
            shown(peers[0]),
            shown(peers[1]),
            shown(of(Backend::Routed)),
            shown(ratio),
        );
    }
    println!("medians of {runs}, in turn; the ratio is to the better of slirp4netns and pasta, above 1 is ahead");
    Ok(())
}

/// One sample of one of them, in namespaces that are this process's own.
pub(crate) fn one(backend: &str, mtu: u16) -> Result<()> {
    let backend = Backend::ALL.into_iter().find(|known| known.name() == backend).context("no such program")?;
    rlimit::raise(Resource::NOFILE)?;
    let mut sample = Sample::start(backend, mtu)?;
    let report = |rows: &[Row], values: Vec<Option<f64>>| {
        rows.iter().zip(values).for_each(|((row, _), value)| {
            if let Some(value) = value {
                println!("{row}\t{value}");
            }
        });
    };
    let idle = sample.memory_idle();
    let rates = sample.streams()?;
    report(STREAMS, rates);
    if mtu == LARGE {
        let mut values = sample.rates()?;
        values.extend([idle, sample.memory_with_flows()?, Some(sample.ready)]);
        report(OTHERS, values);
    }
    Ok(())
}

struct Sample {
    lab: Lab,
    backend: Backend,
    ready: f64,
    _servers: [Running; 3],
}

impl Sample {
    fn start(backend: Backend, mtu: u16) -> Result<Self> {
        let mut lab = Lab::bare()?;
        for namespace in [&lab.guest, &lab.host] {
            // Connections that were closed are to be in nobody's way.
            namespace.set("ipv4/ip_local_port_range", "1024 65535")?;
            namespace.set("ipv4/tcp_tw_reuse", "1")?;
        }
        for namespace in [&lab.guest, &lab.host, &lab.far] {
            // Sent when it can be, as by what Linux begins with (cubic), which not every namespace may choose. Some machines
            // have one that paces (bbr); then half of what is measured is its timers.
            namespace.set("ipv4/tcp_congestion_control", "reno")?;
        }
        let published = vec![Published { host: (Family::V4.any(), IPERF).into(), guest_port: IPERF, udp: false }];
        let started = Instant::now();
        lab.serve(backend, &Options { mtu, published, ..Options::default() })?;
        let ready = started.elapsed().as_secs_f64() * 1000.0;
        let iperf = |namespace: &Namespace| {
            namespace.start(Command::new("iperf3").args(["--server", "-p", &IPERF.to_string()]).stdout(Stdio::null()))
        };
        let echo = format!("{}:{ECHO}", Family::V4.far());
        let servers =
            [iperf(&lab.far)?, iperf(&lab.guest)?, lab.far.start(Command::new(load()).args(["serve", &echo]))?];
        for (namespace, port) in [(&lab.far, IPERF), (&lab.guest, IPERF), (&lab.far, ECHO)] {
            rbox_tests::patience::until(|| namespace.run(|| is_listened_at(port)), |listens| *listens);
        }
        Ok(Self { lab, backend, ready, _servers: servers })
    }

    /// The rows of [`STREAMS`].
    fn streams(&mut self) -> Result<Vec<Option<f64>>> {
        let (far, host) = (Family::V4.far(), Family::V4.host());
        // Nobody publishes a port where nobody serves: there the guest is asked itself.
        let published = if self.backend == Backend::Routed { Family::V4.guest() } else { host };
        let mut values = Vec::new();
        let mut costs = Vec::new();
        for (streams, down) in [(1, false), (8, false), (1, true), (8, true)] {
            let before = self.cpu();
            let moved = iperf(&self.lab.guest, far, streams, down)?;
            values.push(Some(moved.rate));
            if streams == 1 && self.backend == Backend::Routed {
                // What nobody can do for less: the host's own client, which takes the bytes from no guest.
                costs.push(Some(iperf(&self.lab.host, far, streams, down)?.cost));
            } else if streams == 1 {
                let spent = self.cpu().zip(before).map(|(after, before)| after - before);
                costs.push(spent.map(|spent| spent * 1e9 / moved.bytes));
            }
        }
        for outwards in [false, true] {
            values.push(Some(iperf(&self.lab.far, published, 1, outwards)?.rate));
        }
        values.extend(costs);
        Ok(values)
    }

    /// Those of [`OTHERS`] that are counted in a second.
    fn rates(&self) -> Result<Vec<Option<f64>>> {
        let echo = format!("{}:{ECHO}", Family::V4.far());
        let all: [&[&str]; 5] = [
            &["ask", &echo, "1", SECONDS],
            &["ask", &echo, "64", SECONDS],
            &["connect", &echo, SECONDS],
            &["datagrams", &echo, "64", SECONDS],
            &["datagrams", &echo, "1400", SECONDS],
        ];
        let one = |words: &[&str]| self.lab.guest.run(|| read(Command::new(load()).args(words)));
        // What one of them cannot do, it has no figure for.
        all.into_iter().map(|words| Ok(one(words).ok().map(|said| said.trim().parse()).transpose()?)).collect()
    }

    fn memory_with_flows(&mut self) -> Result<Option<f64>> {
        if self.backend == Backend::Routed {
            return Ok(None);
        }
        let echo = format!("{}:{ECHO}", Family::V4.far());
        let mut hold = Command::new(load());
        hold.args(["hold", &echo, &FLOWS.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = self.lab.guest.start(&mut hold)?;
        let mut said = String::new();
        BufReader::new(holder.0.stdout.take().context("piped")?).read_line(&mut said)?;
        Ok((said.trim() == "held").then(|| self.memory()).flatten())
    }

    /// The least of [`memory`](Self::memory) over some seconds.
    fn memory_idle(&mut self) -> Option<f64> {
        let began = Instant::now();
        let mut least = self.memory()?;
        while began.elapsed() < IDLE {
            std::thread::sleep(Duration::from_millis(250));
            least = least.min(self.memory()?);
        }
        Some(least)
    }

    /// MB that are its alone, and its share of what it has together with others (proc_pid_smaps(5)).
    fn memory(&mut self) -> Option<f64> {
        Some(held::memory(self.lab.slirp()?.pid(), "Pss").ok()? as f64 / 1024.0)
    }

    /// Seconds that the program has had a processor, in hundredths.
    fn cpu(&mut self) -> Option<f64> {
        Some(held::cpu(self.lab.slirp()?.pid()).ok()?.as_secs_f64())
    }
}

fn load() -> PathBuf {
    host::target_dir().join(LOAD)
}

/// What iperf3 has moved.
struct Moved {
    /// Gbit/s that arrived.
    rate: f64,
    bytes: f64,
    /// Seconds that its client had a processor, for a GB.
    cost: f64,
}

fn iperf(client: &Namespace, server: IpAddr, streams: u32, reverse: bool) -> Result<Moved> {
    let mut command = Command::new("iperf3");
    command.args(["--json", "-t", SECONDS, "-P", &streams.to_string(), "-p", &IPERF.to_string()]);
    command.args(reverse.then_some("--reverse")).args(["--client", &server.to_string()]);
    // A program may lose the connection, or never make one.
    let said =
        client.run(|| read(Command::new("timeout").arg("30").arg(command.get_program()).args(command.get_args())))?;
    let said: Value = serde_json::from_str(&said)?;
    ensure!(said["error"].is_null(), "iperf3: {}", said["error"]);
    let received = &said["end"]["sum_received"];
    let number = |value: &Value| value.as_f64().context("iperf3 does not say what arrived");
    let (rate, bytes) = (number(&received["bits_per_second"])? / 1e9, number(&received["bytes"])?);
    let busy = number(&said["end"]["cpu_utilization_percent"]["host_total"])? / 100.0;
    Ok(Moved { rate, bytes, cost: busy * number(&received["seconds"])? * 1e9 / bytes })
}
