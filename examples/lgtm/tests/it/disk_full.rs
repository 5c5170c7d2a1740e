//! A full disk: new writes are refused as unavailable, reads go on, nothing acknowledged is lost, and writes resume with space.

use crate::host;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::host::{Host, now_ms};

/// A small file system in memory; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(at)
            .output()
            .unwrap();
        if done.status.success() {
            return Some(Self(at.to_owned()));
        }
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            std::env::var_os("CI").is_none(),
            "no file system can be mounted, and CI must: {said}"
        );
        eprintln!("skipped: {said}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const SERIES: usize = 500;

/// Pushes sample `n` of every series; the status.
fn push(host: &Host, names: &[String], start_ms: i64, n: i64) -> u16 {
    let labels: Vec<_> = names
        .iter()
        .map(|name| [("__name__", name.as_str())])
        .collect();
    // Values that do not compress, so that the disk fills soon.
    let noise = |i: usize| {
        f64::from_bits((n as u64 * 1_000_003 + i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2)
    };
    let series: Vec<host::Series<'_>> = (labels.iter().enumerate())
        .map(|(i, l)| (&l[..], start_ms + n * 1000, noise(i)))
        .collect();
    host.push(&series).status
}

fn samples_of(host: &Host, start_ms: i64, n: i64) -> usize {
    let at = (start_ms + n * 1000) / 1000 + 1;
    let path = format!("/prometheus/api/v1/query?query=full_0%5B10h%5D&time={at}");
    let answer = host.get(&path);
    assert_eq!(answer.status, 200, "reads go on: {}", answer.text());
    let json = answer.json();
    json["data"]["result"][0]["values"]
        .as_array()
        .map_or(0, Vec::len)
}

#[test]
fn a_full_disk_refuses_new_writes_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let Some(_disk) = SmallDisk::mount(&data, 48) else {
        return;
    };
    let bucket = format!("-storage.url=file:{}", dir.path().join("bucket").display());
    let flags = [
        bucket.as_str(),
        "-otlp.http-listen-port=0",
        "-metrics.ingester.head.wal.segment-size=4MiB",
    ];
    let filler = data.join("filler");
    std::fs::write(&filler, vec![1; 36 << 20]).unwrap();
    let host = Host::start(&data, &flags);
    let names: Vec<String> = (0..SERIES).map(|i| format!("full_{i}")).collect();
    let start_ms = now_ms() - 3_600_000;
    let mut acknowledged = Vec::new();
    let mut n = 0;
    let refused = loop {
        match push(&host, &names, start_ms, n) {
            200 => acknowledged.push(n),
            status => break status,
        }
        n += 1;
        assert!(
            n < 3000,
            "12 MiB hold no {n} requests of {SERIES} random samples"
        );
    };
    assert_eq!(refused, 503, "a sender tries again on 503");
    assert!(acknowledged.len() > 50, "{} fitted", acknowledged.len());
    assert_eq!(push(&host, &names, start_ms, n), 503, "still full");
    assert!(samples_of(&host, start_ms, n) >= acknowledged.len());
    assert!(
        host.get("/metrics")
            .text()
            .contains("lgtm_wal_failing{signal=\"metrics\"} 1")
    );

    // Space comes back; the sender tries again.
    std::fs::remove_file(&filler).unwrap();
    let mut tries = 0;
    while push(&host, &names, start_ms, n) != 200 {
        std::thread::park_timeout(Duration::from_millis(100));
        tries += 1;
        assert!(tries < 100, "writes do not resume");
    }
    acknowledged.push(n);
    for later in n + 1..n + 20 {
        assert_eq!(push(&host, &names, start_ms, later), 200);
        acknowledged.push(later);
    }
    host.kill_9();
    drop(host);
    let host = Host::start(&data, &flags);
    assert_eq!(samples_of(&host, start_ms, n + 20), acknowledged.len());
    // A flush takes the data off the small disk.
    assert_eq!(host.post("/flush", &[], b"").status, 200);
    assert_eq!(samples_of(&host, start_ms, n + 20), acknowledged.len());
}
