//! Rootless Podman with rbox as its runtime.
//!
//! `RBOX_TEST_RUNTIME=crun` tries them on another runtime: crun 1.8 passes all.

mod podman;
