//! Damage in the bucket: the block is set aside and named, everything else is served.

use std::path::{Path, PathBuf};

use crate::host::{Host, now_ms};

/// Pushes one sample of `name` and moves it into a block of its own.
fn block_with(host: &Host, name: &str, t_ms: i64) {
    let labels = [("__name__", name), ("job", "x")];
    assert_eq!(host.push(&[(&labels, t_ms, 1.0)]).status, 200);
    assert_eq!(host.post("/flush", &[], b"").status, 200);
}

fn blocks(tenant: &Path) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(tenant)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.join("meta.json").exists())
        .collect();
    out.sort();
    out
}

/// Flips a bit of the byte that `at` picks.
fn flip(file: &Path, at: impl Fn(&[u8]) -> usize) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = at(&bytes);
    bytes[at] ^= 0x40;
    std::fs::write(file, bytes).unwrap();
}

fn count(host: &Host, t_ms: i64) -> usize {
    let path = format!(
        "/prometheus/api/v1/query?query=%7Bjob%3D%22x%22%7D&time={}",
        t_ms / 1000 + 1
    );
    let answer = host.get(&path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["result"].as_array().unwrap().len()
}

#[test]
fn a_damaged_block_is_set_aside_and_the_others_serve() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-otlp.http-listen-port=0"];
    let host = Host::start(dir.path(), &flags);
    let t_ms = now_ms();
    for name in [
        "index_damaged",
        "chunk_damaged",
        "meta_damaged",
        "toc_damaged",
        "good",
    ] {
        block_with(&host, name, t_ms);
    }
    assert_eq!(count(&host, t_ms), 5);
    drop(host);
    let tenant = dir.path().join("bucket/metricsblocks/anonymous");
    let all = blocks(&tenant);
    assert_eq!(all.len(), 5);
    // The first series (the second number of the table of contents says where it is), chunk bytes, JSON, table of contents.
    flip(&all[0].join("index"), |bytes| {
        let toc = &bytes[bytes.len() - 52..];
        u64::from_be_bytes(toc[8..16].try_into().unwrap()) as usize + 2
    });
    flip(&all[1].join("chunks/000001"), |_| 14);
    std::fs::write(all[2].join("meta.json"), b"{\"ulid\": 7").unwrap();
    flip(&all[3].join("index"), |bytes| bytes.len() - 20);
    // A crash in the middle of an upload: no meta.json. It is no block, and no fault.
    std::fs::remove_file(all[4].join("meta.json")).unwrap();
    let host = Host::start(dir.path(), &flags);
    block_with(&host, "after", t_ms);
    assert_eq!(count(&host, t_ms), 1, "what is damaged is left out");
    assert_eq!(count(&host, t_ms), 1, "and not tried again");
    let metrics = host.get("/metrics").text();
    for damaged in &all[..4] {
        let id = damaged.file_name().unwrap().to_str().unwrap();
        let wanted = format!("lgtm_bucket_block_set_aside{{user=\"anonymous\",block=\"{id}\"}} 1");
        assert!(metrics.contains(&wanted), "{wanted} is not in\n{metrics}");
    }
    assert!(metrics.contains("lgtm_bucket_blocks_set_aside 4"));
}
