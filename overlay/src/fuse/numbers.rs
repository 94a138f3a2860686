//! Inode numbers that stay when a file is copied up: the kernel overlay's `user.overlay.origin`, which has the file handle of
//! what was copied (struct ovl_fb in fs/overlayfs/overlayfs.h).

use std::os::fd::BorrowedFd;

use rbox_sys::stored;

const ORIGIN: &[u8] = b"user.overlay.origin";

/// Before the handle: version, magic, length, flags, type of the handle, and the filesystem's UUID.
const HEADER: usize = 5 + 16;
const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
const BIG_ENDIAN: u8 = 1;
const ANY_ENDIAN: u8 = 2;
/// FILEID_INO32_GEN: number and generation in 32 bits each; ext4's, and XFS's for small numbers.
const INO32_GEN: u8 = 1;
/// FILEID_BTRFS_WITHOUT_PARENT: number, tree and generation.
const BTRFS: u8 = 0x4d;
/// XFS's FILEID_INO32_GEN with XFS_FILEID_TYPE_64FLAG: number in 64 bits, and generation.
const XFS64: u8 = 0x81;

/// The number of what a file of the upper layer was copied from; none where that is not known.
pub(super) fn origin(dir: BorrowedFd<'_>, name: &[u8]) -> Option<u64> {
    parse(&stored::get_xattr(dir, name, ORIGIN).ok()?)
}

/// Has a copy keep the number. Of what has no handle it is lost with the mount.
pub(super) fn set_origin(copy: BorrowedFd<'_>, new: &[u8], from: BorrowedFd<'_>, name: &[u8]) {
    if let Ok((kind, handle)) = stored::handle(from, name)
        && let Some(value) = compose(kind, &handle)
    {
        let _ = stored::set_xattr(copy, new, ORIGIN, &value, 0);
    }
}

/// The filesystem's UUID is left out: nobody but the kernel reads it, which in a user namespace decodes no handles
/// (ovl_decode_real_fh()).
fn compose(kind: i32, handle: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(HEADER + handle.len()).ok()?;
    let endian = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };
    let header = [VERSION, MAGIC, length, endian, u8::try_from(kind).ok()?];
    Some([&header, &[0; HEADER - 5][..], handle].concat())
}

fn parse(value: &[u8]) -> Option<u64> {
    let [VERSION, MAGIC, length, flags, kind, rest @ ..] = value else { return None };
    let native = flags & ANY_ENDIAN != 0 || (flags & BIG_ENDIAN != 0) == cfg!(target_endian = "big");
    if !native || usize::from(*length) != value.len() {
        return None;
    }
    let handle = rest.get(HEADER - 5..)?;
    match (*kind, handle.len()) {
        (INO32_GEN, 8) => Some(u32::from_ne_bytes(*handle.first_chunk()?).into()),
        (BTRFS, _) | (XFS64, 12) => Some(u64::from_ne_bytes(*handle.first_chunk()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_ext4_are_read() {
        let handle = [1234_u32.to_ne_bytes(), 99_u32.to_ne_bytes()].concat();
        let mut value = compose(INO32_GEN.into(), &handle).expect("it is short");
        assert_eq!(parse(&value), Some(1234));
        value.push(0);
        assert_eq!(parse(&value), None, "longer than it says");
        assert_eq!(parse(b""), None);
    }
}
