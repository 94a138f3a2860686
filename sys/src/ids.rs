//! Who this process is: setresuid(2), setgroups(2).

use std::io;

use rustix::thread::{Gid, Uid};

/// The real user id.
pub fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The real group id.
pub fn gid() -> u32 {
    rustix::process::getgid().as_raw()
}

/// The supplementary groups.
pub fn groups() -> io::Result<Vec<u32>> {
    Ok(rustix::process::getgroups()?.into_iter().map(|group| group.as_raw()).collect())
}

/// Sets the supplementary groups of this process (of one thread).
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().map(|id| Gid::from_raw(*id)).collect();
    Ok(rustix::thread::set_thread_groups(&groups)?)
}

/// Sets all three group ids, then all three user ids, of this process (of one thread).
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
