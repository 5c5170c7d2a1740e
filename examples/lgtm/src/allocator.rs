//! Where the process takes its memory from: jemalloc, with one heap a core.
//!
//! A store's memory comes and goes in waves: a flush frees most of a head, a large query its columns. glibc keeps what they leave, full
//! of holes, and each larger request after it searches these: beside jemalloc, with 100,000 series flushed, it took 1.8 times the CPU for the
//! values of a label and 1.2 times that of taking samples in, and a heap for each thread kept what some job had freed.
//!
//! Without the feature `jemalloc`, and on other systems than Linux, the system's allocator serves.

#![cfg(all(feature = "jemalloc", target_os = "linux"))]

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Heaps are as many as cores, whatever threads there are; what is free goes back to the system after a tenth of a second, also while
/// nothing else runs. The variable `_RJEM_MALLOC_CONF` says otherwise.
const SETTINGS: &[u8] =
    b"percpu_arena:percpu,dirty_decay_ms:100,muzzy_decay_ms:0,background_thread:true\0";

/// Read by jemalloc before the first allocation: a C string by its address.
#[allow(
    unsafe_code,
    reason = "jemalloc finds its settings by the name of this symbol, which nothing else bears"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS_ADDRESS: &u8 = &SETTINGS[0];
