//! The whole client against registries in this process, which can be as wrong as a test wants.

mod auth;
mod fetch;
mod resolve;
mod support;
