//! Names: what the guest asks its name server is asked of the host's.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use rbox_tests::dns::{self, MANY, Server};
use rbox_tests::lines;
use rbox_tests::patience::until;
use rbox_tests::slirp::{Backend, Family, Lab, Options};

// Both peers ask the first server of the same family that there is; the pasta of Debian 12 by UDP alone, and only the one
// that was first when it started.
lines! {
    a_name_has_an_address: rbox slirp4netns pasta;
    large_answers_come_by_tcp: rbox slirp4netns;
    many_ask_at_once: rbox slirp4netns pasta;
    a_changed_list_of_servers_is_followed: rbox slirp4netns;
    a_server_of_the_other_family_will_do: rbox;
    where_the_first_server_is_not_there_the_next_is_asked: rbox;
}

const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 101);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 201);

fn a_name_has_an_address(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    lab.resolve_by(&[family.far()])?;
    let server = Server::start(&lab.far, family.far(), ONE)?;
    ensure!(dns::ask(&lab.guest, family.dns(), "name.test", 7)? == [ONE]);
    ensure!(server.asked[1].load(Ordering::SeqCst) == 0, "asked by TCP without need");
    Ok(())
}

fn large_answers_come_by_tcp(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    lab.resolve_by(&[family.far()])?;
    let server = Server::start(&lab.far, family.far(), ONE)?;
    let found = dns::ask(&lab.guest, family.dns(), dns::LARGE, 8)?;
    ensure!(found.len() == usize::from(MANY) && found[0] == ONE, "{found:?}");
    ensure!(server.asked[1].load(Ordering::SeqCst) == 2, "both queries on one connection reach the server");
    Ok(())
}

/// Answers find who asked, even where the numbers of the queries are the same.
fn many_ask_at_once(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    lab.resolve_by(&[family.far()])?;
    let _server = Server::start(&lab.far, family.far(), ONE)?;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..50u16)
            .map(|number| {
                let lab = &lab;
                scope.spawn(move || dns::ask(&lab.guest, family.dns(), &format!("name{number}.test"), number / 2))
            })
            .collect();
        for asked in all {
            ensure!(asked.join().expect("no panic")? == [ONE]);
        }
        Ok(())
    })
}

fn a_changed_list_of_servers_is_followed(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    lab.resolve_by(&[family.far()])?;
    let _one = Server::start(&lab.far, family.far(), ONE)?;
    let _other = Server::start(&lab.far, family.farther(), OTHER)?;
    ensure!(dns::ask(&lab.guest, family.dns(), "name.test", 9)? == [ONE]);
    lab.resolve_by(&[family.farther()])?;
    let ask = || dns::ask(&lab.guest, family.dns(), "name.test", 10).unwrap_or_default();
    until(ask, |found| found == &[OTHER]);
    Ok(())
}

fn a_server_of_the_other_family_will_do(backend: Backend, family: Family) -> Result<()> {
    let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
    let lab = Lab::new(backend, &Options::default())?;
    lab.resolve_by(&[other.far()])?;
    let _server = Server::start(&lab.far, other.far(), ONE)?;
    ensure!(dns::ask(&lab.guest, family.dns(), "name.test", 11)? == [ONE]);
    Ok(())
}

fn where_the_first_server_is_not_there_the_next_is_asked(backend: Backend, family: Family) -> Result<()> {
    let lab = Lab::new(backend, &Options::default())?;
    lab.resolve_by(&[family.far(), family.farther()])?;
    let _server = Server::start(&lab.far, family.farther(), ONE)?;
    ensure!(dns::ask(&lab.guest, family.dns(), "name.test", 12)? == [ONE]);
    Ok(())
}
