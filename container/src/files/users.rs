//! Who is who in a container, for who lists its processes.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use super::job::{Client, Job, told};
use crate::life::begun::Begun;
use crate::{Error, user};

/// passwd(5) and group(5) of a container that runs. A filesystem that is served from user space shows itself to nobody outside
/// of the container's user namespace (fuse_allow_current_process() in fs/fuse/dir.c).
pub(crate) fn databases(begun: &Begun) -> Result<(String, String), Error> {
    const WHAT: &str = "/etc/passwd and /etc/group of the container";
    let root = File::open(format!("/proc/{}/root", begun.first.pid));
    match root.and_then(|root| user::databases(root.as_fd())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        read => return read.map_err(Error::io("read", WHAT)),
    }
    told(WHAT, |out| Client::on_process(begun.first.pid, begun.pidfd.as_fd(), Job::Users, out))
}
