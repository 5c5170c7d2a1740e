//! Bloom filters that are Tempo's bit for bit.

use crate::shared::{folder, folders, json_lines, unhex};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lgtm_tracestore::bloom::{BloomBuilder, BloomOptions, BloomShape, BloomShard, shard_of};
use lgtm_tracestore::trace::TraceId;
use serde_json::Value;

fn id(text: &Value) -> TraceId {
    TraceId::from_hex(text.as_str().unwrap()).unwrap()
}

fn vectors(kind: &str) -> Vec<Value> {
    let Some(golden) = folder("golden/tempo") else {
        return Vec::new();
    };
    let mut all = json_lines(&golden.join("vectors/bloom.jsonl"));
    all.retain(|v| v["kind"] == kind);
    assert!(!all.is_empty(), "no vectors of kind {kind}");
    all
}

#[test]
fn ids_belong_to_the_shards_that_tempo_gives_them() {
    for vector in vectors("shard") {
        for (shards, expected) in vector["shard"].as_object().unwrap() {
            let shards = shards.parse().unwrap();
            assert_eq!(
                *expected,
                shard_of(id(&vector["traceID"]), shards),
                "{vector}"
            );
        }
    }
}

/// The bits that an id sets in a filter that is as good as unbounded, from the locations that the vector names.
#[test]
fn ids_set_the_bits_that_tempo_sets() {
    for vector in vectors("shard") {
        let id = id(&vector["traceID"]);
        for size in [8u32, 102_400] {
            let shape = BloomShape {
                shards: 1,
                bits: u64::from(size) * 8,
                hashes: 7,
            };
            let mut filter = BloomBuilder::new(shape);
            filter.insert(id);
            let mut file = Vec::new();
            filter.encode_shard(0, &mut file);
            let mut expected = vec![0u64; shape.bits as usize / 64];
            for location in vector["locations_k7"].as_array().unwrap() {
                let location: u64 = location.as_str().unwrap().parse().unwrap();
                let bit = location % shape.bits;
                expected[bit as usize / 64] |= 1 << (bit % 64);
            }
            let words: Vec<u8> = expected.iter().flat_map(|w| w.to_be_bytes()).collect();
            assert!(file[24..] == words, "{vector}");
        }
    }
}

#[test]
fn filters_have_the_size_that_tempo_gives_them() {
    for vector in vectors("estimate") {
        let options = BloomOptions {
            false_positive_rate: vector["fp"].as_f64().unwrap(),
            ..BloomOptions::default()
        };
        let shape = BloomShape::for_traces(vector["n"].as_u64().unwrap(), options);
        assert_eq!(vector["k"], shape.hashes, "{vector}");
        assert_eq!(vector["shards_at_default_size"], shape.shards, "{vector}");
    }
}

/// A shard's file as the vector spells it: in base64, or what of it is not zero.
fn file_of(text: &str, len: usize) -> Vec<u8> {
    let Some(sparse) = text.strip_prefix("header=") else {
        return STANDARD.decode(text).unwrap();
    };
    let (header, words) = sparse.split_once(";nonzero=").unwrap();
    let mut file = unhex(header);
    file.resize(len, 0);
    for word in words.split(',').filter(|w| !w.is_empty()) {
        let (at, word) = word.split_once(':').unwrap();
        let at: usize = at.parse().unwrap();
        file[at..at + 8].copy_from_slice(&unhex(word));
    }
    file
}

#[test]
fn files_of_filters_are_tempos_byte_for_byte() {
    for vector in vectors("bloom") {
        let options = BloomOptions {
            false_positive_rate: vector["fp"].as_f64().unwrap(),
            shard_size_bytes: vector["shard_size_bytes"].as_u64().unwrap() as u32,
        };
        let traces = vector["estimated_objects"].as_u64().unwrap();
        let mut filters = BloomBuilder::new(BloomShape::for_traces(traces, options));
        let ids: Vec<_> = vector["ids"].as_array().unwrap().iter().map(id).collect();
        ids.iter().for_each(|id| filters.insert(*id));
        let files = vector["shard_files"].as_array().unwrap();
        assert_eq!(filters.shape().shards as usize, files.len());
        for (n, expected) in files.iter().enumerate() {
            let len = vector["bytes_per_shard"].as_u64().unwrap() as usize;
            let mut file = Vec::new();
            filters.encode_shard(n as u32, &mut file);
            assert!(
                file == file_of(expected.as_str().unwrap(), len),
                "shard {n}"
            );
            let shard = BloomShard::open(&file).unwrap();
            let of_shard = ids
                .iter()
                .filter(|id| shard_of(**id, files.len() as u32) == n as u32);
            assert!(of_shard.copied().all(|id| shard.may_contain(id)));
        }
    }
}

#[test]
fn filters_of_golden_blocks_know_their_traces_and_are_made_again() {
    let Some(golden) = folder("golden/tempo") else {
        return;
    };
    for bucket in folders(&golden)
        .iter()
        .filter(|f| f.join("gshared").is_dir())
    {
        for block in folders(&bucket.join("gshared")) {
            let meta = ["meta.json", "meta.compacted.json"].map(|f| block.join(f));
            let meta = meta.iter().find(|f| f.is_file()).unwrap();
            let meta: Value = serde_json::from_slice(&std::fs::read(meta).unwrap()).unwrap();
            let shards = meta["bloomShards"].as_u64().unwrap() as u32;
            let files: Vec<_> = (0..shards)
                .map(|n| std::fs::read(block.join(format!("bloom-{n}"))).unwrap())
                .collect();
            // The last trace of each row group is known without reading Parquet.
            let index: Value =
                serde_json::from_slice(&std::fs::read(block.join("index")).unwrap()).unwrap();
            for last in index["rowGroups"].as_array().unwrap() {
                let bytes = STANDARD.decode(last.as_str().unwrap()).unwrap();
                let id = TraceId::from_short(&bytes).unwrap();
                let file = &files[shard_of(id, shards) as usize];
                assert!(BloomShard::open(file).unwrap().may_contain(id));
            }
            let absent = (0..1000u128).filter(|n| {
                let id = TraceId::new((n + (1 << 77)).to_be_bytes());
                let file = &files[shard_of(id, shards) as usize];
                BloomShard::open(file).unwrap().may_contain(id)
            });
            assert!(absent.count() < 300);
        }
    }
}
