//! `verify` finds damage of each kind, names the object and what is wrong with it; and finds nothing in what our stores wrote.

use std::path::{Path, PathBuf};

use crate::bucket::{HOUR_MS, START_MS, TENANT, copy, files, tool, url, written};
use lgtm_core::codec::crc32c;
use lgtm_tool::Outcome;
use serde_json::Value;

/// A kind of damage: what it is called, how it is done, and what of it is told.
struct Damage {
    name: &'static str,
    inflict: fn(&Path),
    /// Part of the object's path.
    object: &'static str,
    fault: &'static str,
    /// Part of the detail.
    detail: &'static str,
}

fn d(
    name: &'static str,
    inflict: fn(&Path),
    object: &'static str,
    fault: &'static str,
    detail: &'static str,
) -> Damage {
    Damage {
        name,
        inflict,
        object,
        fault,
        detail,
    }
}

fn one(bucket: &Path, ends: &str) -> PathBuf {
    let found = files(bucket, |p| p.ends_with(ends));
    found.into_iter().next().expect(ends)
}

fn blocks(bucket: &Path) -> Vec<PathBuf> {
    let metas = files(&bucket.join("metricsblocks"), |p| p.ends_with("meta.json"));
    let folders = metas.iter().map(|m| m.parent().unwrap().to_owned());
    folders.collect()
}

fn trace_block(bucket: &Path) -> PathBuf {
    let meta = files(&bucket.join("traces"), |p| p.ends_with("/meta.json"));
    meta[0].parent().unwrap().to_owned()
}

