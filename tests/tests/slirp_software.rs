//! Programs that others have written, in the guest and outside of it: what people do over a network every day.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rbox_tests::command::{output, read};
use rbox_tests::host;
use rbox_tests::lines;
use rbox_tests::netns::Namespace;
use rbox_tests::patience::until;
use rbox_tests::servers::{Dns, Ssh, Web};
use rbox_tests::slirp::{Backend, Family, LARGE, Lab, Options, Published};
use rbox_tests::traffic::{Pattern, is_listened_at};
use serde_json::Value;
use tempfile::TempDir;

// slirp4netns 1.2 publishes IPv4 alone, and libslirp passes on no echoes of IPv6. The pasta of Debian 12 hangs now and
// then.
lines! {
    curl_by_the_hosts_own_address: rbox routed slirp4netns;
    curl_by_the_gateway_where_the_hosts_loopback_is_allowed: rbox slirp4netns;
    curl_by_a_published_port: rbox slirp4netns_v4;
    many_files_at_once_by_curl: rbox routed slirp4netns;
    git_clones_and_pushes: rbox routed slirp4netns;
    dig_asks_the_guests_name_server: rbox slirp4netns;
    dig_asks_a_name_server_itself: rbox routed slirp4netns;
    ping_by_name: rbox routed slirp4netns_v4;
    ssh_out_of_the_guest: rbox routed slirp4netns;
    ssh_into_the_guest: rbox slirp4netns_v4;
    iperf3_out_of_the_guest: rbox routed slirp4netns;
    iperf3_into_the_guest: rbox slirp4netns_v4;
}

const HTTPS: u16 = 8443;
const SSH: u16 = 2222;
const IPERF: u16 = 5201;

/// What goes over connections as a whole.
const BULK: usize = 20 << 20;

/// A directory, and a file in it that has [`BULK`] bytes.
fn bulk() -> Result<(TempDir, std::path::PathBuf)> {
    let dir = tempfile::Builder::new().prefix("software.").tempdir_in(host::scratch_base())?;
    let file = dir.path().join("bulk");
    fs::write(&file, Pattern::bytes(1, BULK))?;
    Ok((dir, file))
}

fn same(one: &Path, other: &Path) -> Result<()> {
    ensure!(fs::read(one)? == fs::read(other)?, "{} is not as {}", one.display(), other.display());
    Ok(())
}

/// A guest with this port published, at the same port.
fn published(backend: Backend, family: Family, port: u16) -> Result<Lab> {
    let published =
        [false, true].map(|udp| Published { host: (family.any(), port).into(), guest_port: port, udp }).to_vec();
    Lab::new(backend, &Options { mtu: LARGE, published, ..Options::default() })
}

fn https(at: SocketAddr) -> String {
    format!("https://{at}")
}

/// curl(1), which says what failed, and trusts the server's authority alone.
fn curl(web: &Web) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"]);
    curl.arg("--cacert").arg(web.authority());
    curl
}

/// Gets a file and puts it, by a verified connection.
fn gets_and_puts(from: &Namespace, web: &Web, url: &str) -> Result<()> {
    let (dir, file) = bulk()?;
    fs::copy(&file, web.files().join("bulk"))?;
    from.run(|| {
        let got = dir.path().join("got");
        for version in ["--http1.1", "--http2"] {
            let mut get = curl(web);
            get.args([version, "--write-out", "%{http_code} %{http_version} %{ssl_verify_result}", "--output"]);
            let said = read(get.arg(&got).arg(format!("{url}/bulk")))?;
            let expected = format!("200 {} 0", version.trim_start_matches("--http"));
            ensure!(said == expected, "{said}");
            same(&got, &file)?;
        }
        read(curl(web).arg("--upload-file").arg(&file).arg(format!("{url}/put")))?;
        same(&web.files().join("put"), &file)?;
        let unknown = output(Command::new("curl").args(["-s", "--noproxy", "*", url]))?;
        // "Peer certificate cannot be authenticated with known CA certificates."
        ensure!(unknown.status.code() == Some(60), "curl trusts anybody: {}", unknown.status);
        Ok(())
    })
}

fn curl_by_the_hosts_own_address(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let url = https((family.host(), HTTPS).into());
    let web = Web::start(Some(&lab.host), &[&url], &[])?;
    gets_and_puts(&lab.guest, &web, &url)
}

fn curl_by_the_gateway_where_the_hosts_loopback_is_allowed(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options { allow_host_loopback: true, ..Options::default() })?;
    let name = format!("IP:{}", family.gateway());
    let web = Web::start(Some(&lab.host), &[&https((family.loopback(), HTTPS).into())], &[&name])?;
    gets_and_puts(&lab.guest, &web, &https((family.gateway(), HTTPS).into()))
}

fn curl_by_a_published_port(backend: Backend, family: Family) -> Result<()> {
    let lab = published(backend, family, HTTPS)?;
    let names = [family.host(), family.loopback()].map(|address| format!("IP:{address}"));
    let names = names.each_ref().map(String::as_str);
    let web = Web::start(Some(&lab.guest), &[&https((family.any(), HTTPS).into())], &names)?;
    for (from, to) in [(&lab.far, family.host()), (&lab.host, family.loopback())] {
        gets_and_puts(from, &web, &https((to, HTTPS).into()))?;
    }
    Ok(())
}

