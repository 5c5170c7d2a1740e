//! Where do the bytes of blocks go, and what would other chunks take?
//!
//! A program of its own: `cargo bench -p lgtm-tsdb --bench native_space -- FOLDER...` reads all blocks below folders (a bucket of ours, the data of a
//! Prometheus) and prints their bytes a sample: sections of the index, timestamps, values, what stands around chunks; and the same floats as XOR2
//! chunks. Timestamps are what a chunk of the same times takes whose value never changes, less the bit that each such value has.

#![allow(clippy::print_stdout, reason = "a program that measures and prints")]

use std::path::{Path, PathBuf};

use lgtm_core::model::TimestampMs;
use lgtm_tsdb::block::{BlockReader, BlockReaderSettings};
use lgtm_tsdb::chunk::{Encoding, SampleTime, Xor2Appender, XorAppender, XorIter};

const SERIES_AT_ONCE: usize = 256;
/// Start of the process that counted, before the first sample: what senders tell with each one.
const STARTED_BEFORE_MS: i64 = 3_600_000;

type Failure = Box<dyn std::error::Error>;

/// Bytes of some blocks.
#[derive(Debug, Default)]
struct Bytes {
    blocks: u64,
    series: u64,
    chunks: u64,
    samples: u64,
    symbols: u64,
    series_section: u64,
    postings: u64,
    index: u64,
    segments: u64,
    /// Data of all chunks.
    data: u64,
    /// Of those with floats, and what else they would take.
    floats: u64,
    float_samples: u64,
    timestamps: u64,
    xor2: u64,
    xor2_started: u64,
}

impl Bytes {
    async fn add(&mut self, folder: &Path) -> Result<(), Failure> {
        let block = BlockReader::open(folder, BlockReaderSettings::default()).await?;
        let toc = block.index().toc();
        self.blocks += 1;
        self.symbols += toc.series - toc.symbols;
        self.series_section += toc.series_end() - toc.series;
        self.postings += toc.postings_end() - toc.postings;
        self.index += std::fs::metadata(folder.join("index"))?.len();
        self.segments += block.chunks().size_bytes();
        let references = block.index().postings_all().await?;
        self.series += references.len() as u64;
        for some in references.chunks(SERIES_AT_ONCE) {
            for series in block.index().series(some).await? {
                for chunk in block.chunks().read(&series.chunks).await? {
                    self.chunks += 1;
                    self.samples += u64::from(chunk.sample_count());
                    self.data += chunk.data.len() as u64;
                    if chunk.encoding == Encoding::Xor {
                        self.add_floats(&chunk.data)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn add_floats(&mut self, data: &[u8]) -> Result<(), Failure> {
        let (mut times, mut plain) = (XorAppender::new(), Xor2Appender::new());
        let mut started = Xor2Appender::new();
        let (mut count, mut first_ms) = (0, None);
        XorIter::new(data)?.for_each(|t_ms, value| {
            let first_ms = *first_ms.get_or_insert(t_ms);
            let t_ms = TimestampMs::new(t_ms);
            let start_ms = TimestampMs::new(first_ms - STARTED_BEFORE_MS);
            times.append(t_ms, 0.0);
            plain.append(SampleTime::unstarted(t_ms), value);
            started.append(SampleTime { t_ms, start_ms }, value);
            count += 1;
        })?;
        self.floats += data.len() as u64;
        self.float_samples += count;
        // The first value has 64 bits, each other one bit.
        let values = 8 + count.saturating_sub(1) / 8;
        self.timestamps += (times.snapshot().data.len() as u64).saturating_sub(values);
        self.xor2 += plain.snapshot().data.len() as u64;
        self.xor2_started += started.snapshot().data.len() as u64;
        Ok(())
    }

    fn print(&self, name: &str) {
        let per = |bytes: u64| bytes as f64 / self.samples.max(1) as f64;
        println!(
            "{name}: {} blocks, {} series, {} chunks, {} samples",
            self.blocks, self.series, self.chunks, self.samples
        );
        let all = self.index + self.segments;
        let around = self.segments - self.data;
        for (what, bytes) in [
            ("all", all),
            ("index", self.index),
            ("  symbols", self.symbols),
            ("  series", self.series_section),
            ("  postings", self.postings),
            ("chunks", self.segments),
            ("  around them", around),
            ("  timestamps", self.timestamps),
            ("  values", self.floats - self.timestamps),
            ("  histograms", self.data - self.floats),
        ] {
            println!("  {what:<14} {bytes:>12} {:.4} a sample", per(bytes));
        }
        let floats = self.float_samples.max(1) as f64;
        for (what, bytes) in [
            ("XOR", self.floats),
            ("XOR2", self.xor2),
            ("XOR2, started", self.xor2_started),
        ] {
            println!(
                "  floats as {what:<14} {:.4} a sample",
                bytes as f64 / floats
            );
        }
    }
}

/// Folders with a `meta.json` and an index, at any depth.
fn blocks(folder: &Path, out: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if folder.join("meta.json").exists() && folder.join("index").exists() {
        out.push(folder.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            blocks(&path, out)?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folders: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    if folders.is_empty() {
        println!("native_space FOLDER...: folders with blocks");
    }
    for folder in &folders {
        let (mut found, mut bytes) = (Vec::new(), Bytes::default());
        blocks(Path::new(folder), &mut found)?;
        for block in &found {
            bytes.add(block).await?;
        }
        bytes.print(folder);
    }
    Ok(())
}
