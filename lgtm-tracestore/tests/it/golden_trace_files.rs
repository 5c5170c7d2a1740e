//! Parquet files of real blocks: read as the real answers say, and written again as they were.
//!
//! The golden folder is `$LGTM_SHARED/golden/tempo`. Without it the tests are skipped, but not in CI.

use crate::shared;

use std::collections::BTreeSet;
use std::sync::Arc;

use lgtm_tracestore::schema::{
    BlockFile, BlockVersion, BlockWriter, BlockWriterSettings, ColumnValues, FetchedRanges, Layout,
    LeafCodec, LeafEncoding, LeafKind, LookupStep, TraceLookup, decode_column_index,
};
use lgtm_tracestore::trace::{SharedIds, Trace, TraceForm, TraceId};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value as Json;

use crate::blocks::{allowed, column, golden, open, read_all};

#[test]
fn leaf_columns_are_those_of_the_real_files_in_their_order() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    for block in golden(&root).iter().filter(|b| b.is_live) {
        let facts = shared::json_lines(&root.join(format!("parquet/{}.columns.jsonl", block.name)));
        let layout = Layout::new(block.version, block.dedicated.as_slice());
        assert_eq!(layout.leaves.len(), facts.len() - 1, "{}", block.name);
        for (leaf, fact) in layout.leaves.iter().zip(&facts[1..]) {
            let (physical, logical) = match leaf.kind {
                LeafKind::Bytes => ("BYTE_ARRAY", "None"),
                LeafKind::Text => ("BYTE_ARRAY", "String"),
                LeafKind::U64 => ("INT64", "Int(bitWidth=64, isSigned=false)"),
                LeafKind::I64 => ("INT64", "Int(bitWidth=64, isSigned=true)"),
                LeafKind::U32 => ("INT32", "Int(bitWidth=32, isSigned=false)"),
                LeafKind::I32 => ("INT32", "Int(bitWidth=32, isSigned=true)"),
                LeafKind::Double => ("DOUBLE", "None"),
                LeafKind::Bool => ("BOOLEAN", "None"),
            };
            let codec = match leaf.codec {
                LeafCodec::None => "UNCOMPRESSED",
                LeafCodec::Snappy => "SNAPPY",
                LeafCodec::Zstd => "ZSTD",
            };
            let encoding = match leaf.encoding {
                LeafEncoding::Plain => "PLAIN",
                LeafEncoding::Delta => "DELTA_BINARY_PACKED",
                LeafEncoding::DeltaLength => "DELTA_LENGTH_BYTE_ARRAY",
                LeafEncoding::Dictionary => "RLE_DICTIONARY",
            };
            let found = (
                leaf.path.as_str(),
                physical,
                logical,
                Json::from(leaf.max_def),
                Json::from(leaf.max_rep),
                codec,
            );
            let wanted = (
                fact["path"].as_str().unwrap(),
                fact["physical"].as_str().unwrap(),
                fact["logical"].as_str().unwrap(),
                fact["max_def"].clone(),
                fact["max_rep"].clone(),
                fact["codec"].as_str().unwrap(),
            );
            assert_eq!(found, wanted, "{}", block.name);
            let encodings = fact["encodings"].as_array().unwrap();
            assert!(
                encodings.contains(&encoding.into()),
                "{}: {fact}",
                block.name
            );
            let has_dictionary = leaf.encoding == LeafEncoding::Dictionary;
            assert_eq!(fact["dictionary_page"], has_dictionary, "{}", leaf.path);
        }
    }
}

/// Attributes in order of their keys, since their order has no meaning; flags, which blocks after version 3 do not keep, left out.
fn normal(json: &Json) -> Json {
    match json {
        Json::Object(fields) => {
            let one = |(key, value): (&String, &Json)| {
                let mut value = normal(value);
                if let (true, Json::Array(entries)) = (key == "attributes", &mut value) {
                    entries.sort_by_key(ToString::to_string);
                }
                (key.clone(), value)
            };
            let kept = fields.iter().filter(|(key, _)| *key != "flags");
            Json::Object(kept.map(one).collect())
        }
        Json::Array(entries) => Json::Array(entries.iter().map(normal).collect()),
        other => other.clone(),
    }
}

