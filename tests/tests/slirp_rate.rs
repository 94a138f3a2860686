//! Limits of bandwidth in user-mode networking. What is measured is how long a number of bytes takes: never less than the
//! limit says, and not many times as long.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rbox_tests::lines;
use rbox_tests::slirp::{Backend, Family, Lab, Options};
use rbox_tests::traffic::{read_pattern, write_pattern};

lines! {
    what_is_sent_takes_its_time: rbox;
    what_is_received_takes_its_time: rbox;
    what_is_received_is_not_slowed_by_what_is_sent: rbox;
    what_is_sent_is_not_slowed_by_what_is_received: rbox;
    datagrams_above_the_rate_are_lost: rbox;
}

const RATE: u64 = 2 << 20;
/// What takes a second and a half, less what is let through at once.
const LENGTH: usize = 3 << 20;
const LEAST: Duration = Duration::from_millis(1300);
/// On however busy a machine.
const MOST: Duration = Duration::from_secs(20);

fn lab(backend: Backend, rate: [Option<u64>; 2]) -> Result<Lab> {
    Lab::new(backend, &Options { rate, ..Options::default() })
}

/// How long it takes the guest to send so many bytes, or to receive them.
fn timed(lab: &Lab, family: Family, outward: bool) -> Result<Duration> {
    let (near, far) = lab.guest.connection_to(&lab.far.listen(family.far())?)?;
    let (from, to) = if outward { (near, far) } else { (far, near) };
    let begun = Instant::now();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            write_pattern(&from, 1, LENGTH)?;
            from.shutdown(Shutdown::Write)
        });
        read_pattern(&to, 1, LENGTH)?;
        writer.join().expect("a writer does not panic")?;
        ensure!((&to).read(&mut [0])? == 0, "there is more than was sent");
        Ok(begun.elapsed())
    })
}

fn what_is_sent_takes_its_time(backend: Backend, family: Family) -> Result<()> {
    let took = timed(&lab(backend, [None, Some(RATE)])?, family, true)?;
    ensure!((LEAST..MOST).contains(&took), "{took:?}");
    Ok(())
}

fn what_is_received_takes_its_time(backend: Backend, family: Family) -> Result<()> {
    let took = timed(&lab(backend, [Some(RATE), None])?, family, false)?;
    ensure!((LEAST..MOST).contains(&took), "{took:?}");
    Ok(())
}

// Of acknowledgements few go the limited way.

fn what_is_received_is_not_slowed_by_what_is_sent(backend: Backend, family: Family) -> Result<()> {
    let took = timed(&lab(backend, [None, Some(RATE)])?, family, false)?;
    ensure!(took < LEAST, "{took:?}");
    Ok(())
}

fn what_is_sent_is_not_slowed_by_what_is_received(backend: Backend, family: Family) -> Result<()> {
    let took = timed(&lab(backend, [Some(RATE), None])?, family, true)?;
    ensure!(took < LEAST, "{took:?}");
    Ok(())
}

fn datagrams_above_the_rate_are_lost(backend: Backend, family: Family) -> Result<()> {
    const SIZE: usize = 1000;
    const COUNT: usize = 4000;
    let lab = lab(backend, [Some(RATE), None])?;
    let far = lab.far.datagrams(family.far(), 0)?;
    let near = lab.guest.datagrams(family.any(), 0)?;
    near.send_to(b"begin", far.local_addr()?)?;
    let (_, guest): (usize, SocketAddr) = far.recv_from(&mut [0; 16])?;
    for _ in 0..COUNT {
        far.send_to(&[1; SIZE], guest)?;
    }
    near.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (mut came, mut buffer) = (0, [0; SIZE]);
    let deadline = Instant::now() + MOST;
    loop {
        ensure!(Instant::now() < deadline, "the end did not get through");
        match near.recv(&mut buffer) {
            Ok(3) => break,
            Ok(_) => came += 1,
            Err(_) => _ = far.send_to(b"end", guest)?,
        }
    }
    ensure!(came < COUNT, "all of {COUNT} came");
    Ok(())
}
