//! Capabilities of a thread: capabilities(7).

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// A set of capabilities, a bit each: bit n is capability number n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// To work on files of all owners, as their root does: CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,
    /// CAP_FSETID, CAP_MKNOD, CAP_SETFCAP.
    pub const FILES: Self = Self(0b1_1111 | 1 << 27 | 1 << 31);
}

/// The five sets of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sets {
    /// What execve(2) may ever give.
    pub bounding: Capabilities,
    /// In force.
    pub effective: Capabilities,
    /// What may be raised to effective.
    pub permitted: Capabilities,
    /// Kept over execve(2) of a file that has them inheritable.
    pub inheritable: Capabilities,
    /// Kept over execve(2) of any file that is not setuid.
    pub ambient: Capabilities,
}

/// The highest capability number that this kernel knows.
fn last_capability() -> io::Result<u32> {
    /// CAP_CHECKPOINT_RESTORE, of Linux 5.9: no kernel that this program runs on knows fewer.
    const OF_ALL_KERNELS: u32 = 40;
    // Reading /proc/sys/kernel/cap_last_cap would need procfs; the bounding set answers EINVAL past the last one.
    let mut last = OF_ALL_KERNELS;
    loop {
        match rustix::thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(2 << last)) {
            Ok(_) => last += 1,
            Err(rustix::io::Errno::INVAL) => return Ok(last),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes from the bounding set what is not in `keep`. Needs CAP_SETPCAP.
pub fn limit_bounding_set(keep: Capabilities) -> io::Result<()> {
    for number in 0..=last_capability()? {
        if keep.0 & 1 << number == 0 {
            rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number))?;
        }
    }
    Ok(())
}

/// Keeps the permitted set over the coming change from uid 0 to another one (PR_SET_KEEPCAPS).
pub fn keep_over_setuid(keep: bool) -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(keep)?)
}

/// Sets effective, permitted and inheritable, then ambient; capabilities that the kernel does not know are dropped.
pub fn set(sets: &Sets) -> io::Result<()> {
    let known = Capabilities(u64::MAX >> (63 - last_capability()?));
    let within = |set: Capabilities| CapabilitySet::from_bits_retain(set.0 & known.0);
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: within(sets.effective),
            permitted: within(sets.permitted),
            inheritable: within(sets.inheritable),
        },
    )?;
    for number in (0..64).filter(|number| sets.ambient.0 & known.0 & 1 << number != 0) {
        rustix::thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)?;
    }
    Ok(())
}

/// Makes every permitted capability ambient, so that the coming execve(2) keeps them all.
pub fn raise_ambient() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable = sets.permitted;
    let permitted = sets.permitted.bits();
    rustix::thread::set_capabilities(None, sets)?;
    for number in (0..64).filter(|number| permitted & 1 << number != 0) {
        rustix::thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)?;
    }
    Ok(())
}

/// Forbids this process and what it executes to ever gain privileges (PR_SET_NO_NEW_PRIVS).
pub fn set_no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}