fn many_files_at_once_by_curl(backend: Backend, family: Family) -> Result<()> {
    const FILES: usize = 100;
    let lab = Lab::new(backend, &Options::default())?;
    let url = https((family.far(), HTTPS).into());
    let web = Web::start(Some(&lab.far), &[&url], &[])?;
    let dir = tempfile::tempdir_in(host::scratch_base())?;
    for number in 1..=FILES {
        fs::write(web.files().join(number.to_string()), Pattern::bytes(number as u64, 100_000 + number))?;
    }
    let mut get = curl(&web);
    // A connection each.
    get.args(["--http1.1", "--parallel", "--parallel-immediate", "--parallel-max", "50"]);
    let all = (1..=FILES).flat_map(|number| {
        [format!("{url}/{number}"), "--output".to_owned(), dir.path().join(number.to_string()).display().to_string()]
    });
    lab.guest.run(|| read(get.args(all)))?;
    (1..=FILES).try_for_each(|number| {
        let name = number.to_string();
        same(&dir.path().join(&name), &web.files().join(&name))
    })
}

fn git_clones_and_pushes(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let at = SocketAddr::from((family.far(), HTTPS));
    let (dir, file) = bulk()?;
    let web = Web::start(Some(&lab.far), &[&https(at)], &[])?;
    web.add_repository("bulk.git")?;
    let git = |within: &str, words: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(dir.path().join(within)).args(words);
        git.env("GIT_SSL_CAINFO", web.authority()).env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", dir.path());
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "one").env(format!("GIT_{who}_EMAIL"), "one@localhost");
        }
        lab.guest.run(|| read(&mut git))
    };
    let url = format!("{}/git/bulk.git", https(at));
    git("", &["clone", "--quiet", &url, "one"])?;
    fs::rename(&file, dir.path().join("one/bulk"))?;
    git("one", &["add", "bulk"])?;
    git("one", &["commit", "--quiet", "-m", "Add what is large"])?;
    git("one", &["push", "--quiet", "origin", "HEAD:main"])?;
    git("", &["clone", "--quiet", &url, "other"])?;
    same(&dir.path().join("one/bulk"), &dir.path().join("other/bulk"))?;
    git("other", &["fsck", "--strict"])?;
    ensure!(git("one", &["rev-parse", "HEAD"])? == git("other", &["rev-parse", "origin/main"])?);
    Ok(())
}

/// What a name server has that dig(1) asks for, and more addresses of one name than a datagram of 512 bytes takes.
fn records() -> Vec<String> {
    let many = (1..=200).map(|number| format!("--host-record=large.test,198.51.100.{number}"));
    let others = ["--host-record=name.test,192.0.2.101,2001:db8::101", "--txt-record=text.test,words of a text"];
    many.chain(others.map(str::to_owned)).collect()
}

fn dig_asks_the_guests_name_server(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    lab.resolve_by(&[family.far()])?;
    let _server = Dns::start(&lab.far, family.far(), &records())?;
    digs(&lab, &family.dns().to_string())
}

fn dig_asks_a_name_server_itself(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let _server = Dns::start(&lab.far, family.far(), &records())?;
    digs(&lab, &family.far().to_string())
}

fn digs(lab: &Lab, server: &str) -> Result<()> {
    let dig = |words: &str| {
        let mut dig = Command::new("dig");
        dig.arg("-r").arg(format!("@{server}")).args(words.split(' '));
        lab.guest.run(|| read(&mut dig))
    };
    for transport in ["+notcp", "+tcp"] {
        for (question, answer) in [
            ("name.test A", "192.0.2.101"),
            ("name.test AAAA", "2001:db8::101"),
            ("text.test TXT", "\"words of a text\""),
            ("-x 192.0.2.101", "name.test."),
        ] {
            let said = dig(&format!("{question} {transport} +short"))?;
            ensure!(said.trim_end() == answer, "{question} {transport}: {said}");
        }
    }
    ensure!(dig("other.test A")?.contains("status: REFUSED"), "what the server does not know is not told");
    for (words, by, truncated) in [
        ("+noedns", "(TCP)", true),
        ("+bufsize=512", "(TCP)", true),
        ("+bufsize=4096 +ignore", "(UDP)", false),
        ("+tcp", "(TCP)", false),
    ] {
        let said = dig(&format!("large.test A {words}"))?;
        ensure!(said.contains("ANSWER: 200,") && said.contains(by), "{words}: {said}");
        ensure!(said.contains("Truncated, retrying in TCP mode") == truncated, "{words}: {said}");
        ensure!(said.contains("EDNS: version: 0") != (words == "+noedns"), "{words}: {said}");
    }
    Ok(())
}

