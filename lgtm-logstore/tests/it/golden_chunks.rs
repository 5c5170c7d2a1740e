//! Chunks and chunk objects made by the real Loki: theirs must read as the same entries, ours must be the same bytes where no compression is
//! involved.

use crate::shared;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lgtm_core::codec::{Compressor, Decompressor};
use lgtm_core::model::{Labels, TimestampNs};
use lgtm_logstore::chunk::{
    Appended, Chunk, ChunkBuilder, ChunkCodec, ChunkEncoding, ChunkFormat, ChunkHeader, ChunkKey,
    ChunkSettings, ChunkTrailer, FinishedChunk, KeyForm, ObjectHead, ObjectMeta, decode_symbols,
    encode_object, read_object,
};
use serde_json::Value;

type Pairs = Vec<(String, String)>;
type Entry = (i64, Vec<u8>, Pairs);

fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

/// The entries of a chunk vector, in the order in which they were appended, metadata sorted by name.
fn entries(v: &Value) -> Vec<Entry> {
    let entry = |e: &Value| {
        let pairs = e["sm"].as_array().into_iter().flatten();
        let pair = |p: &Value| (text(&p[0]).to_owned(), text(&p[1]).to_owned());
        let mut pairs: Pairs = pairs.map(pair).collect();
        pairs.sort();
        let line = text(&e["line"]).as_bytes().to_vec();
        (e["ts"].as_i64().unwrap(), line, pairs)
    };
    v.as_array().unwrap().iter().map(entry).collect()
}

fn read_all(chunk: &Chunk) -> Vec<Entry> {
    let read = chunk.read(|_| true, &mut ChunkCodec::default()).unwrap();
    assert_eq!(read.damaged, []);
    let owned = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
    let entries = read.blocks.iter().flat_map(|b| b.iter());
    entries
        .map(|e| {
            let metadata = e.metadata().map(owned).collect();
            (e.t_ns.get(), e.line.to_vec(), metadata)
        })
        .collect()
}

/// The blocks as the golden files tell them: entries, first time, last time, and the offset when the bytes are ours to choose.
fn check_blocks(chunk: &Chunk, blocks: &Value, with_offsets: bool, name: &str) {
    let blocks = blocks.as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(chunk.blocks().len(), blocks.len(), "{name}");
    for (ours, theirs) in chunk.blocks().iter().zip(blocks) {
        assert_eq!(Some(ours.entry_count), theirs["entries"].as_u64(), "{name}");
        assert_eq!(ours.min_ns.to_string(), text(&theirs["mint"]), "{name}");
        assert_eq!(ours.max_ns.to_string(), text(&theirs["maxt"]), "{name}");
        if with_offsets {
            assert_eq!(Some(ours.start), theirs["offset"].as_u64(), "{name}");
        }
    }
}

fn build(v: &Value, encoding: ChunkEncoding) -> FinishedChunk {
    let number = |field: &str| usize::try_from(v[field].as_u64().unwrap()).unwrap();
    let settings = ChunkSettings {
        encoding,
        block_size_bytes: number("block_size"),
        target_size_bytes: number("target_size"),
        ..ChunkSettings::default()
    };
    let format = ChunkFormat::new(v["format"].as_u64().unwrap() as u8).unwrap();
    let (mut compressor, mut codec) = (Compressor::default(), ChunkCodec::default());
    let mut chunk = ChunkBuilder::new(format, Arc::new(settings));
    let mut duplicates = Vec::new();
    for (n, entry) in v["entries"].as_array().unwrap().iter().enumerate() {
        let pairs = entry["sm"].as_array().into_iter().flatten();
        let pairs: Vec<_> = pairs.map(|p| (text(&p[0]), text(&p[1]))).collect();
        let (t_ns, line) = (entry["ts"].as_i64().unwrap(), text(&entry["line"]));
        assert!(chunk.has_room_for(line.as_bytes(), &pairs));
        match chunk.append(t_ns, line.as_bytes(), &pairs).unwrap() {
            Appended::Stored => {}
            Appended::Duplicate => duplicates.push(Value::from(n)),
        }
        if chunk.is_block_full() {
            chunk.cut(&mut compressor).unwrap();
        }
    }
    let theirs = v["duplicate_append_indexes"].as_array();
    assert_eq!(duplicates, theirs.cloned().unwrap_or_default());
    chunk.finish(&mut compressor, &mut codec).unwrap()
}

