//! Where the process takes its memory from: jemalloc, with one heap a core.
//!
//! A store's memory comes and goes in waves: a flush frees most of a head, a large query its columns. glibc keeps what they leave, full
//! of holes, and each larger request after it searches these: beside jemalloc, with 100,000 series flushed, it took 1.8 times the CPU for the
//! values of a label and 1.2 times that of taking samples in, and a heap for each thread kept what some job had freed.
//!
//! Freed memory goes back to the system, but for a little: each page that is taken anew costs the kernel about as much as decoding some hundred
//! samples, and small queries would pay that every time.
//!
//! Without the feature `jemalloc`, and on other systems than Linux, the system's allocator serves.

#[cfg(all(feature = "jemalloc", target_os = "linux"))]
mod jemalloc;

/// Begins to give freed memory back. To be called once.
pub(crate) fn give_back() {
    #[cfg(all(feature = "jemalloc", target_os = "linux"))]
    jemalloc::give_back();
}