fn ping_by_name(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let _server = Dns::start(&lab.far, family.far(), &[format!("--host-record=far.test,{}", family.far())])?;
    lab.resolve_by(&[family.far()])?;
    // In the guest another server is the first one, where there is any other.
    let server = if backend == Backend::Routed { family.far() } else { family.dns() };
    let dir = tempfile::tempdir_in(host::scratch_base())?;
    let resolv_conf = dir.path().join("resolv.conf");
    fs::write(&resolv_conf, format!("nameserver {server}\n"))?;
    let mut ping = Command::new("unshare");
    ping.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec ping \"$@\""]).arg(resolv_conf);
    ping.args(["-c", "5", "-i", "0.2", "-W", "5", "-s", "1000", "far.test"]).env("LC_ALL", "C");
    let said = lab.guest.run(|| read(&mut ping))?;
    ensure!(said.contains("PING far.test") && said.contains(&family.far().to_string()), "{said}");
    ensure!(said.contains("5 packets transmitted, 5 received, 0% packet loss") && !said.contains("DUP!"), "{said}");
    Ok(())
}

/// Commands, their ends, and much data either way and both ways at once.
fn sshs(from: &Namespace, ssh: &Ssh, to: SocketAddr) -> Result<()> {
    let (dir, file) = bulk()?;
    let command = |words: &str| ssh.client(to.ip(), to.port(), words);
    from.run(|| {
        let said = read(&mut command("echo \"$SSH_CONNECTION\"; id -un"))?;
        ensure!(said.contains(&format!(" {}\n", to.port())) && said.ends_with("tester\n"), "{said}");
        ensure!(output(&mut command("exit 7"))?.status.code() == Some(7));
        let sum = |words: &mut Command| -> Result<String> {
            Ok(read(words)?.split_whitespace().next().context("sha256sum(1) says nothing")?.to_owned())
        };
        let own = sum(Command::new("sha256sum").arg(&file))?;
        let run = |words: &str, out: &str| -> Result<()> {
            let mut ssh = command(words);
            let status = ssh.stdin(File::open(&file)?).stdout(File::create(dir.path().join(out))?).status()?;
            ensure!(status.success(), "ssh: {status}");
            Ok(())
        };
        run("sha256sum", "sum")?;
        ensure!(fs::read_to_string(dir.path().join("sum"))?.starts_with(&own), "there it is something else");
        run(&format!("cat {}", file.display()), "down")?;
        same(&dir.path().join("down"), &file)?;
        run("cat", "echo")?;
        same(&dir.path().join("echo"), &file)
    })
}

fn ssh_out_of_the_guest(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    let ssh = Ssh::start(&lab.far, SSH)?;
    sshs(&lab.guest, &ssh, (family.far(), SSH).into())
}

fn ssh_into_the_guest(backend: Backend, family: Family) -> Result<()> {
    let lab = published(backend, family, SSH)?;
    let ssh = Ssh::start(&lab.guest, SSH)?;
    sshs(&lab.far, &ssh, (family.host(), SSH).into())
}

/// A second each: there, back, both ways, several at once; and datagrams.
fn iperf3(server: &Namespace, client: &Namespace, to: SocketAddr) -> Result<()> {
    let measure = |words: &str| -> Result<Value> {
        // One that was asked before may be busy with that still.
        let mut serve = Command::new("iperf3");
        serve.args(["--server", "--one-off", "--port", &to.port().to_string()]).stdout(Stdio::null());
        let _server = server.start(&mut serve)?;
        until(|| server.run(|| is_listened_at(to.port())), |listens| *listens);
        let mut iperf3 = Command::new("iperf3");
        iperf3.args(["--json", "--port", &to.port().to_string(), "--client", &to.ip().to_string()]);
        iperf3.args(words.split(' '));
        let output = client.run(|| output(&mut iperf3))?;
        let said: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(output.status.success() && said["error"].is_null(), "iperf3 {words}: {}", said["error"]);
        Ok(said["end"].clone())
    };
    for words in ["--parallel 1", "--reverse", "--bidir", "--parallel 8"] {
        let end = measure(&format!("--time 1 {words}"))?;
        // How fast it is depends on what else the machine has to do.
        let moved = |way: &str| end[format!("sum_received{way}")]["bytes"].as_u64() > Some(1_000_000);
        ensure!(moved("") && moved("_bidir_reverse") == (words == "--bidir"), "{words}: {end}");
    }
    for words in ["--udp --time 1 --bitrate 5M", "--udp --time 1 --bitrate 5M --reverse"] {
        let end = measure(&format!("{words} --length 1400"))?;
        let (packets, lost) = (end["sum"]["packets"].as_f64(), end["sum"]["lost_packets"].as_f64());
        let (packets, lost) = packets.zip(lost).context("iperf3 does not say how many datagrams came")?;
        // 5 Mbit/s are 446 of these a second. Where nobody gets to read them for long, some are lost.
        ensure!(packets > 100.0 && lost < packets / 2.0, "{words}: {lost} of {packets} are lost");
    }
    Ok(())
}

fn iperf3_out_of_the_guest(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    iperf3(&lab.far, &lab.guest, (family.far(), IPERF).into())
}

fn iperf3_into_the_guest(backend: Backend, family: Family) -> Result<()> {
    let lab = published(backend, family, IPERF)?;
    iperf3(&lab.guest, &lab.far, (family.host(), IPERF).into())
}
