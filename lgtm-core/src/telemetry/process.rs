//! What the operating system says of this process.

use super::exposition::Exposition;

/// Clock ticks per second in `/proc`, on every Linux that Rust runs on.
const TICKS: f64 = 100.0;
/// Bytes of a page in `/proc/self/statm`.
const PAGE: f64 = 4096.0;

/// Adds CPU time, memory and open files; nothing where `/proc` is not there.
pub fn process_metrics(out: &mut Exposition) {
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat")
        && let Some((_, rest)) = stat.rsplit_once(')')
    {
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |i: usize| {
            fields
                .get(i)
                .and_then(|f| f.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        out.counter(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            (field(11) + field(12)) / TICKS,
        );
    }
    if let Ok(statm) = std::fs::read_to_string("/proc/self/statm") {
        let mut pages = statm
            .split_whitespace()
            .map(|f| f.parse::<f64>().unwrap_or(0.0) * PAGE);
        let virtual_bytes = pages.next().unwrap_or(0.0);
        out.gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            virtual_bytes,
        );
        let resident = pages.next().unwrap_or(0.0);
        out.gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            resident,
        );
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        out.gauge(
            "process_open_fds",
            "Number of open file descriptors.",
            open.count() as f64,
        );
    }
}
