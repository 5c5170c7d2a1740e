//! jemalloc: its settings, and when freed memory goes back to the system.

use std::ffi::CStr;
use std::ptr;
use std::thread;
use std::time::Duration;

use tikv_jemalloc_sys::mallctl;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Heaps are as many as cores, whatever threads there are, and two threads of one core share one: what one of them frees serves the other. What
/// has been free for ten seconds goes back to the system, also while nothing else runs. The variable `_RJEM_MALLOC_CONF` says otherwise.
const SETTINGS: &[u8] =
    b"percpu_arena:phycpu,dirty_decay_ms:10000,muzzy_decay_ms:0,background_thread:true\0";

/// Read by jemalloc before the first allocation: a C string by its address.
#[allow(
    unsafe_code,
    reason = "jemalloc finds its settings by the name of this symbol, which nothing else bears"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS_ADDRESS: &u8 = &SETTINGS[0];

/// Freed bytes that may stay for the next requests: about what a query over some thousand series takes and what printing its answer takes. More goes
/// back at the next look. With 2 MiB more, no query took less CPU, and the process 2 % more memory at its peak.
const KEPT_BYTES: usize = 6 << 20;
/// How often that is looked at while memory hardly comes and goes. A look takes some 30 microseconds of CPU.
const IN_REST: Duration = Duration::from_millis(100);
/// How often for a second after it moved: what one large request frees is not to lie beside what the next one takes.
const IN_MOTION: Duration = Duration::from_millis(10);
/// Looks in that second.
const LOOKS_IN_MOTION: u32 = 100;
/// Bytes of a page, as jemalloc counts them.
const PAGE_BYTES: usize = 4096;

/// All heaps together, as jemalloc numbers them.
const FREE_PAGES: &CStr = c"stats.arenas.4096.pdirty";
const USED_PAGES: &CStr = c"stats.arenas.4096.pactive";
const GIVE_BACK: &CStr = c"arena.4096.purge";
const LOOK_AGAIN: &CStr = c"epoch";

/// Gives freed memory back to the system whenever there is more than a little of it. Without the thread, ten seconds must pass. Its stack is as large
/// as others: jemalloc needs more than 64 KiB of it, unoptimised.
pub(super) fn give_back() {
    let begun = thread::Builder::new().name("memory".into()).spawn(|| {
        let mut looks_in_motion = 0u32;
        let mut used_before = 0;
        loop {
            thread::park_timeout(if looks_in_motion > 0 {
                IN_MOTION
            } else {
                IN_REST
            });
            let (free, used) = (free_bytes(), bytes_of(USED_PAGES));
            looks_in_motion = looks_in_motion.saturating_sub(1);
            if free > KEPT_BYTES {
                call(GIVE_BACK, None);
                looks_in_motion = LOOKS_IN_MOTION;
            }
            if used.abs_diff(used_before) > KEPT_BYTES / 2 {
                used_before = used;
                looks_in_motion = LOOKS_IN_MOTION;
            }
        }
    });
    if let Err(error) = begun {
        tracing::warn!(%error, "no thread to give freed memory back at once; it goes back after ten seconds");
    }
}

/// Bytes that are free in the heaps and still the process', counted anew.
fn free_bytes() -> usize {
    call(LOOK_AGAIN, None);
    bytes_of(FREE_PAGES)
}

/// A number of pages, as it was when jemalloc last counted.
fn bytes_of(pages: &CStr) -> usize {
    let mut number = 0;
    call(pages, Some(&mut number));
    number.saturating_mul(PAGE_BYTES)
}

/// Asks jemalloc for a number, or to do something. What it does not know is left undone.
#[allow(
    unsafe_code,
    reason = "jemalloc is spoken to through one C function; the name ends with a zero, and a number and its size are what the call says"
)]
fn call(name: &CStr, number: Option<&mut usize>) {
    let mut size = size_of::<usize>();
    // `epoch` is a u64 that has to be written: any value makes jemalloc look again.
    let mut epoch = 1u64;
    let is_epoch = name == LOOK_AGAIN;
    let (into, into_size) = match number {
        Some(number) => (ptr::from_mut(number).cast(), ptr::from_mut(&mut size)),
        None => (ptr::null_mut(), ptr::null_mut()),
    };
    let (from, from_size) = if is_epoch {
        (ptr::from_mut(&mut epoch).cast(), size_of::<u64>())
    } else {
        (ptr::null_mut(), 0)
    };
    // SAFETY: `into` and `from` are null or point to values that live until the call returns, of the sizes that are told.
    unsafe {
        mallctl(name.as_ptr(), into, into_size, from, from_size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nobody uses any more is seen, and goes back.
    #[test]
    fn freed_memory_is_counted_and_given_back() {
        let blocks: Vec<Vec<u8>> = (0..64).map(|_| vec![1u8; 1 << 20]).collect();
        assert!(blocks.iter().all(|b| b[0] == 1));
        drop(blocks);
        let before = free_bytes();
        assert!(before > 32 << 20, "{before} bytes are free");
        call(GIVE_BACK, None);
        let after = free_bytes();
        assert!(after < 8 << 20, "{after} bytes are free after {before}");
    }
}
