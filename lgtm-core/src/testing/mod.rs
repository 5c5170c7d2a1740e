//! Conformance suites of the traits, and parts that fail on purpose. Feature `testing`.

#[cfg(feature = "storage")]
mod bucket_diary;
#[cfg(feature = "storage")]
mod bucket_suite;
mod cache_suite;
mod crash_disk;
mod dice;
#[cfg(feature = "storage")]
mod faulty_store;
mod forgetful_disk;
#[cfg(feature = "storage")]
mod give_way;
#[cfg(unix)]
mod poll_cost;
#[cfg(feature = "rpc")]
mod rpc_loopback;
#[cfg(feature = "storage")]
pub mod store_suite;

#[cfg(feature = "storage")]
pub use bucket_diary::{BucketDay, BucketDiary};
#[cfg(feature = "storage")]
pub use bucket_suite::bucket_suite;
pub use cache_suite::cache_suite;
pub use crash_disk::{Crash, CrashDisk, DiskOperation};
pub use dice::Dice;
#[cfg(feature = "storage")]
pub use faulty_store::{FaultPlan, FaultyStore, StoreFault};
pub use forgetful_disk::{ForgetfulDisk, Forgets};
#[cfg(unix)]
pub use poll_cost::{longest_poll, one_poll_at_a_time, process_time};
#[cfg(feature = "rpc")]
pub use rpc_loopback::RpcLoopback;
