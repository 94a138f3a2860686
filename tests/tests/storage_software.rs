//! What others have written, on each storage driver: a package manager, Git and a compiler, and stress-ng's filesystem tests. What
//! comes out is the same as on the kernel's overlay.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rbox_tests::debian;
use rbox_tests::debian_mirror::{self, PACKAGES, SOURCE};
use rbox_tests::rbox::Rbox;

const DRIVERS: [&str; 3] = ["overlay", "fuse", "copy"];

/// Debian, and the flag that shows the mirror at /mirror.
fn with_debian() -> Result<(Rbox, String, String)> {
    let mirror = debian_mirror::directory()?;
    let (rbox, image) = Rbox::with_image(&debian::layout()?, debian::TAG, "t/debian:12")?;
    Ok((rbox, image, format!("--volume={}:/mirror:ro", mirror.display())))
}

/// Has apt know the mirror and nothing else.
const WITH_MIRROR: &str = "set -e; export DEBIAN_FRONTEND=noninteractive
    rm -rf /etc/apt/sources.list.d; echo 'deb [trusted=yes] file:/mirror ./' >/etc/apt/sources.list
    apt-get -qq -o APT::Update::Error-Mode=any update
    install() { apt-get install -qq -y --no-install-recommends \"$@\" >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }; }";

/// What a script prints on each driver.
fn on_each(drivers: &[&str], script: &str) -> Result<Vec<String>> {
    let (rbox, image, mirror) = with_debian()?;
    let mut said = Vec::new();
    for driver in drivers {
        let words = ["--storage-driver", driver, "run", "--rm", "--network=none", &mirror, &image, "sh", "-c"];
        said.push(rbox.run([&words[..], &[&format!("{WITH_MIRROR}\n{script}")]].concat()).success());
    }
    Ok(said)
}

#[test]
#[ignore = "long: installs 30 packages three times"]
fn thirty_packages_are_installed() -> Result<()> {
    // What is made anew each time, or says when, is left out.
    let script = format!(
        "install {packages}
         dpkg -V || true; dpkg -l | grep -c ^ii
         for package in {packages}; do dpkg -s $package | grep -q '^Status: install ok installed'; done
         set -- / -xdev \\( -path /tmp -o -path /proc -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf \\
             -o -path /var/log -o -path /var/cache -o -path /var/lib/apt -o -path /mirror \\) -prune -o
         find \"$@\" -type d -printf '%p %M %U %G\\n' -o -type l -printf '%p %M %U %G %l\\n' \\
             -o -printf '%p %M %U %G %n %s\\n' | sort
         find \"$@\" -type f -mmin +1440 -printf '%p %T@\\n' | sort
         find \"$@\" -type f -print0 | sort -z | xargs -0 sha256sum",
        packages = PACKAGES.join(" ")
    );
    same_on_all(&DRIVERS, &on_each(&DRIVERS, &script)?)
}

#[test]
#[ignore = "long: builds a program three times"]
fn a_program_is_cloned_and_built() -> Result<()> {
    let script = format!(
        "install make libc6-dev
         mkdir /origin; cd /origin; tar xzf /mirror/{SOURCE} --strip-components=1; export HOME=/root
         git init -q -b main; git config --global user.name n; git config --global user.email n@example.org
         git config --global safe.directory '*'
         git add .; GIT_AUTHOR_DATE=2000-01-01T00:00:00Z GIT_COMMITTER_DATE=2000-01-01T00:00:00Z git commit -q -m 1
         git clone -q /origin /clone; cd /clone; git status --porcelain; git fsck --strict; git rev-parse HEAD
         make -s -j2 generic; make -s test | tail -1; src/lua -e 'print(1 + 1)'; sha256sum src/lua
         git status --porcelain --ignored | sort; make -s clean; git gc -q; git fsck --strict; git status --porcelain"
    );
    same_on_all(&DRIVERS, &on_each(&DRIVERS, &script)?)
}

#[track_caller]
fn same_on_all(drivers: &[&str], said: &[String]) -> Result<()> {
    let (first, others) = said.split_first().context("there is one")?;
    for (driver, other) in drivers[1..].iter().zip(others) {
        let mut differing = first.lines().zip(other.lines()).filter(|(one, other)| one != other);
        if let Some((one, other)) = differing.next() {
            anyhow::bail!("{driver}: {other:?}, and not {one:?}");
        }
        ensure!(first.lines().count() == other.lines().count(), "{driver}: {other}\nand not: {first}");
    }
    Ok(())
}

/// Each stressor has its results checked (`--verify`), for a second. What fails on the kernel's overlay, too, is the test's.
#[test]
#[ignore = "long: two minutes"]
fn stress_ngs_filesystem_class_finds_nothing() -> Result<()> {
    // file-ioctl asks for what the kernel has counted itself (FIOQSIZE), and of FUSE's files it counts nothing; binderfs
    // mounts.
    let script = "install stress-ng; mkdir /work; cd /work
        stress-ng --class filesystem --exclude file-ioctl,binderfs --sequential 2 --timeout 1s --verify --temp-path /work \
            >/tmp/out 2>&1 || true
        ls -A /work; grep -E 'fail:|error:|run completed' /tmp/out";
    let said = on_each(&["overlay", "fuse"], script)?;
    let [kernel, ours] = [&said[0], &said[1]].map(|said| failed(said));
    let more: Vec<_> = ours.difference(&kernel).collect();
    ensure!(more.is_empty(), "{more:?} fail on rbox's overlay alone:\n{}", said[1]);
    for said in said {
        ensure!(said.lines().last().is_some_and(|last| last.contains("run completed")), "{said}");
    }
    Ok(())
}

/// Those that ended so: `… process [123] (name) terminated with an error, …`.
fn failed(said: &str) -> BTreeSet<&str> {
    let ended = said.lines().filter_map(|line| line.split_once(") terminated with an error"));
    ended.filter_map(|(before, _)| Some(before.rsplit_once('(')?.1)).collect()
}