fn check_object(v: &Value, chunk: &FinishedChunk, is_exact: bool) {
    let name = text(&v["name"]);
    let Some(object) = v["object_hex"].as_str().map(shared::unhex) else {
        return;
    };
    let labels = v["labels"].as_object().unwrap();
    let labels = Labels::from_pairs(labels.iter().map(|(n, v)| (n, text(v)))).unwrap();
    let fingerprint = labels.stable_hash();
    let tenant = text(&v["tenant"]);
    let meta = ObjectMeta::new(tenant, fingerprint, labels, chunk.min_ns, chunk.max_ns);
    assert_eq!(meta.to_json(), text(&v["metadata_json"]), "{name}");
    let theirs = Bytes::from(object);
    let (read, _) = read_object(&theirs, &mut Decompressor::default()).unwrap();
    assert_eq!(read, meta, "{name}");
    for (form, field) in [
        (KeyForm::StreamFolders, "object_key_v12plus"),
        (KeyForm::Flat, "object_key_before_v12"),
    ] {
        let key: ChunkKey = text(&v[field]).parse().unwrap();
        key.check_object(&theirs).unwrap();
        read.check(&key).unwrap();
        assert_eq!(key.object_name(form), text(&v[field]), "{name}");
        assert_eq!(meta.key(key.checksum), key, "{name}");
    }
    let (ours, checksum) = encode_object(&meta, &chunk.bytes, &mut Compressor::default()).unwrap();
    if is_exact {
        assert_eq!(ours, theirs, "{name}");
    }
    meta.key(checksum).check_object(&ours).unwrap();
    let (again, chunk) = read_object(&ours.into(), &mut Decompressor::default()).unwrap();
    assert_eq!(again, meta, "{name}");
    assert!(!chunk.blocks().is_empty());
}

#[test]
fn chunk_vectors_are_read_and_written() {
    let Some(folder) = shared::folder("golden/loki/vectors") else {
        return;
    };
    let mut exact = 0;
    for v in shared::json_lines(&folder.join("chunks.jsonl")) {
        let name = text(&v["name"]);
        let theirs = shared::unhex(text(&v["chunk_hex"]));
        let chunk = Chunk::open(theirs.clone().into()).unwrap();
        let encoding: ChunkEncoding = text(&v["codec"]).parse().unwrap();
        let header = chunk.layout().header;
        assert_eq!(header.encoding, encoding, "{name}");
        assert_eq!(
            Some(u64::from(header.format.version())),
            v["format"].as_u64()
        );
        check_blocks(&chunk, &v["blocks"], true, name);

        let mut wanted = entries(&v["entries"]);
        let dropped = v["duplicate_append_indexes"].as_array();
        let mut dropped: Vec<_> = dropped.into_iter().flatten().collect();
        while let Some(n) = dropped.pop() {
            wanted.remove(n.as_u64().unwrap() as usize);
        }
        wanted.sort_by_key(|e| e.0);
        if !header.format.has_metadata() {
            wanted.iter_mut().for_each(|e| e.2.clear());
        }
        // Loki's head takes no notice of empty lines that come first; ours does (docs/format/chunk.md).
        let first_ns = chunk.blocks().first().map(|b| b.min_ns);
        let is_whole = first_ns == Some(TimestampNs::new(wanted[0].0));
        match first_ns {
            Some(_) => assert_eq!(read_all(&chunk), wanted, "{name}"),
            None => assert!(wanted.iter().all(|e| e.1.is_empty()), "{name}"),
        }

        let ours = build(&v, encoding);
        if v.get("uncompressed_size").is_some() {
            assert_eq!(
                Some(ours.uncompressed_bytes),
                v["uncompressed_size"].as_u64()
            );
        }
        let again = Chunk::open(ours.bytes.clone().into()).unwrap();
        let is_plain = encoding == ChunkEncoding::None;
        if is_plain && is_whole {
            assert_eq!(ours.bytes, theirs, "{name}");
            exact += 1;
        } else if is_plain && first_ns.is_some() {
            let table = again.layout().trailer.table.start as usize;
            assert_eq!(ours.bytes[..table], theirs[..table], "{name}");
        }
        if is_whole {
            check_blocks(&again, &v["blocks"], is_plain, name);
            check_object(&v, &ours, is_plain);
        }
        assert_eq!(again.blocks()[0].min_ns, wanted[0].0, "{name}");
        assert_eq!(read_all(&again), wanted, "{name}");
        // The same entries in every encoding.
        for encoding in ChunkEncoding::ALL {
            let ours = build(&v, encoding);
            let again = Chunk::open(ours.bytes.into()).unwrap();
            assert_eq!(read_all(&again), wanted, "{name} as {encoding}");
        }
    }
    assert!(exact > 0);
}

/// Symbols come of the beginning and the end of an object alone.
fn check_ranged_symbols(object: &Bytes, chunk: &Chunk) {
    let mut codec = ChunkCodec::default();
    let start = ObjectHead::chunk_start(&object[..4]).unwrap() as usize;
    let header = ChunkHeader::decode(&object[start..start + ChunkHeader::MAX_LEN]).unwrap();
    let tail = &object[object.len() - ChunkTrailer::MAX_LEN..];
    let len = (object.len() - start) as u64;
    let trailer = ChunkTrailer::decode(header.format, tail, len).unwrap();
    assert_eq!(trailer, chunk.layout().trailer);
    if let Some(symbols) = trailer.symbols {
        let section = start + symbols.start as usize..start + symbols.end as usize + 4;
        let symbols = decode_symbols(
            header.encoding,
            &object[section],
            1 << 20,
            &mut codec.decompressor,
        );
        assert_eq!(symbols.unwrap(), *chunk.symbols(&mut codec).unwrap());
    }
}

