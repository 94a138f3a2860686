//! `cargo xtask …`: everything that is done with the source tree, one verb a file.

mod admin;
mod bench;
mod bench_fs;
mod bench_life;
mod bench_net;
mod bench_oci;
mod bench_pull;
mod bench_start;
mod beside;
mod build;
mod filter;
mod order;
mod setup;
mod stage;
mod test;
mod try_it;
mod users;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <verb>

  try                        build rbox, get Alpine and run it without root
  test [FILTER]              run every test, or those whose name holds FILTER;
                             --long: also those that take long, and by each storage driver; --e2e: only those that
                             drive the binary; --storage-driver DRIVER: those of them that have containers, by this one;
                             --vm: only those in a virtual machine with systemd
  build                      make the release binary, target/rbox
  setup                      install what tests and benchmarks need; --long: also what the long tests do
  order [STARTS]             find out, with perf, which functions a start runs, for the linker to put them together
  bench start [RUNS]         time `rbox run` against crun, bubblewrap and the system calls alone
  bench life [RUNS]          time `rbox run -d` against Podman, and what its containers cost
  bench fs [RUNS]            time the overlay by FUSE against the kernel's and fuse-overlayfs
  bench net [RUNS]           time and weigh user-mode networking against slirp4netns, pasta and the kernel alone
  bench oci [RUNS]           time `rbox oci run` and `rbox oci exec` against crun
  bench pull [RUNS]          time `rbox pull` against curl | igzip | tar
";

fn main() -> ExitCode {
    // Other users read what is made here, whatever the caller's own mask.
    rbox_sys::process::set_umask(0o022);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["build"] => build::release().map(drop),
        ["setup"] => setup::all(),
        ["setup", "--long"] => setup::all_and_long(),
        ["try"] => try_it::run(),
        ["test", ref rest @ ..] => test::run(rest),
        ["order"] => order::run(1000),
        ["order", starts] => order::run(starts.parse()?),
        ["bench", "start"] => bench_start::run(60),
        ["bench", "start", runs] => bench_start::run(runs.parse()?),
        ["bench", "life"] => bench_life::run(bench_life::CONTAINERS),
        ["bench", "life", runs] => bench_life::run(runs.parse()?),
        ["bench", "fs"] => bench_fs::run(5),
        ["bench", "fs", runs] => bench_fs::run(runs.parse()?),
        ["bench", "net"] => bench_net::run(5),
        ["bench", "net", runs] => bench_net::run(runs.parse()?),
        ["bench", "oci"] => bench_oci::run(50),
        ["bench", "oci", runs] => bench_oci::run(runs.parse()?),
        ["bench", "pull"] => bench_pull::run(7),
        ["bench", "pull", runs] => bench_pull::run(runs.parse()?),
        // The benchmarks themselves, started by the verbs above as an unprivileged user.
        ["__order", starts] => order::look(starts.parse()?),
        ["__bench-start", runs] => bench_start::measure(runs.parse()?),
        ["__bench-life", runs] => bench_life::measure(runs.parse()?),
        ["__bench-fs", runs] => bench_fs::measure(runs.parse()?),
        ["__bench-fs-one", backend, layers] => bench_fs::one(backend, layers),
        ["__bench-net", runs] => bench_net::measure(runs.parse()?),
        ["__bench-net-one", backend, mtu] => bench_net::one(backend, mtu.parse()?),
        ["__bench-oci", runs] => bench_oci::measure(runs.parse()?),
        ["__bench-pull", runs] => bench_pull::measure(runs.parse()?),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => bail!("no such verb: {}\n\n{USAGE}", arguments.join(" ")),
    }
}
