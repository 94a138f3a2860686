//! The life of a container: made, started, joined, stopped, gone.
//!
//! ```text
//!            draft ──▶ run                      in front: this process supervises ─┐
//!              │                                                                    ├─▶ workload ──▶ supervise
//!              └─────▶ start ──▶ monitor        detached: a process of its own does ┘
//!                        ▲          │
//!             stop  restart         ├─ attach   those who look at it and type into it
//!             pause  wait           └─ health   asks the workload how it is
//!
//!            begun ──▶ beside ──▶ exec          one more process in one that runs
//! ```

pub(crate) mod attach;
pub(crate) mod begun;
pub(crate) mod beside;
pub(crate) mod draft;
pub(crate) mod exec;
pub(crate) mod health;
mod held;
pub(crate) mod limited;
mod logout;
pub(crate) mod monitor;
mod notify;
pub(crate) mod overlay_dirs;
pub(crate) mod pause;
mod remove;
pub(crate) mod restart;
pub(crate) mod run;
mod siblings;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod supervise;
mod update;
pub(crate) mod wait;
mod wants;
mod workload;
