//! Object storage, cut into one prefix per component.
//!
//! ```text
//! from_url -> Backend -+
//!                      +-> Layout::builder().build() -> bucket(DataKind) -> Bucket -> get, put, list, …
//! your own store ------+                                                       |
//!                                                                              v
//!    retry > circuit > slots > meter > deadline          (guarded.rs: the one wrapper, on every request)
//!                                  |
//!                                  v
//!                        prefix > object_store back end
//! ```
//!
//! [`Layout`] refuses prefixes that are equal or nested; a [`Bucket`] cannot be left; [`claim`] keeps a component off a prefix that
//! belongs to another. Each rule of the guard (`retry.rs`, `circuit.rs`, `slots.rs`, `meter.rs`, `deadline.rs`) is a file of its own
//! that knows no store, and `guarded.rs` alone puts them around [`object_store::ObjectStore`].
//!
//! A folder of objects that must appear whole or not at all goes through a [`FolderUpload`]; what broken ones leave, [`delete_leftovers`] removes.
//! What is immutable and too large to be read whole is a [`ReadAt`]: an [`ObjectFile`] (or a local file, or memory), with a [`PageCache`] before
//! it if small reads come again.

mod backend;
mod bucket;
mod circuit;
mod data_kind;
mod deadline;
mod fault;
mod findings;
mod folder_upload;
mod guarded;
mod guarded_read;
mod guarded_upload;
mod jitter;
mod kept_objects;
mod layout;
mod leftovers;
mod marker;
mod meter;
mod object_path;
mod page_cache;
mod ranges;
mod read_at;
mod retry;
mod settings;
mod slots;
mod writer;

pub use crate::secret::Secret;
pub use backend::{Backend, BackendKind, BackendSettings, Credentials, LocalDurability, from_url};
pub use bucket::{Bucket, Listing, ObjectInfo, PutOutcome};
pub use data_kind::DataKind;
pub use fault::store_error;
pub use findings::{Fault, Finding, Findings};
pub use folder_upload::{ExpectedObject, FolderUpload};
pub use jitter::Jitter;
pub use kept_objects::KeptObjects;
pub use layout::{Layout, LayoutBuilder};
pub use leftovers::{Leftover, LeftoverRule, delete_leftovers};
pub use marker::{Claim, Owner, claim};
pub use meter::Operation;
pub use page_cache::PageCache;
pub use read_at::{LocalFile, MemoryFile, ObjectFile, ReadAt, ReadPlan, corrupt_at, file_error};
pub use settings::{CircuitSettings, RetrySettings, StorageSettings};
pub use writer::ObjectWriter;

#[cfg(test)]
mod tests;