#[test]
fn every_trace_of_a_real_block_is_what_the_real_server_answers() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    for block in golden(&root).iter().filter(|b| b.is_live) {
        let expected = shared::json_lines(&root.join(format!("expected/{}.jsonl", block.name)));
        let traces = read_all(&block.bytes, block.version, &block.dedicated);
        assert_eq!(traces.len(), expected.len(), "{}", block.name);
        assert_eq!(
            traces.len() as u64,
            block.meta["totalObjects"].as_u64().unwrap()
        );
        for ((id, bytes), expected) in traces.iter().zip(&expected) {
            assert_eq!(id.to_string(), expected["traceID"].as_str().unwrap());
            let trace = allowed(0, |a| Trace::decode(bytes, a)).unwrap();
            let new_ids = SharedIds::find(&trace);
            let shown = new_ids.apply(trace);
            let found = shown.to_json(TraceForm::ResourceSpans);
            let found = normal(&serde_json::from_str(&found).unwrap());
            assert_eq!(
                found,
                normal(&expected["trace"]),
                "{}: trace {id}",
                block.name
            );
        }
    }
}

/// What is written of the traces of a block is compared with the block, entry by entry of every column: levels, values, nested sets and all.
#[test]
fn real_blocks_written_again_have_the_same_columns_and_footers() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    let mut compared = 0;
    for block in golden(&root) {
        if block.version == BlockVersion::V3 {
            continue;
        }
        let traces = read_all(&block.bytes, block.version, &block.dedicated);
        let golden_file = open(&block.bytes);
        let settings = BlockWriterSettings {
            version: block.version,
            dedicated: block.dedicated.clone(),
            ..BlockWriterSettings::default()
        };
        let mut writer = BlockWriter::new(Vec::new(), settings).unwrap();
        let mut rest = traces.as_slice();
        for group in &golden_file.row_groups {
            let (now, later) = rest.split_at(group.rows as usize);
            for (id, trace) in now {
                let trace = allowed(0, |a| Trace::decode(trace, a)).unwrap();
                writer.append(*id, &trace).unwrap();
            }
            writer.end_row_group().unwrap();
            rest = later;
        }
        let (bytes, written) = writer.finish().unwrap();
        assert_eq!(written.size_bytes, bytes.len() as u64);
        assert_eq!(written.traces, traces.len() as u64);
        let ours = open(&bytes);
        let rows = |file: &lgtm_tracestore::schema::BlockFile| {
            file.row_groups.iter().map(|g| g.rows).collect::<Vec<_>>()
        };
        assert_eq!(rows(&ours), rows(&golden_file), "{}", block.name);
        assert_eq!(ours.leaves, golden_file.leaves, "{}", block.name);
        for group in 0..ours.row_groups.len() {
            for (n, leaf) in ours.leaves.iter().enumerate() {
                let a = column(&ours, &bytes, group, n);
                let b = column(&golden_file, &block.bytes, group, n);
                let what = format!("{} row group {group}: {}", block.name, leaf.path);
                assert_eq!((&a.rep, &a.def), (&b.rep, &b.def), "{what}");
                assert_eq!(a.values.len(), b.values.len(), "{what}");
                compare_page_bounds(
                    &what,
                    [(&ours, &bytes), (&golden_file, &block.bytes)],
                    group,
                    n,
                );
                if leaf.path.starts_with("ServiceStats.key_value") {
                    // A map, whose order is any.
                    let sorted = |values: &ColumnValues| {
                        let one = |n| (values.text(n).to_vec(), values.int(n));
                        let mut all: Vec<_> = (0..values.len()).map(one).collect();
                        all.sort();
                        all
                    };
                    assert_eq!(sorted(&a.values), sorted(&b.values), "{what}");
                    continue;
                }
                if leaf.path.ends_with("ChildCount") {
                    // Real ones hold what was left in memory where a trace has no root.
                    continue;
                }
                match (&a.values, &b.values) {
                    (ColumnValues::Texts(_) | ColumnValues::Indices { .. }, _) => {
                        for i in 0..a.values.len() {
                            assert_eq!(a.values.text(i), b.values.text(i), "{what}");
                        }
                    }
                    (a, b) => assert_eq!(a, b, "{what}"),
                }
                compared += a.values.len();
            }
        }
        if block.is_live {
            let facts =
                shared::json_lines(&root.join(format!("parquet/{}.columns.jsonl", block.name)));
            compare_footers(&block.name, &bytes, &facts);
        }
    }
    assert!(compared > 10_000, "{compared} values were compared");
}