fn log_chunks(bucket: &Path) -> Vec<PathBuf> {
    files(&bucket.join("logs"), |p| p.starts_with(TENANT))
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn flip(path: &Path, at: impl FnOnce(&[u8]) -> usize) {
    edit(path, |bytes| {
        let at = at(bytes);
        bytes[at] ^= 0x10;
    });
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    edit(path, |bytes| {
        let mut json: Value = serde_json::from_slice(bytes).unwrap();
        change(&mut json);
        *bytes = serde_json::to_vec(&json).unwrap();
    });
}

/// An offset of the table of contents of a metrics index.
fn toc(bytes: &[u8], n: usize) -> usize {
    let at = bytes.len() - 52 + 8 * n;
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

fn bucket_index(bucket: &Path, change: impl FnOnce(&mut Value)) {
    use std::io::{Read, Write};
    edit(&one(bucket, "bucket-index.json.gz"), |bytes| {
        let mut json = String::new();
        let mut unpacked = flate2::read::GzDecoder::new(&bytes[..]);
        unpacked.read_to_string(&mut json).unwrap();
        let mut json: Value = serde_json::from_str(&json).unwrap();
        change(&mut json);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(json.to_string().as_bytes()).unwrap();
        *bytes = packed.finish().unwrap();
    });
}

/// A list of a postings section with another reference in it, and a checksum that fits.
fn wrong_postings(bytes: &mut [u8]) {
    let start = toc(bytes, 4).next_multiple_of(4);
    let number =
        |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    // The first list is that of all series; the one behind it is of one label pair.
    let second = start + 8 + number(bytes, start) as usize;
    let len = number(bytes, second) as usize;
    let last = second + 4 + len - 4;
    let reference = number(bytes, last) + 1;
    bytes[last..last + 4].copy_from_slice(&reference.to_be_bytes());
    let crc = crc32c(&bytes[second + 4..second + 4 + len]);
    bytes[second + 4 + len..second + 8 + len].copy_from_slice(&crc.to_be_bytes());
}

fn metrics_damage() -> Vec<Damage> {
    vec![
        d(
            "a flipped byte in the symbols",
            |b| flip(&one(b, "/index"), |bytes| toc(bytes, 0) + 20),
            "/index",
            "damaged",
            "symbol table",
        ),
        d(
            "a flipped byte in a series",
            |b| {
                flip(&one(b, "/index"), |bytes| {
                    toc(bytes, 1).next_multiple_of(16) + 5
                })
            },
            "/index",
            "damaged",
            "index series",
        ),
        d(
            "a flipped byte in a postings list",
            |b| {
                flip(&one(b, "/index"), |bytes| {
                    toc(bytes, 4).next_multiple_of(4) + 11
                })
            },
            "/index",
            "damaged",
            "postings list",
        ),
        d(
            "a flipped byte in the postings offset table",
            |b| flip(&one(b, "/index"), |bytes| toc(bytes, 5) + 12),
            "/index",
            "damaged",
            "postings offset table",
        ),
        d(
            "a flipped byte in the table of contents",
            |b| flip(&one(b, "/index"), |bytes| bytes.len() - 30),
            "/index",
            "damaged",
            "TOC",
        ),
        d(
            "postings that name another series",
            |b| edit(&one(b, "/index"), |bytes| wrong_postings(bytes)),
            "/index",
            "wrong_lookup",
            "series",
        ),
        d(
            "a flipped byte in a chunk",
            |b| flip(&one(b, "/chunks/000001"), |_| 40),
            "/chunks/000001",
            "damaged",
            "checksum",
        ),
        d(
            "a segment that is cut off",
            |b| {
                edit(&one(b, "/chunks/000001"), |bytes| {
                    bytes.truncate(bytes.len() / 2)
                })
            },
            "/chunks/000001",
            "wrong_size",
            "meta.json says",
        ),
        d(
            "the chunks of another block",
            |b| {
                let [one, other] = &blocks(b)[..] else {
                    panic!("two blocks")
                };
                let name = "chunks/000001";
                std::fs::copy(one.join(name), other.join(name)).unwrap();
            },
            "/chunks/000001",
            "wrong_time_range",
            "the index says",
        ),
        d(
            "a block without its index",
            |b| std::fs::remove_file(one(b, "/index")).unwrap(),
            "/index",
            "missing",
            "meta.json names it",
        ),
    ]
}

fn more_metrics_damage() -> Vec<Damage> {
    vec![
        d(
            "wrong counts in a meta",
            |b| {
                edit_json(&blocks(b)[0].join("meta.json"), |meta| {
                    meta["stats"]["numSamples"] = 8001.into();
                });
            },
            "/meta.json",
            "wrong_count",
            "8000 samples, 8001 are told",
        ),
        d(
            "a time range that is too narrow",
            |b| {
                edit_json(&blocks(b)[0].join("meta.json"), |meta| {
                    meta["maxTime"] = (START_MS + HOUR_MS / 2).into();
                });
            },
            "/index",
            "wrong_time_range",
            "meta.json says",
        ),
        d(
            "the meta of another block",
            |b| {
                let [one, other] = &blocks(b)[..] else {
                    panic!("two blocks")
                };
                std::fs::copy(one.join("meta.json"), other.join("meta.json")).unwrap();
            },
            "/meta.json",
            "wrong_place",
            "it is the meta of block",
        ),
        d(
            "a tombstone of no series",
            |b| {
                let mut tombstones = lgtm_tsdb::block::Tombstones::default();
                let interval = lgtm_tsdb::block::DeletedInterval {
                    min_ms: START_MS.into(),
                    max_ms: (START_MS + 1).into(),
                };
                tombstones.insert(7, interval);
                let block = &blocks(b)[0];
                let bytes = tombstones.encode();
                edit_json(&block.join("meta.json"), |meta| {
                    let files = meta["thanos"]["files"].as_array_mut().unwrap();
                    files.retain(|f| f["rel_path"] != "tombstones");
                    files.push(
                        serde_json::json!({"rel_path": "tombstones", "size_bytes": bytes.len()}),
                    );
                });
                std::fs::write(block.join("tombstones"), bytes).unwrap();
            },
            "/tombstones",
            "dangling",
            "series 7 is not in the index",
        ),
        d(
            "a bucket index that names a block which is gone",
            |b| {
                bucket_index(b, |index| {
                    let mut entry = index["blocks"][0].clone();
                    entry["block_id"] = "01M81S4YBRY2BH6YTEZ7ZJKQ3G".into();
                    index["blocks"].as_array_mut().unwrap().push(entry);
                });
            },
            "bucket-index.json.gz",
            "dangling",
            "01M81S4YBRY2BH6YTEZ7ZJKQ3G is listed and has no meta.json",
        ),
        d(
            "a bucket index with other times",
            |b| bucket_index(b, |index| index["blocks"][0]["max_time"] = 5.into()),
            "bucket-index.json.gz",
            "disagreement",
            "its meta.json says",
        ),
        d(
            "a deletion mark of another block",
            |b| {
                let mark = r#"{"id":"01M81S4YBRY2BH6YTEZ7ZJKQ3G","version":1,"deletion_time":5}"#;
                std::fs::write(blocks(b)[0].join("deletion-mark.json"), mark).unwrap();
            },
            "deletion-mark.json",
            "wrong_place",
            "it is of block 01M81S4YBRY2BH6YTEZ7ZJKQ3G",
        ),
    ]
}

fn logs_damage() -> Vec<Damage> {
    vec![
        d(
            "a flipped byte in a log chunk",
            |b| flip(&log_chunks(b)[0], |bytes| bytes.len() / 2),
            "shop/",
            "damaged",
            "checksum",
        ),
        d(
            "a log chunk that is cut off",
            |b| edit(&log_chunks(b)[0], |bytes| bytes.truncate(bytes.len() - 9)),
            "shop/",
            "damaged",
            "chunk",
        ),
        d(
            "a log chunk that is gone",
            |b| std::fs::remove_file(&log_chunks(b)[0]).unwrap(),
            "shop/",
            "missing",
            ".tsdb.gz names it",
        ),
        d(
            "two log chunks swapped",
            |b| {
                let chunks = log_chunks(b);
                let [one, other] = [&chunks[0], &chunks[2]].map(|c| std::fs::read(c).unwrap());
                std::fs::write(&chunks[0], other).unwrap();
                std::fs::write(&chunks[2], one).unwrap();
            },
            "shop/",
            "wrong_place",
            "its key says",
        ),
        d(
            "a flipped byte in a packed index file",
            |b| flip(&one(b, ".tsdb.gz"), |bytes| bytes.len() / 2),
            ".tsdb.gz",
            "damaged",
            "",
        ),
        d(
            "an index file in the table of another day",
            |b| {
                let file = one(b, ".tsdb.gz");
                let tables = file.parent().unwrap().parent().unwrap();
                let other = tables.join("index_19000");
                std::fs::create_dir_all(&other).unwrap();
                std::fs::rename(&file, other.join(file.file_name().unwrap())).unwrap();
            },
            "index_19000",
            "wrong_place",
            "in the table of day 19000",
        ),
        d(
            "an index file with wrong counts",
            |b| index_with(b, |chunk| chunk.entries += 1),
            "shop/",
            "wrong_count",
            "2000 entries",
        ),
        d(
            "a flipped byte in a section of a side object",
            |b| {
                let side = files(&b.join("logsskip"), |p| p.contains('/'));
                flip(&side[0], |_| 20);
            },
            "/",
            "damaged",
            "side object",
        ),
        d(
            "a side object whose end is cut off",
            |b| {
                let side = files(&b.join("logsskip"), |p| p.contains('/'));
                edit(&side[0], |bytes| bytes.truncate(bytes.len() - 3));
            },
            "/",
            "damaged",
            "side object",
        ),
    ]
}

/// Writes an index file anew, its chunks changed.
fn index_with(bucket: &Path, change: fn(&mut lgtm_logstore::index::ChunkMeta)) {
    use lgtm_core::codec::{Compressor, Decompressor};
    use lgtm_core::storage::MemoryFile;
    use lgtm_logstore::index::{
        IndexEncoder, IndexEncoderSettings, IndexReader, IndexReaderSettings, SeriesFilter, pack,
        unpack,
    };
    let path = one(bucket, ".tsdb.gz");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    edit(&path, |bytes| {
        let index = unpack(bytes, 1 << 24, &mut Decompressor::default()).unwrap();
        let file = std::sync::Arc::new(MemoryFile::new("index", index));
        let written = runtime.block_on(async {
            let reader = IndexReader::open(file, IndexReaderSettings::default())
                .await
                .unwrap();
            let all = reader.postings_all().await.unwrap();
            let series = reader
                .series_entries(&all, &SeriesFilter::ALL)
                .await
                .unwrap();
            let symbols = reader.symbol_table().await.unwrap();
            let settings = IndexEncoderSettings::default();
            let mut encoder = IndexEncoder::new(reader.version(), symbols, settings);
            for series in series.iter() {
                let mut chunks = series.chunks.to_vec();
                chunks.iter_mut().for_each(change);
                encoder
                    .add_series(series.fingerprint, series.labels, &chunks)
                    .unwrap();
            }
            encoder.finish_to_vec().unwrap().0
        });
        bytes.clear();
        pack(&written, &mut Compressor::default(), bytes).unwrap();
    });
}

fn traces_damage() -> Vec<Damage> {
    vec![
        d(
            "a flipped byte in a footer, which has no checksum",
            |b| {
                flip(&trace_block(b).join("data.parquet"), |bytes| {
                    let end = bytes.len() - 8;
                    let len = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
                    end - len as usize + 2
                });
            },
            "/meta.json",
            "wrong_count",
            "0 row groups, 1 are told",
        ),
        d(
            "a flipped byte in the length of a footer",
            |b| {
                flip(&trace_block(b).join("data.parquet"), |bytes| {
                    bytes.len() - 7
                })
            },
            "/data.parquet",
            "damaged",
            "",
        ),
        d(
            "a column that is overwritten",
            |b| {
                edit(&trace_block(b).join("data.parquet"), |bytes| {
                    bytes[4..40].fill(0xff)
                })
            },
            "/data.parquet",
            "damaged",
            "column",
        ),
        d(
            "data that are cut off",
            |b| {
                let data = trace_block(b).join("data.parquet");
                edit(&data, |bytes| bytes.truncate(bytes.len() - 10));
            },
            "/data.parquet",
            "wrong_size",
            "meta.json says",
        ),
        d(
            "data that are gone",
            |b| std::fs::remove_file(trace_block(b).join("data.parquet")).unwrap(),
            "/data.parquet",
            "missing",
            "meta.json speaks of it",
        ),
        d(
            "a bloom filter that is empty",
            |b| edit(&trace_block(b).join("bloom-0"), |bytes| bytes[24..].fill(0)),
            "/bloom-0",
            "wrong_lookup",
            "does not let trace",
        ),
        d(
            "a bloom filter that is gone",
            |b| std::fs::remove_file(trace_block(b).join("bloom-0")).unwrap(),
            "/bloom-0",
            "missing",
            "not found",
        ),
    ]
}

fn more_traces_damage() -> Vec<Damage> {
    vec![
        d(
            "a row group index of another block",
            |b| {
                edit_json(&trace_block(b).join("index"), |index| {
                    index["rowGroups"][0] = "/////////////////////w==".into();
                });
            },
            "/index",
            "wrong_lookup",
            "row group 0 ends with trace",
        ),
        d(
            "a trace meta with wrong counts",
            |b| {
                edit_json(&trace_block(b).join("meta.json"), |meta| {
                    meta["totalObjects"] = 999.into();
                });
            },
            "/meta.json",
            "wrong_count",
            "999 are told",
        ),
        d(
            "a trace meta with a range that is too narrow",
            |b| {
                edit_json(&trace_block(b).join("meta.json"), |meta| {
                    meta["endTime"] = "2023-11-14T22:00:05Z".into();
                });
            },
            "/meta.json",
            "wrong_time_range",
            "has spans from",
        ),
        d(
            "a trace meta of another tenant",
            |b| {
                edit_json(&trace_block(b).join("meta.json"), |meta| {
                    meta["tenantID"] = "other".into();
                });
            },
            "/meta.json",
            "wrong_place",
            "of tenant \"other\"",
        ),
        d(
            "a flipped byte in a side file of traces",
            |b| flip(&trace_block(b).join("lgtm-skip"), |bytes| bytes.len() / 2),
            "/lgtm-skip",
            "damaged",
            "checksum",
        ),
        d(
            "a tenant index with a flipped byte, which has no checksum",
            |b| flip(&one(b, "index.pb.zst"), |bytes| bytes.len() / 2),
            "index.pb.zst",
            "disagreement",
            "is listed with another meta",
        ),
        d(
            "a tenant index that names a block which is gone",
            |b| std::fs::remove_dir_all(trace_block(b)).unwrap(),
            "index.pb.zst",
            "dangling",
            "is listed and has no meta.json",
        ),
    ]
}

#[test]
fn each_kind_of_damage_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let pristine = written(folder.path());
    let (outcome, json, complaint) = tool(&["verify", &url(&pristine)]);
    assert_eq!(outcome, Outcome::Fine, "{json:#} {complaint:?}");
    let all: Vec<Damage> = [
        metrics_damage(),
        more_metrics_damage(),
        logs_damage(),
        traces_damage(),
        more_traces_damage(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(all.len() >= 20);
    let mut unfound = Vec::new();
    for (n, damage) in all.iter().enumerate() {
        let bucket = folder.path().join(format!("damaged-{n}"));
        copy(&pristine, &bucket);
        (damage.inflict)(&bucket);
        let (outcome, json, complaint) = tool(&["verify", &url(&bucket)]);
        let found = json["damage"].as_array().cloned().unwrap_or_default();
        let is_it = |f: &Value| {
            let text = |name: &str| f[name].as_str().unwrap_or_default();
            text("object").contains(damage.object)
                && text("fault").replace(' ', "_") == damage.fault
                && text("detail").contains(damage.detail)
        };
        if outcome != Outcome::Failed || !found.iter().any(is_it) {
            unfound.push(format!("{}: {complaint:?} {found:#?}", damage.name));
        }
        std::fs::remove_dir_all(bucket).unwrap();
    }
    assert!(unfound.is_empty(), "{}", unfound.join("\n\n"));
}

#[test]
fn what_is_under_way_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    // An upload that has not ended, a chunk that no index file names yet, a block that is not listed yet.
    let partial = bucket.join("metricsblocks/shop/01M81S4YBRY2BH6YTEZ7ZJKQ3G");
    std::fs::create_dir_all(&partial).unwrap();
    std::fs::write(partial.join("index"), "x").unwrap();
    std::fs::remove_file(one(&bucket, ".tsdb.gz")).unwrap();
    let (outcome, json, _) = tool(&["verify", &url(&bucket)]);
    assert_eq!(outcome, Outcome::Fine, "{json:#}");
    let notices = json["notices"].as_array().unwrap();
    let has = |fault: &str| notices.iter().any(|n| n["fault"] == fault);
    assert!(has("leftover") && has("unlisted"), "{json:#}");
}

#[test]
fn one_object_is_checked_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = written(folder.path());
    let block = blocks(&bucket)[0].clone();
    flip(&block.join("chunks/000001"), |_| 40);
    let name = |path: &Path| {
        path.strip_prefix(&bucket)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let url = url(&bucket);
    let (outcome, json, _) = tool(&["verify", &url, &name(&block)]);
    assert_eq!(outcome, Outcome::Failed, "{json:#}");
    for good in [
        name(&blocks(&bucket)[1]),
        name(&trace_block(&bucket)),
        name(&log_chunks(&bucket)[0]),
        name(&one(&bucket, ".tsdb.gz")),
    ] {
        let (outcome, json, complaint) = tool(&["verify", &url, &good]);
        assert_eq!(outcome, Outcome::Fine, "{good}: {json:#} {complaint:?}");
    }
    let (outcome, _, complaint) = tool(&["verify", &url, "metricsblocks/shop/nothing"]);
    assert_eq!(outcome, Outcome::Usage);
    assert!(complaint.unwrap().contains("neither a block"));
}
