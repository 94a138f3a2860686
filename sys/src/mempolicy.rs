//! Which memory nodes pages come from: set_mempolicy(2), numa(7).
#![allow(unsafe_code)]

use std::io;

use crate::errno;

/// One more than the highest node that any kernel has (the largest CONFIG_NODES_SHIFT is 10).
pub const MAX_NODES: usize = 1024;

const WORD: usize = usize::BITS as usize;

/// Sets the policy of the calling thread, which its children and its later programs have too. `mode` is an `MPOL_*` of
/// <linux/mempolicy.h> with its flags; `nodes` are numbers below [`MAX_NODES`]. EINVAL: the mode does not go with the
/// flags or with the nodes, or this machine has none of them.
pub fn set(mode: i32, nodes: &[usize]) -> io::Result<()> {
    let mut mask = [0_usize; MAX_NODES / WORD];
    for node in nodes {
        *mask.get_mut(node / WORD).ok_or(io::ErrorKind::InvalidInput)? |= 1 << (node % WORD);
    }
    // The kernel reads one bit less than it is told.
    let bits = MAX_NODES + 1;
    // SAFETY: the kernel reads the bits of `mask`, which lives until the call returns.
    errno::check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask.as_ptr(), bits) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIND: i32 = 2;

    #[test]
    fn the_first_node_is_there_and_the_last_one_is_not() {
        set(BIND, &[0]).expect("there is a first one");
        assert_eq!(set(BIND, &[MAX_NODES - 1]).expect_err("there is none").raw_os_error(), Some(libc::EINVAL));
        assert!(set(BIND, &[MAX_NODES]).is_err());
        set(0, &[]).expect("the default");
    }
}
