//! `meta.json`: what a block is (docs/format/block.md).
//!
//! Members that this version does not know are kept at every level, so that rewriting a file loses nothing.

use std::collections::BTreeMap;

use lgtm_core::go::json::{self, is_default, null_as_default};
use lgtm_core::model::TimestampMs;
use lgtm_core::{DecodeError, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::block_id::BlockId;

const VERSION: u32 = 1;

/// The content of `meta.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// The block's id, also the name of its folder.
    pub ulid: BlockId,
    /// Start of the block's time range, milliseconds, inclusive.
    #[serde(rename = "minTime")]
    pub min_ms: TimestampMs,
    /// End of the block's time range, milliseconds, exclusive.
    #[serde(rename = "maxTime")]
    pub max_ms: TimestampMs,
    /// Counts.
    #[serde(default)]
    pub stats: BlockStats,
    /// Where the data came from.
    pub compaction: Compaction,
    /// Version of this file: 1.
    pub version: u32,
    /// The section of Thanos, Cortex and Mimir; blocks that never saw a bucket lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<ThanosMeta>,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Counts of a block.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// Samples of all kinds.
    #[serde(skip_serializing_if = "is_default")]
    pub num_samples: u64,
    /// Float samples (absent before Prometheus 3).
    #[serde(skip_serializing_if = "is_default")]
    pub num_float_samples: u64,
    /// Histogram samples (absent before Prometheus 3).
    #[serde(skip_serializing_if = "is_default")]
    pub num_histogram_samples: u64,
    /// Series.
    #[serde(skip_serializing_if = "is_default")]
    pub num_series: u64,
    /// Chunks.
    #[serde(skip_serializing_if = "is_default")]
    pub num_chunks: u64,
    /// Intervals in the tombstones file.
    #[serde(skip_serializing_if = "is_default")]
    pub num_tombstones: u64,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Where a block's data came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Compaction {
    /// 1 for blocks cut from a head, else one more than the highest input.
    pub level: u32,
    /// The level-1 blocks whose data this holds, ascending. Must be true: readers collect garbage by it.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "null_as_default"
    )]
    pub sources: Vec<BlockId>,
    /// The blocks that were compacted into this one.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "null_as_default"
    )]
    pub parents: Vec<BlockParent>,
    /// The block came out empty of a compaction and is to be deleted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deletable: bool,
    /// A compaction of this block failed; planners skip it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failed: bool,
    /// Sorted remarks, such as [`Compaction::FROM_OUT_OF_ORDER`].
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "null_as_default"
    )]
    pub hints: Vec<String>,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Compaction {
    /// The hint of blocks that hold only samples that came out of order.
    pub const FROM_OUT_OF_ORDER: &str = "from-out-of-order";
}

/// One input of a compaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockParent {
    /// The input's id.
    pub ulid: BlockId,
    /// Its start, milliseconds, inclusive.
    #[serde(rename = "minTime")]
    pub min_ms: TimestampMs,
    /// Its end, milliseconds, exclusive.
    #[serde(rename = "maxTime")]
    pub max_ms: TimestampMs,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// The `thanos` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThanosMeta {
    /// Version of the section; a missing one and 0 mean 1.
    #[serde(default)]
    pub version: u32,
    /// External labels: `__org_id__` (Cortex), `__compactor_shard_id__` (Mimir), cluster and replica (Thanos).
    #[serde(default, deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// The resolution; 0 here, as downsampled blocks are Thanos' own.
    #[serde(default)]
    pub downsample: Downsample,
    /// What wrote the block: `receive`, `compactor`, ...
    #[serde(default)]
    pub source: String,
    /// Names inside `chunks/`, sorted. Deprecated, still written by everybody.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "null_as_default"
    )]
    pub segment_files: Vec<String>,
    /// The block's files, sorted by path.
    #[serde(
        default,
        skip_serializing_if = "is_default",
        deserialize_with = "null_as_default"
    )]
    pub files: Vec<BlockFile>,
    /// Thanos' record of rewrites, kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrites: Option<Value>,
    /// Sizes by which readers choose their ranges.
    #[serde(default, skip_serializing_if = "is_default")]
    pub index_stats: IndexSizeStats,
    /// Free form, kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
    /// RFC 3339; newer Thanos only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_time: Option<String>,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl ThanosMeta {
    /// Name of the external label by which Mimir tells the shard of a split block.
    pub const SHARD_LABEL: &str = "__compactor_shard_id__";

    /// A section for raw data with these external labels, written by `source`.
    pub fn new(source: impl Into<String>, labels: BTreeMap<String, String>) -> Self {
        Self {
            version: VERSION,
            labels,
            downsample: Downsample::default(),
            source: source.into(),
            segment_files: Vec::new(),
            files: Vec::new(),
            rewrites: None,
            index_stats: IndexSizeStats::default(),
            extensions: None,
            upload_time: None,
            unknown: Map::new(),
        }
    }
}

