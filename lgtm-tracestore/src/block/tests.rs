use lgtm_core::codec::DecodeFail;
use lgtm_core::model::TimestampNs;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::block_id::BlockId;
use crate::trace::{ColumnKind, ColumnScope, DedicatedColumn, DedicatedColumns, TraceId};

const META_JSON: &str = r#"{"format":"vParquet4","blockID":"175a6b4d-fa41-44e1-8f6f-6bcd1c923c1c","tenantID":"a<b","startTime":"2025-06-27T04:53:20Z","endTime":"2025-06-27T04:53:25Z","totalObjects":19,"size":168733,"compactionLevel":0,"indexPageSize":0,"totalRecords":5,"bloomShards":2,"footerSize":83499}"#;

#[test]
fn unknown_members_are_ignored_and_missing_ones_have_defaults() {
    let with = META_JSON.replace(
        "\"size\"",
        "\"minID\":\"AAA=\",\"encoding\":\"none\",\"x\":{\"y\":[]},\"size\"",
    );
    let meta = BlockMeta::decode(with.as_bytes()).unwrap();
    assert_eq!((meta.trace_count, meta.replication_factor), (19, 0));
    assert!(meta.dedicated_columns.is_empty());
    // Go escapes what HTML would take for its own.
    let written = String::from_utf8(meta.encode().unwrap()).unwrap();
    assert_eq!(written, META_JSON.replace('<', "\\u003c"));
    let few = r#"{"format":"v2","blockID":"175a6b4d-fa41-44e1-8f6f-6bcd1c923c1c","tenantID":"a","startTime":"0001-01-01T00:00:00Z","endTime":"2025-06-27T04:53:20.5+02:00","dedicatedColumns":null}"#;
    let meta = BlockMeta::decode(few.as_bytes()).unwrap();
    assert_eq!(meta.start, TimestampNs::MIN);
    assert_eq!(meta.end.get() % 1_000_000_000, 500_000_000);
}

#[test]
fn what_is_wrong_with_a_meta_is_named() {
    for (from, to, why) in [
        ("\"tenantID\":\"a<b\",", "", "tenantID"),
        ("\"a<b\"", "\"\"", "tenantID is empty"),
        ("vParquet4", "", "format is empty"),
        ("175a6b4d", "175A6B4D", "is not a block ID"),
        ("04:53:25", "04:53:15", "startTime lies behind endTime"),
        (
            "2025-06-27T04:53:25Z",
            "yesterday",
            "\"yesterday\" is not an RFC 3339 time",
        ),
        (
            "\"footerSize\":83499",
            "\"footerSize\":168734",
            "footerSize 168734 is above size 168733",
        ),
        ("168733", "-1", "-1"),
        ("83499}", "83499", "EOF"),
    ] {
        let bad = META_JSON.replace(from, to);
        assert_ne!(bad, META_JSON);
        let e = BlockMeta::decode(bad.as_bytes()).unwrap_err();
        assert!(e.to_string().contains(why), "{bad}: {e}");
    }
}

#[test]
fn ranges_of_blocks_hold_their_spans() {
    const SECOND: i64 = 1_000_000_000;
    for (start, end, whole) in [
        (1, 2, (0, 1)),
        (5 * SECOND, 7 * SECOND, (5, 7)),
        (5 * SECOND - 1, 7 * SECOND + 1, (4, 8)),
        (-1, -1, (-1, 0)),
    ] {
        let (from, to) = block_range(TimestampNs::new(start), TimestampNs::new(end));
        assert_eq!((from.get(), to.get()), (whole.0 * SECOND, whole.1 * SECOND));
    }
    let (from, to) = block_range(TimestampNs::MIN, TimestampNs::MAX);
    assert!(from < to);
    let mut meta = BlockMeta::decode(META_JSON.as_bytes()).unwrap();
    (meta.start, meta.end) = (TimestampNs::new(10), TimestampNs::new(20));
    let overlaps = |from, to| meta.overlaps(TimestampNs::new(from), TimestampNs::new(to));
    assert!(overlaps(20, 30) && overlaps(0, 10) && !overlaps(21, 30) && !overlaps(0, 9));
}

#[test]
fn only_metas_make_blocks() {
    let id = "175a6b4d-fa41-44e1-8f6f-6bcd1c923c1c";
    let kind = |path: &str| block_of_meta(&path.replace("ID", id)).map(|(_, kind)| kind);
    assert_eq!(kind("ID/meta.json"), Some(MetaKind::Live));
    assert_eq!(kind("ID/meta.compacted.json"), Some(MetaKind::Compacted));
    for path in [
        "ID/index",
        "ID",
        "ID/x/meta.json",
        "/meta.json",
        "index.pb.zst",
        "work.json",
    ] {
        assert_eq!(kind(path), None, "{path}");
    }
    assert_eq!(bloom_name(12), "bloom-12");
}

