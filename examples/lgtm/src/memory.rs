//! Gives freed memory back to the system, and keeps what is free in few places.
//!
//! glibc gives each thread a heap of its own, up to eight a core. Jobs wander over the threads of the pool, so that each heap keeps what
//! some job has freed: after queries over 100,000 series a process held 97 MB where one heap a core holds 65.
//!
//! glibc's allocator keeps what a flush has used: pages that are free all over but for the top of its heaps. After a flush of
//! 100,000 series `malloc_trim` takes a process from 91 to 59 MB, in some milliseconds. Other allocators do so by themselves or
//! not at all; there the call is empty.

#![allow(
    unsafe_code,
    reason = "malloc_trim and mallopt have no safe wrapper; they are the foreign calls of the workspace"
)]

use std::time::Duration;

use async_trait::async_trait;
use lgtm_core::Result;
use lgtm_core::exec::CancelToken;
use lgtm_core::service::Service;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    unsafe extern "C" {
        /// See malloc_trim(3): thread-safe, keeps `pad` bytes at the top of the heap, 1 when anything was given back.
        pub(super) safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
        /// See mallopt(3): 1 when the value was taken.
        pub(super) safe fn mallopt(
            param: std::ffi::c_int,
            value: std::ffi::c_int,
        ) -> std::ffi::c_int;
    }
}

/// Gives back what is free. Takes the allocator's locks one after the other, for some milliseconds in all.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::malloc_trim(0);
}

/// Bounds the heaps to one a core: more threads than that never allocate at once. To be called before threads start. Whoever set
/// `MALLOC_ARENA_MAX` keeps that.
pub(crate) fn bound_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        const M_ARENA_MAX: std::ffi::c_int = -8;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let heaps = std::ffi::c_int::try_from(cores.max(2)).unwrap_or(std::ffi::c_int::MAX);
        glibc::mallopt(M_ARENA_MAX, heaps);
    }
}

/// Does so from time to time.
#[derive(Debug)]
pub(crate) struct MemoryTrimmer {
    pub(crate) interval: Duration,
}

#[async_trait]
impl Service for MemoryTrimmer {
    fn name(&self) -> &str {
        "memory-trimmer"
    }

    async fn run(&self, stop: CancelToken) -> Result<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = stop.cancelled() => return Ok(()),
            }
            // A trim that panics has nothing to tell.
            let _ = tokio::task::spawn_blocking(give_back).await;
        }
    }
}
