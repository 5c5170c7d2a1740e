//! Following a ring.
//!
//! [`RingWatcher`] is the service that follows a key and publishes each new view; [`RingHandle`] is what components hold. A handle of a
//! process that is alone, or of a test, needs no watcher: [`RingHandle::standalone`], `RingHandle::from(ring)`.

mod handle;
mod metrics;
#[cfg(test)]
mod tests;
mod watcher;

pub use handle::RingHandle;
pub use watcher::{RingWatcher, RingWatcherBuilder};
