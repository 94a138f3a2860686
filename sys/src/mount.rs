//! The mount API by file descriptors (Linux 5.2), and the little of the old one that it does not replace.
//!
//! A mount is made detached, configured while nobody sees it, and attached to a directory that was resolved once
//! to a descriptor: no path is walked twice.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::errno;

/// Attributes of a mount, as mount_setattr(2) has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u64);

impl Attributes {
    /// Nothing may be written through this mount.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-id bits and file capabilities have no effect.
    pub const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// Symbolic links are not followed (Linux 5.10).
    pub const NOSYMFOLLOW: Self = Self(0x0020_0000);

    /// Those of either.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of `self` that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are in `self`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The attributes with these bits of `MOUNT_ATTR_*`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits of `MOUNT_ATTR_*`.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// A filesystem being configured, fsopen(2).
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Begins a new instance of the filesystem type `name`.
    pub fn open(name: &str) -> io::Result<Self> {
        Ok(Self(rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// `key=value`. The kernel takes values of up to 255 bytes.
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_string(self.0.as_fd(), key, value)?)
    }

    /// A `key` without value.
    pub fn set_flag(&self, key: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_flag(self.0.as_fd(), key)?)
    }

    /// Makes the instance as configured.
    pub fn create(&self) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_create(self.0.as_fd())?)
    }

    /// A detached mount of the instance that [`create`](Self::create) made.
    pub fn mounted(&self, attributes: Attributes) -> io::Result<OwnedFd> {
        let attributes = MountAttrFlags::from_bits_retain(attributes.0 as u32);
        Ok(rustix::mount::fsmount(self.0.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    }

    /// Makes the instance and a detached mount of it.
    pub fn mount(&self, attributes: Attributes) -> io::Result<OwnedFd> {
        self.create()?;
        self.mounted(attributes)
    }

    /// What the kernel says of the last failure ("overlay: …"), if it says anything.
    pub fn message(&self) -> Option<String> {
        let mut line = [0; 512];
        let length = rustix::io::read(&self.0, &mut line).ok()?;
        let text = String::from_utf8_lossy(&line[..length]);
        // A letter for the severity and a space come first.
        Some(text.trim_end().get(2..)?.to_owned())
    }
}

/// A detached copy of the mount at `path` (open_tree(2)); with `recursive`, of all below it too.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    Ok(rustix::mount::open_tree(dir, path, flags)?)
}

/// Attaches the detached mount `mount` on the file or directory `target`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// Sets and clears attributes of a mount, and of all below it where `recursive` (mount_setattr(2), Linux 5.12).
pub fn set_attributes(mount: BorrowedFd<'_>, set: Attributes, clear: Attributes, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: set.0, attr_clr: clear.0, propagation: 0, userns_fd: 0 };
    mount_setattr(mount, &attr, recursive)
}

/// Shows the files of a detached mount, and of all below it where `recursive`, with the ids of the user namespace `ids`: what belongs to 0 on disk belongs to
/// that namespace's 0 here (mount_setattr(2), MOUNT_ATTR_IDMAP, Linux 5.12). Needs CAP_SYS_ADMIN where the filesystem
/// was mounted.
pub fn set_id_map(mount: BorrowedFd<'_>, ids: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: ids.as_raw_fd() as u64,
    };
    mount_setattr(mount, &attr, recursive)
}

/// How mounts made in one namespace appear in those it was copied to (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// From the namespace this was copied from into this one.
    Slave,
    /// Both ways, among all that are copied from this one.
    Shared,
    /// Neither way, and it cannot be bound elsewhere.
    Unbindable,
}

/// Sets the propagation of the mount at `/` and of all mounts below it.
pub fn set_root_propagation(propagation: Propagation) -> io::Result<()> {
    let kind = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    Ok(rustix::mount::mount_change("/", kind | MountPropagationFlags::REC)?)
}

/// Sets that of a mount, and of all below it where `recursive`.
pub fn set_propagation(mount: BorrowedFd<'_>, propagation: Propagation, recursive: bool) -> io::Result<()> {
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
        Propagation::Unbindable => libc::MS_UNBINDABLE,
    };
    let attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation, userns_fd: 0 };
    mount_setattr(mount, &attr, recursive)
}

fn mount_setattr(mount: BorrowedFd<'_>, attr: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `attr` is a whole mount_attr and the path is a valid empty string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    errno::check(result)
}

/// Mounts by mount(2): for options that the descriptor API of old kernels does not take.
pub fn mount_old(kind: &str, target: &Path, options: &CStr) -> io::Result<()> {
    Ok(rustix::mount::mount(kind, target, kind, rustix::mount::MountFlags::empty(), options)?)
}

/// The number of the mount that `path` is in (statx(2), STATX_MNT_ID, Linux 5.8). A later mount may get it again.
pub fn id_of(path: &Path) -> io::Result<u64> {
    let flags = rustix::fs::StatxFlags::MNT_ID;
    Ok(rustix::fs::statx(rustix::fs::CWD, path, rustix::fs::AtFlags::empty(), flags)?.stx_mnt_id)
}

/// Unmounts what is mounted at `path`. EBUSY: something of it is open.
pub fn unmount(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::empty())?)
}

/// Unmounts what is mounted at `path`; the mount itself lives on as long as somebody has it open.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH)?)
}

/// Makes the current directory, which is a mount, the root of this mount namespace, and drops the old root
/// (pivot_root(2), "pivot_root(\".\", \".\")").
pub fn pivot_to_current_directory() -> io::Result<()> {
    rustix::process::pivot_root(".", ".")?;
    // The old root lies over the new one now; what propagates from the host must not undo this unmount.
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
