//! The stores themselves, by URL or made by the host.

mod backend;
mod cloud;
mod credentials;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod network;
mod url;

pub use backend::{Backend, BackendKind, LocalDurability};
pub use credentials::{BackendSettings, Credentials};
pub use url::from_url;

#[cfg(feature = "s3")]
#[cfg(test)]
mod s3_tests;
