//! What a person calls a container: the crate where image, overlay and runtime meet.
//!
//! An [`Engine`] has a method for each thing that people do; a command line or an API server only describes requests
//! and shows results. Planning is pure ([`RunPlan`]), and everything that acts does so through the workshops below.

mod attach;
mod attach_frames;
pub mod audit;
mod containers;
mod denied;
mod detach_keys;
mod doctor;
mod draft;
mod engine;
mod error;
mod etc_files;
pub mod events;
mod exec;
mod files;
mod glob;
mod held;
mod host_devices;
mod images;
mod inspect;
pub mod logs;
pub mod moment;
mod monitor;
mod names;
mod plan;
mod pull;
mod record;
mod request;
mod restart;
mod root;
mod run;
mod security;
mod siblings;
mod start;
mod stop;
mod supervise;
mod user;
pub mod worker;
mod workload;

pub use attach::{Attached, Attachment};
pub use containers::{ContainerStatus, ContainerSummary};
pub use denied::{Denials, Denied};
pub use detach_keys::DetachKeys;
pub use doctor::doctor;
pub use engine::{Engine, Info};
pub use error::Error;
pub use exec::exec;
pub use images::{ImageSummary, Unnamed};
pub use monitor::StartFailure;
pub use plan::{PlanError, RunPlan, console_size};
pub use pull::{LayerState, PullOutput, PullRequest, Pulled};
pub use rbox_store::Collected;
pub use rbox_sys::signal::Signal;
pub use request::{ExecRequest, PullPolicy, RunRequest, Tmpfs, Volume};
pub use restart::RestartPolicy;
pub use run::Ran;
pub use security::{Granted, Label, LabelOption, Seccomp, Security, SecurityOption, SecurityWords, Unmask};
pub use supervise::{Terminal, supervise};
