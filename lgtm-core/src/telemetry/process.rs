//! What the operating system knows about this process, under the names that every Prometheus client uses.
//!
//! Read from `/proc` at scrape time; where there is none, nothing is given. Optional: the host asks for it.

use std::fs;

use crate::clock::Clock;
use crate::telemetry::collector::Collection;
use crate::telemetry::registry::Registry;

/// Kernel clock ticks per second: `USER_HZ` is 100 on every Linux that Rust's standard targets run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Gives `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`,
/// `process_max_fds`, `process_threads` and `process_start_time_seconds`.
#[derive(Debug)]
pub struct ProcessCollector {
    start_time_seconds: f64,
}

impl ProcessCollector {
    /// Registers the metrics. The start time is taken from the kernel, or is `clock`'s now where the kernel does not say.
    pub fn register(registry: &Registry, clock: &dyn Clock) {
        let now = clock.now_ms().get() as f64 / 1000.0;
        let collector = Self {
            start_time_seconds: start_time_seconds().unwrap_or(now),
        };
        registry.collect(move |collection| collector.collect(collection));
    }

    fn collect(&self, c: &mut Collection) {
        c.gauge(
            "process_start_time_seconds",
            "Start time of the process since the Unix epoch in seconds.",
            &[],
            self.start_time_seconds,
        );
        if let Some(stat) = Stat::read() {
            c.counter(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
                &[],
                stat.cpu_ticks as f64 / TICKS_PER_SECOND,
            );
            c.gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
                &[],
                stat.virtual_bytes as f64,
            );
            c.gauge(
                "process_threads",
                "Threads of the process.",
                &[],
                stat.threads as f64,
            );
        }
        if let Some(bytes) = resident_bytes() {
            c.gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
                &[],
                bytes as f64,
            );
        }
        if let Ok(dir) = fs::read_dir("/proc/self/fd") {
            // The directory handle itself is one of them.
            let open = dir.count().saturating_sub(1);
            c.gauge(
                "process_open_fds",
                "Number of open file descriptors.",
                &[],
                open as f64,
            );
        }
        if let Some(max) = max_open_files() {
            c.gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
                &[],
                max,
            );
        }
    }
}

/// The fields of `/proc/self/stat` that are of use.
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// Fields are counted from the last `)`, since the command name before it may hold anything. Field numbers as in proc(5).
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
        })
    }
}

fn start_time_seconds() -> Option<f64> {
    let boot: f64 = fs::read_to_string("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + Stat::read()?.start_ticks as f64 / TICKS_PER_SECOND)
}

/// `VmRSS`, which is in kB whatever the page size is.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The soft bound on open files (`RLIMIT_NOFILE`).
pub(crate) fn max_open_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn stat_is_read_past_an_odd_command_name() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 400 8192 3 18446744073709551615";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            (
                stat.cpu_ticks,
                stat.threads,
                stat.start_ticks,
                stat.virtual_bytes
            ),
            (300, 9, 400, 8192)
        );
        assert!(Stat::parse("7 (x) S 1").is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_files_and_a_start_before_now() {
        let registry = Registry::new();
        let clock = SystemClock::new();
        ProcessCollector::register(&registry, &clock);
        let value = |name: &str| registry.samples().find(|s| s.name == name).unwrap().value;
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        let age = clock.now_ms().get() as f64 / 1000.0 - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age), "{age}");
    }
}