/// Thanos' downsampling.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Downsample {
    /// Milliseconds between samples; 0 is raw.
    #[serde(rename = "resolution")]
    pub resolution_ms: i64,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// One file of a block.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BlockFile {
    /// Path inside the block's folder.
    pub rel_path: String,
    /// Its size; `meta.json` itself has none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub size_bytes: u64,
    /// Thanos' checksum, kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Value>,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// Largest items of a block, by which readers choose their ranges.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct IndexSizeStats {
    /// The largest series entry, bytes; absent when unknown.
    #[serde(
        default,
        rename = "series_max_size",
        skip_serializing_if = "Option::is_none"
    )]
    pub series_max_size_bytes: Option<i64>,
    /// The largest chunk, bytes; absent when unknown.
    #[serde(
        default,
        rename = "chunk_max_size",
        skip_serializing_if = "Option::is_none"
    )]
    pub chunk_max_size_bytes: Option<i64>,
    /// Members not known here.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl BlockMeta {
    /// Reads a `meta.json` and checks its versions and its time range.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "meta.json";
        let mut meta: Self = json::decode(WHAT, bytes)?;
        let fail = |reason: String| Err(DecodeError::new(WHAT, 0, reason));
        if meta.version != VERSION {
            return fail(format!("version {} instead of {VERSION}", meta.version));
        }
        if let Some(thanos) = &mut meta.thanos {
            if thanos.version > VERSION {
                return fail(format!(
                    "thanos version {} instead of {VERSION}",
                    thanos.version
                ));
            }
            thanos.version = VERSION;
        }
        if meta.min_ms > meta.max_ms {
            return fail(format!("time range {}..{}", meta.min_ms, meta.max_ms));
        }
        Ok(meta)
    }

    /// The file as Prometheus writes it, or with a `thanos` section as Thanos, Cortex and Mimir do (newline at the end).
    ///
    /// # Errors
    /// `Internal` only.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut out = json::encode_indented(self)?;
        if self.thanos.is_some() {
            out.push(b'\n');
        }
        Ok(out)
    }

    /// `i_of_n` of a block with the series of one shard; empty for one with all.
    pub fn shard_id(&self) -> &str {
        let thanos = self.thanos.as_ref();
        let shard = thanos.and_then(|t| t.labels.get(ThanosMeta::SHARD_LABEL));
        shard.map_or("", String::as_str)
    }

    /// Whether the block holds only samples that came out of order.
    pub fn is_out_of_order(&self) -> bool {
        let mut hints = self.compaction.hints.iter();
        hints.any(|hint| hint == Compaction::FROM_OUT_OF_ORDER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "{\n\t\"ulid\": \"01M81S4Y6ZPBG8SMD4M76ZB4W4\",\n\t\"minTime\": 0,\n\t\"maxTime\": 5,\n\t\"stats\": {},\n\t\"compaction\": {\n\t\t\"level\": 1\n\t},\n\t\"version\": 1\n}";

    #[test]
    fn what_go_escapes_is_escaped() {
        let mut meta = BlockMeta::decode(PLAIN.as_bytes()).unwrap();
        assert_eq!(meta.encode().unwrap(), PLAIN.as_bytes());
        let labels = BTreeMap::from([("a".to_owned(), "<&>\u{2028}\u{2029}\"é".to_owned())]);
        meta.thanos = Some(ThanosMeta::new("test", labels));
        let text = String::from_utf8(meta.encode().unwrap()).unwrap();
        assert!(
            text.contains(r#""\u003c\u0026\u003e\u2028\u2029\"é""#),
            "{text}"
        );
        assert!(text.ends_with("}\n"));
        assert_eq!(BlockMeta::decode(text.as_bytes()).unwrap(), meta);
    }

    #[test]
    fn unknown_members_stay_at_every_level() {
        let text = r#"{"ulid":"01M81S4Y6ZPBG8SMD4M76ZB4W4","minTime":0,"maxTime":5,"stats":{"s":1},"compaction":{"level":1,
            "sources":null,"parents":[{"ulid":"00000000000000000000000000","minTime":0,"maxTime":0,"p":[1]}],"c":{"x":null}},
            "version":1,"top":18446744073709551615,"thanos":{"labels":null,"t":true,"downsample":{"resolution":0,"d":1.5},
            "source":"x","files":[{"rel_path":"index","f":"g"}],"index_stats":{"i":2},"rewrites":[{"sources":null}],
            "extensions":{"e":1}}}"#;
        let meta = BlockMeta::decode(text.as_bytes()).unwrap();
        assert_eq!(meta.thanos.as_ref().unwrap().version, 1);
        let out = String::from_utf8(json::encode_compact(&meta).unwrap()).unwrap();
        for kept in [
            r#""stats":{"s":1}"#,
            r#""p":[1]"#,
            r#""c":{"x":null}"#,
            r#""top":18446744073709551615"#,
            r#""t":true"#,
            r#""d":1.5"#,
            r#""f":"g""#,
            r#""i":2"#,
            r#""rewrites":[{"sources":null}]"#,
            r#""extensions":{"e":1}"#,
        ] {
            assert!(out.contains(kept), "{kept} in {out}");
        }
    }

    #[test]
    fn foreign_versions_and_impossible_ranges_are_refused() {
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("\"maxTime\": 5", "\"maxTime\": -5"),
            (
                "\"version\": 1",
                "\"version\": 1, \"thanos\": {\"version\": 2}",
            ),
        ] {
            assert!(BlockMeta::decode(PLAIN.replace(from, to).as_bytes()).is_err());
        }
    }

    #[test]
    fn an_error_tells_the_byte() {
        let error = BlockMeta::decode(&PLAIN.as_bytes()[..60]).unwrap_err();
        assert!((50..=61).contains(&error.offset), "{error}");
    }
}
