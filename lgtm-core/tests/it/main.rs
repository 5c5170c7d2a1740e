//! The integration tests of this crate, as one program: linking is most of what a test program costs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "what serves tests only is a test, and says what it leaves out"
)]

mod cache_memcached;
mod cache_redis;
#[cfg(any(
    all(feature = "memcached", feature = "testing"),
    all(feature = "redis", feature = "testing")
))]
mod servers;
