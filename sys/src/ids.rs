//! Who this process is: setresuid(2), setgroups(2).

use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::thread::{Gid, Uid};

/// The real user id.
pub fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The real group id.
pub fn gid() -> u32 {
    rustix::process::getgid().as_raw()
}

/// Whether this process is root of the host, and not only of a user namespace: one may have every id mapped to itself.
pub fn is_root_of_host() -> bool {
    // USER_NS_INIT_INO of uapi/linux/nsfs.h, the same on every kernel that has user namespaces.
    const OF_HOST: u64 = 0xEFFF_FFFD;
    uid() == 0 && std::fs::metadata("/proc/self/ns/user").map_or(true, |namespace| namespace.ino() == OF_HOST)
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

/// Does something as another user, in real and effective id, and is who this was again; what is left meanwhile are the
/// saved id and what it permits. Of one thread. EINVAL: there is no such id in this user namespace.
pub fn as_user<T>(uid: u32, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let (own, other) = (rustix::process::getuid(), Uid::from_raw(uid));
    rustix::thread::set_thread_res_uid(other, other, own)?;
    let result = act();
    rustix::thread::set_thread_res_uid(own, own, own)?;
    result
}