type Streams = BTreeMap<(String, String), Vec<Entry>>;

/// What can be read back from a set, by tenant and stream.
fn expected(folder: &Path, rule: &str) -> Streams {
    let (file, without) = match rule.split_once(" without the stream whose label ") {
        Some((file, label)) => (file, Some(label)),
        None => (rule, None),
    };
    let mut out = Streams::new();
    for e in shared::json_lines(&folder.join(file)) {
        let stream = e["stream"].as_object().unwrap();
        let is_left_out = without.is_some_and(|label| {
            let mut pairs = stream.iter();
            pairs.any(|(n, v)| label == format!("{n} is {v}"))
        });
        if is_left_out {
            continue;
        }
        let labels = Labels::from_pairs(stream.iter().map(|(n, v)| (n, text(v)))).unwrap();
        let metadata = e["structured_metadata"].as_object().into_iter().flatten();
        let metadata = metadata.map(|(n, v)| (n.clone(), text(v).to_owned()));
        let entry = (
            text(&e["ts"]).parse().unwrap(),
            text(&e["line"]).as_bytes().to_vec(),
            metadata.collect(),
        );
        let key = (text(&e["tenant"]).to_owned(), labels.to_string());
        out.entry(key).or_default().push(entry);
    }
    out
}

#[test]
fn all_objects_of_all_buckets_are_read() {
    let Some(folder) = shared::folder("golden/loki") else {
        return;
    };
    let rules = std::fs::read(folder.join("buckets/expected.json")).unwrap();
    let rules: Value = serde_json::from_slice(&rules).unwrap();
    for set in shared::folders(&folder.join("buckets")) {
        let name = set.file_name().unwrap().to_str().unwrap();
        let form = if name.ends_with("v11") {
            KeyForm::Flat
        } else {
            KeyForm::StreamFolders
        };
        let mut streams: BTreeMap<_, BTreeMap<_, Vec<Entry>>> = BTreeMap::new();
        for v in shared::json_lines(&set.join("chunks.jsonl")) {
            let file = text(&v["file"]);
            let object = Bytes::from(std::fs::read(set.join("bucket").join(file)).unwrap());
            let key: ChunkKey = text(&v["key"]).parse().unwrap();
            assert_eq!(key.file_name(form), file, "{name}");
            assert_eq!(ChunkKey::from_file_name(file).unwrap(), key, "{name}");
            key.check_object(&object).unwrap();
            let (meta, chunk) = read_object(&object, &mut Decompressor::default()).unwrap();
            meta.check(&key).unwrap();
            assert_eq!(meta.to_json(), text(&v["metadata_json"]), "{name} {file}");
            assert_eq!(meta.fingerprint, meta.labels.stable_hash());
            let header = chunk.layout().header;
            assert_eq!(
                Some(u64::from(header.format.version())),
                v["format"].as_u64()
            );
            assert_eq!(
                Some(u64::from(header.encoding.byte())),
                v["encoding_byte"].as_u64()
            );
            check_blocks(&chunk, &v["blocks"], true, name);
            check_ranged_symbols(&object, &chunk);
            let symbols = chunk.symbols(&mut ChunkCodec::default()).unwrap();
            let blocks = chunk.blocks().iter().map(|b| b.uncompressed_bytes);
            let uncompressed = blocks.sum::<u64>() + symbols.text_bytes() as u64;
            assert_eq!(Some(uncompressed), v["uncompressed_size"].as_u64());
            let stream = (meta.tenant.clone(), meta.labels.to_string());
            let mut entries = read_all(&chunk);
            entries.iter_mut().for_each(|e| e.2.sort());
            let chunks = streams.entry(stream).or_default();
            chunks.insert((key.from_ms, key.checksum), entries);
        }
        let got: Streams = streams
            .into_iter()
            .map(|(stream, chunks)| {
                let mut entries: Vec<Entry> = chunks.into_values().flatten().collect();
                entries.sort_by_key(|e| e.0);
                (stream, entries)
            })
            .collect();
        let wanted = expected(&folder, text(&rules[name]));
        assert_eq!(
            got.keys().collect::<Vec<_>>(),
            wanted.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (stream, entries) in &wanted {
            assert_eq!(&got[stream], entries, "{name} {stream:?}");
        }
    }
}

#[test]
fn label_vectors_have_their_fingerprints() {
    let Some(folder) = shared::folder("golden/loki/vectors") else {
        return;
    };
    for v in shared::json_lines(&folder.join("labels.jsonl")) {
        let labels = v["labels"].as_object().unwrap();
        // `__name__` is not part of a stream.
        let labels = labels.iter().filter(|(name, _)| *name != "__name__");
        let labels = Labels::from_pairs(labels.map(|(n, v)| (n, text(v)))).unwrap();
        let hash = labels.stable_hash().to_string();
        assert_eq!(hash, text(&v["fingerprint_dec"]), "{labels}");
    }
}
