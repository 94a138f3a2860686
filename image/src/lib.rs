//! Images: references, registries, manifests; from a name to verified blobs.
//!
//! A pull is two calls:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use rbox_image::{Client, ClientOptions};
//!
//! let client = Client::new(ClientOptions::default());
//! let image = client.resolve(&"alpine:3.23".parse()?, &rbox_types::Platform::host())?;
//! for layer in &image.layers {
//!     let file = std::fs::File::create_new(layer.digest.hex())?;
//!     let verified = client.fetch(&image.reference, &layer.digest, layer.size, &file, &|_bytes| ())?;
//!     assert_eq!(verified.digest(), layer.digest);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Floors within the crate, from the ground: `resolver`, `proxy` and `endpoint` know where a host is and how it is
//! spoken to; `transport` makes one request; `auth` and `retry` are what a registry adds to HTTP; `client` joins
//! them; `manifest`, `image` and `verify` know nothing of a network; `resolve` and `fetch` are the two calls.
//!
//! Nothing here writes anywhere but into the file it is given, and nothing is trusted: sizes are bounded before they
//! are read, digests are compared before bytes are used, and a registry's words are escaped before they are shown.

mod auth;
mod client;
mod endpoint;
mod error;
mod fetch;
mod image;
mod manifest;
mod proxy;
mod resolve;
mod resolver;
mod retry;
mod transport;
mod verify;

pub use client::{Client, ClientOptions};
pub use error::Error;
pub use image::{Image, LayerRef};
pub use manifest::Compression;
pub use proxy::Proxies;
pub use resolve::{LARGEST_DOCUMENT, RawBlob, ResolvedImage};
pub use retry::Retry;
pub use verify::{VerifiedBlob, verify_file};
