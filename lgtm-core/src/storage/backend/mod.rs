//! The stores themselves, by URL or made by the host.

mod backend;
mod cloud;
mod credentials;
mod url;

pub use backend::{Backend, BackendKind, LocalDurability};
pub use credentials::{BackendSettings, Credentials, Secret};
pub use url::from_url;

#[cfg(all(test, feature = "s3"))]
mod s3_tests;
