//! What the process that serves a network keeps for itself: sockets of IP, and reading how the host resolves names.
//!
//! It parses what a hostile guest sends. Whoever takes it over by that finds no capability, no file but those in /etc and the
//! ends of its own logs, no program to execute, no process to look at or to signal.

use std::io;
use std::path::{Path, PathBuf};

use rbox_sys::caps::{self, Capabilities, Sets};
use rbox_sys::{landlock, process};

use super::uplink::RESOLV_CONF;
use crate::confinement::{allow_only, entry, equal};

/// Where resolv.conf(5) is, and where it leads on systems whose resolver is systemd's.
const RESOLVERS: [&str; 2] = ["/etc", "/run/systemd/resolve"];

/// Calls that are allowed with any arguments.
const ALLOWED: &str = "\
    accept4 bind brk clock_getres clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close connect \
    epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait exit exit_group fcntl fcntl64 fstat fstat64 fstatat64 \
    futex futex_time64 getpeername getpid getrandom getsockname getsockopt gettid inotify_add_watch inotify_init1 \
    inotify_rm_watch ioctl listen lseek _llseek madvise mremap munmap nanosleep newfstatat open openat poll ppoll pwrite64 \
    ppoll_time64 read readv recvfrom recvmmsg recvmmsg_time64 recvmsg restart_syscall rt_sigaction rt_sigprocmask \
    rt_sigreturn sched_yield sendmmsg sendmsg sendto setsockopt shutdown sigaltstack statx tgkill timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 write writev";

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;

/// Confines this process, for good.
pub(super) fn confine() -> io::Result<()> {
    let none = Capabilities(0);
    caps::set(&Sets { bounding: none, effective: none, permitted: none, inheritable: none, ambient: none })?;
    process::set_undumpable()?;
    caps::set_no_new_privileges()?;
    let directories = directories();
    let directories: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
    // Older kernels do without; what is below then still holds.
    landlock::read_only_beneath(&directories)?;
    let sockets = [AF_INET, AF_INET6].map(|family| entry("socket", equal(0, family)));
    allow_only([entry(ALLOWED, Vec::new())].into_iter().chain(sockets).collect())
}

/// Those in which names are looked up; also where the file itself is a link to.
fn directories() -> Vec<PathBuf> {
    let target = std::fs::canonicalize(RESOLV_CONF).ok();
    let target = target.as_deref().and_then(Path::parent).map(Path::to_owned);
    RESOLVERS.into_iter().map(PathBuf::from).chain(target).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;
    use std::{fs, thread};

    use super::*;

    #[test]
    fn what_is_left() {
        // In a thread of its own, which it ends with; it makes no other.
        let confined = thread::spawn(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let program = std::env::current_exe().expect("this program");
            confine().expect("confined");
            let address = listener.local_addr().expect("an address");
            let stream = TcpStream::connect(address).expect("connected");
            stream.set_nodelay(true).expect("an option");
            listener.accept().expect("accepted");
            UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).expect("a socket");
            fs::read(RESOLV_CONF).or_else(|_| fs::read("/etc/hosts")).expect("readable");
            // More than what the allocator has already.
            assert_eq!(vec![7_u8; 8 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>(), 7 * (8 << 20));

            UnixDatagram::unbound().expect_err("a socket of Unix");
            Command::new("/bin/true").spawn().expect_err("a program");
            fs::write("/tmp/rbox-net-confined", "").expect_err("a file");
            fs::read_link(program).expect_err("no link, and no call for it");
        });
        confined.join().expect("no panic");
    }
}
