//! Who is who in a container, for who lists its processes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use super::job::{Client, Job, pipe};
use crate::life::begun::Begun;
use crate::{Error, user};

/// passwd(5) and group(5) of a container that runs. A filesystem that is served from user space shows itself to nobody outside
/// of the container's user namespace (fuse_allow_current_process() in fs/fuse/dir.c).
pub(crate) fn databases(begun: &Begun) -> Result<(String, String), Error> {
    let failed = || Error::io("read", "/etc/passwd and /etc/group of the container");
    let root = File::open(format!("/proc/{}/root", begun.first.pid));
    match root.and_then(|root| user::databases(root.as_fd())) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        read => return read.map_err(failed()),
    }
    let (mut read, write) = pipe()?;
    let client = Client::on_process(begun.first.pid, begun.pidfd.as_fd(), Job::Users, write.as_fd())?;
    drop(write);
    let mut text = Vec::new();
    read.read_to_end(&mut text).map_err(failed())?;
    client.done()?;
    serde_json::from_slice(&text).map_err(|error| failed()(error.into()))
}
