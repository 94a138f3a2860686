//! What there is to see of containers, for those who only look: nothing here waits for anybody, or changes anything.

pub(crate) mod containers;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod ports;
pub(crate) mod processes;
pub(crate) mod stats;
pub(crate) mod top;