#[test]
fn an_index_names_the_row_group_that_may_have_an_id() {
    let id = |n: u8| TraceId::new([n; 16]);
    let index = RowGroupIndex::new(vec![id(3), id(5)]);
    let found: Vec<_> = (2..7).map(|n| index.find(id(n))).collect();
    assert_eq!(found, [Some(0), Some(0), Some(1), Some(1), None]);
    let bytes = index.encode().unwrap();
    assert_eq!(RowGroupIndex::decode(&bytes).unwrap(), index);
    let none = RowGroupIndex::decode(br#"{"rowGroups":null}"#).unwrap();
    assert_eq!(none.find(id(0)), None);
    for (bad, why) in [
        (r#"{"rowGroups":["AA=="]}"#, "\"AA==\" is not a trace ID"),
        (r#"{"rowGroups":["?"]}"#, "is not a trace ID"),
        (r#"{"rows":[]}"#, "rowGroups"),
        (
            r#"{"rowGroups":["BQUFBQUFBQUFBQUFBQUFBQ==","BQUFBQUFBQUFBQUFBQUFBQ=="]}"#,
            "out of order",
        ),
    ] {
        let e = RowGroupIndex::decode(bad.as_bytes()).unwrap_err();
        assert!(e.to_string().contains(why), "{bad}: {e}");
    }
}

fn meta() -> impl Strategy<Value = BlockMeta> {
    let texts = ("[a-z]{1,9}", "\\PC{1,8}", vec("\\PC{1,5}", 0..4));
    (texts, any::<[u8; 16]>(), vec(any::<u32>(), 8), any::<u64>()).prop_map(
        |((format, tenant_id, names), id, numbers, size)| {
            let mut columns: Vec<DedicatedColumn> = Vec::new();
            for name in names {
                if columns.iter().all(|c| c.name != name) {
                    columns.push(DedicatedColumn {
                        scope: ColumnScope::Event,
                        name,
                        kind: ColumnKind::Int,
                        options: Vec::new(),
                    });
                }
            }
            BlockMeta {
                format,
                block_id: BlockId::random(id),
                tenant_id,
                start: TimestampNs::new(i64::from(numbers[0]) * 1_000_000_007),
                end: TimestampNs::new(i64::from(numbers[0]) * 1_000_000_007 + 5),
                trace_count: size / 3,
                size_bytes: size.max(u64::from(numbers[5])),
                compaction_level: numbers[1],
                index_page_size: numbers[2],
                row_group_count: numbers[3],
                bloom_shards: numbers[4],
                footer_size_bytes: numbers[5],
                dedicated_columns: DedicatedColumns::new(columns),
                replication_factor: numbers[6],
            }
        },
    )
}

proptest! {
    #[test]
    fn lists_of_blocks_read_as_they_were_written(
        meta in vec(meta(), 0..4),
        compacted in vec((meta(), any::<i64>()), 0..3),
        created in any::<i64>(),
        noise in vec(any::<u8>(), 0..80),
    ) {
        for meta in &meta {
            prop_assert_eq!(&BlockMeta::decode(&meta.encode().unwrap()).unwrap(), meta);
        }
        let index = TenantIndex {
            created: TimestampNs::new(created),
            meta,
            compacted: compacted
                .into_iter()
                .map(|(meta, t)| CompactedBlockMeta { meta, compacted: TimestampNs::new(t / 4) })
                .collect(),
        };
        let json = index.encode_json_gzip().unwrap();
        let protobuf = index.encode_protobuf_zstd().unwrap();
        let years = created.unsigned_abs() < i64::MAX as u64 / 2;
        if years {
            prop_assert_eq!(&TenantIndex::decode_json_gzip(&json, 1 << 20).unwrap(), &index);
        }
        prop_assert_eq!(&TenantIndex::decode_protobuf_zstd(&protobuf, 1 << 20).unwrap(), &index);
        let mut plain = Vec::new();
        index.encode_protobuf(&mut plain).unwrap();
        for end in 0..plain.len() {
            let _ = TenantIndex::decode_protobuf(&plain[..end]);
        }
        let _ = TenantIndex::decode_protobuf(&noise);
        let _ = RowGroupIndex::decode(&noise);
        let _ = BlockMeta::decode(&noise);
        prop_assert!(TenantIndex::decode_protobuf_zstd(&noise, 100).is_err());
        if !index.meta.is_empty() {
            let refused = TenantIndex::decode_json_gzip(&json, 100);
            prop_assert!(matches!(refused, Err(DecodeFail::Refused(_))));
        }
    }
}