/// What the indexes of two files say of the pages of a chunk, which is one page in both.
fn compare_page_bounds(what: &str, files: [(&BlockFile, &Vec<u8>); 2], group: usize, leaf: usize) {
    let [ours, golden] = files.map(|(file, bytes)| {
        let range = file
            .chunk(group, leaf)
            .unwrap()
            .1
            .column_index
            .clone()
            .unwrap();
        let index = &bytes[range.start as usize..range.end as usize];
        allowed(0, |a| decode_column_index(index, a)).unwrap()
    });
    assert_eq!((ours.len(), golden.len()), (1, 1), "{what}");
    if what.ends_with("ChildCount") {
        return;
    }
    let (ours, golden) = (&ours[0], &golden[0]);
    assert_eq!(
        (ours.is_null, ours.nulls),
        (golden.is_null, golden.nulls),
        "{what}"
    );
    if ours.is_null {
        // What stands there then means nothing.
        return;
    }
    assert_eq!((&ours.min, &ours.max), (&golden.min, &golden.max), "{what}");
}

/// Our footer, as the `parquet` crate reads it, against what pyarrow read of the real one.
fn compare_footers(name: &str, bytes: &[u8], facts: &[Json]) {
    let file = SerializedFileReader::new(bytes::Bytes::from(bytes.to_vec())).unwrap();
    let metadata = file.metadata();
    let head = &facts[0];
    assert_eq!(
        metadata.file_metadata().version(),
        2,
        "format 2.6 as pyarrow names it"
    );
    assert_eq!(head["num_rows"], metadata.file_metadata().num_rows());
    assert_eq!(head["num_row_groups"], metadata.num_row_groups());
    assert!(
        metadata
            .file_metadata()
            .key_value_metadata()
            .is_none_or(Vec::is_empty)
    );
    let created_by = metadata.file_metadata().created_by().unwrap();
    assert!(
        created_by.starts_with("lgtm-tracestore version "),
        "{created_by}"
    );
    let group = metadata.row_group(0);
    assert!(group.sorting_columns().is_none());
    for (n, fact) in facts[1..].iter().enumerate() {
        let chunk = group.column(n);
        let descr = chunk.column_descr();
        let what = format!("{name}: {}", chunk.column_path().string());
        assert_eq!(fact["path"], chunk.column_path().string(), "{what}");
        let converted = descr.converted_type().to_string();
        assert_eq!(fact["converted"], converted, "{what}");
        assert_eq!(fact["values"], chunk.num_values(), "{what}");
        let encodings: BTreeSet<_> = chunk.encodings().map(|e| e.to_string()).collect();
        let wanted: BTreeSet<_> = fact["encodings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(encodings, wanted, "{what}");
        assert_eq!(
            fact["dictionary_page"],
            chunk.dictionary_page_offset().is_some(),
            "{what}"
        );
        let statistics = chunk.statistics().unwrap();
        assert_eq!(
            fact["nulls"],
            statistics.null_count_opt().unwrap(),
            "{what}"
        );
        assert_eq!(
            fact["min_max"],
            statistics.min_bytes_opt().is_some(),
            "{what}"
        );
        assert_eq!(
            fact["column_index"],
            chunk.column_index_offset().is_some(),
            "{what}"
        );
        assert_eq!(
            fact["offset_index"],
            chunk.offset_index_offset().is_some(),
            "{what}"
        );
    }
}

#[test]
fn a_trace_is_found_by_its_id_and_no_other_is() {
    let Some(root) = shared::folder("golden/tempo") else {
        return;
    };
    for block in golden(&root) {
        let file = open(&block.bytes);
        let traces = read_all(&block.bytes, block.version, &block.dedicated);
        let find = |id: TraceId| {
            let mut lookup = TraceLookup::new(
                Arc::new(file.clone()),
                block.version,
                block.dedicated.clone(),
                id,
                None,
            );
            let mut fetched = FetchedRanges::default();
            allowed(0, |a| {
                loop {
                    match lookup.step(&fetched, a).unwrap() {
                        LookupStep::Read(ranges) => {
                            for range in ranges {
                                let bytes = &block.bytes[range.start as usize..range.end as usize];
                                fetched.insert(range.start, bytes.to_vec().into());
                            }
                        }
                        LookupStep::Found(trace) => return Some(trace),
                        LookupStep::Absent => return None,
                    }
                }
            })
        };
        for (id, trace) in &traces {
            assert_eq!(find(*id).as_ref(), Some(trace), "{}: {id}", block.name);
            let mut other = *id.as_bytes();
            other[15] ^= 0x55;
            let other = TraceId::new(other);
            let is_there = traces.iter().any(|(id, _)| *id == other);
            assert_eq!(find(other).is_some(), is_there, "{}: {other}", block.name);
        }
    }
}
